"""The Redis store where others write too, die, are paused, or where the server fails; against a real server."""

from __future__ import annotations

import logging
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from redis_server import RedisServer, redis_running
from small_logs import read_online

pytest.importorskip("redis", reason="the package redis is not installed: pip install '.[redis]'")

from features.definitions.builtin import catalogue, required_aggregates
from features.errors import StoreError
from features.online.events import IncomingEvent
from features.online.items import StoredItem
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from features.stores.base import Transaction
from features.stores.open import open_store
from features.stores.redis_client import Command, RedisClient, address_of
from features.stores.redis_store import RedisStore

NUMBER = Struct("<q")
KEYS = [b"i%d" % number for number in range(50)]


@pytest.fixture
def place(redis_server: RedisServer) -> str:
    return redis_server.place()


def add(store: RedisStore, amount: int = 1) -> None:
    """Add to every one of the keys; whoever sees them differ has seen half a change."""
    store.update(lambda change: added(change, amount))


def added(change: Transaction, amount: int) -> None:
    old = [NUMBER.unpack(value or bytes(8))[0] for value in change.get_many(KEYS)]
    change.put_many((key, NUMBER.pack(value + amount)) for key, value in zip(KEYS, old, strict=True))


def answer(place: str, *command: object) -> Any:
    """The server's answer to one command."""
    client = RedisClient(address_of(place))
    try:
        return client.try_calls([command])[0]
    finally:
        client.close()


def server_key(place: str, part: str) -> str:
    """One of the server's keys of a store, as `features.stores.redis_scripts` lists them."""
    return f"{{{address_of(place).prefix}}}:{part}"


def total(store: RedisStore) -> int:
    with store.read() as snapshot:
        values = set(snapshot.get_many(KEYS))
    assert len(values) == 1
    return int(NUMBER.unpack(values.pop() or bytes(8))[0])


WRITER = """
import sys, time
from test_redis_store import KEYS, add, added
from features.stores.redis_store import RedisStore
what, place, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = RedisStore(place, lock_ttl=1.0)
def dawdle(change):
    added(change, 1000)
    print("half done", flush=True)
    time.sleep(times)
def move(change):
    # the keys lie in i or, changed, in h, never in both
    here = change.get_many(KEYS)[0] is not None
    change.delete_many(KEYS if here else [b"h" + key[1:] for key in KEYS])
    change.put_many((b"h" + key[1:] if here else key, b"x") for key in KEYS)
if what == "dawdle":
    store.update(dawdle)
    print("done", flush=True)
for number in range(times if what in ("add", "move") else 0):
    add(store) if what == "add" else store.update(move)
    print(number, flush=True)
"""


def writer(what: str, place: str, times: int) -> subprocess.Popen[str]:
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{WRITER}"
    return subprocess.Popen([sys.executable, "-c", code, what, place, str(times)], stdout=subprocess.PIPE, text=True)


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return iter(process.stdout)


def test_two_processes_that_write_at_once_lose_nothing(place: str) -> None:
    processes = [writer("add", place, 150) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    with closing(RedisStore(place)) as store:
        assert total(store) == 300


def test_a_reader_beside_writers_never_sees_half_a_change(place: str) -> None:
    with closing(RedisStore(place)) as store:
        store.update(lambda change: change.put_many((key, b"x") for key in KEYS))
        with writer("move", place, 400) as process:
            seen = 0
            while process.poll() is None:
                with store.read() as snapshot:
                    first = [value is not None for key in KEYS for value in snapshot.get_many([key])]
                    second = [value is not None for value in snapshot.get_many([b"h" + key[1:] for key in KEYS])]
                    ranges = [len(list(snapshot.scan(kind, kind + b"\xff"))) for kind in (b"h", b"i")]
                assert (first, second) in (([True] * 50, [False] * 50), ([False] * 50, [True] * 50))
                assert ranges == [50 * second[0], 50 * first[0]]
                seen += 1
        assert process.returncode == 0
        assert seen > 5


def test_the_first_read_of_a_snapshot_decides_its_version_even_while_another_writes(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(RedisStore(place)) as store, closing(RedisStore(place)) as other:
        call = RedisClient.call

        def call_slowly(client: RedisClient, *commands: tuple[object, ...]) -> list[object]:
            answers = []
            for command in commands:
                answers += call(client, command)
                monkeypatch.setattr(RedisClient, "call", call)
                add(other)
                monkeypatch.setattr(RedisClient, "call", call_slowly)
            return answers

        monkeypatch.setattr(RedisClient, "call", call_slowly)
        with store.read() as snapshot:
            values = [snapshot.get_many([key])[0] for key in KEYS[:5]]
        assert len(set(values)) == 1


def test_a_writer_that_is_killed_leaves_nothing_half_done_and_delays_others_until_its_lock_expires(
    place: str,
) -> None:
    with closing(RedisStore(place)) as store:
        add(store)
        with writer("dawdle", place, 600) as process:
            assert next(lines_of(process)) == "half done\n"
            assert total(store) == 1
            process.kill()
        assert answer(place, "PTTL", server_key(place, "lock")) <= 1000  # the lock of the dead writer, milliseconds
        add(store)
        assert total(store) == 2


def test_a_paused_writer_whose_lock_expired_cannot_write_what_it_made_of_an_old_state(place: str) -> None:
    with closing(RedisStore(place)) as store:
        add(store)
        with writer("dawdle", place, 1) as process:
            assert next(lines_of(process)) == "half done\n"
            process.send_signal(signal.SIGSTOP)
            add(store)
            assert total(store) == 2
            process.send_signal(signal.SIGCONT)
            assert list(lines_of(process)) == ["half done\n", "done\n"]  # made again, from the state as it then was
        assert total(store) == 1002


def lock_for_another(place: str, *, milliseconds: int) -> None:
    """Give the lock to another writer, who writes nothing."""
    answer(place, "SET", server_key(place, "lock"), "another", "PX", milliseconds)


def test_a_lost_lock_is_enough_to_be_refused(place: str) -> None:
    with closing(RedisStore(place, lock_ttl=0.05)) as store:
        runs = []

        def slow(change: Transaction) -> None:
            runs.append(1)
            added(change, 1)
            if len(runs) == 1:
                time.sleep(0.2)
                lock_for_another(place, milliseconds=200)

        store.update(slow)
        assert (len(runs), total(store)) == (2, 1)


def test_a_long_change_keeps_its_lock_as_long_as_it_reads(place: str) -> None:
    with closing(RedisStore(place, lock_ttl=0.3)) as store, closing(RedisStore(place)) as other:
        runs = []

        def slow(change: Transaction) -> None:
            runs.append(1)
            for _ in range(10):
                change.get_many(KEYS)
                time.sleep(0.1)
            added(change, 1)

        thread = threading.Timer(0.1, add, (other,))
        thread.start()
        store.update(slow)
        thread.join()
        assert (len(runs), total(store)) == (1, 2)


def test_writers_give_up_when_the_lock_is_never_free(place: str) -> None:
    with closing(RedisStore(place, lock_timeout=0.2)) as store:
        lock_for_another(place, milliseconds=10_000)
        with pytest.raises(StoreError, match=r"expected a turn to write within 0\.2 s, got none"):
            add(store)


def test_a_writer_who_waits_comes_before_one_who_has_just_written(place: str) -> None:
    with closing(RedisStore(place)) as busy, closing(RedisStore(place)) as other:
        written = threading.Event()

        def once() -> None:
            add(other)
            written.set()

        thread = threading.Thread(target=once)
        turns = 0

        def slow(change: Transaction) -> None:
            added(change, 1)
            if not turns:
                thread.start()
            time.sleep(0.1)

        while not written.is_set() and turns < 20:
            busy.update(slow)
            turns += 1
        thread.join()
        assert turns <= 3


def test_a_snapshot_that_outlives_what_is_kept_of_the_past_is_an_error_and_nothing_piles_up(place: str) -> None:
    with closing(RedisStore(place, snapshot_ttl=0.1)) as store:
        add(store)
        with store.read() as snapshot:
            before = snapshot.get_many(KEYS[:1])
            add(store)
            assert snapshot.get_many(KEYS[:1]) == before
            time.sleep(0.3)
            with pytest.raises(StoreError, match="took too long; try again"):
                snapshot.get_many(KEYS[:1])
            with pytest.raises(StoreError, match="took too long; try again"):
                list(snapshot.scan(b"i", b"i\xff"))
        left = answer(place, "KEYS", server_key(place, "*"))
        assert sorted(left) == [server_key(place, part).encode() for part in ("index", "values", "version")]


def test_a_range_of_keys_that_have_no_order_is_refused(place: str) -> None:
    with closing(RedisStore(place)) as store, store.read() as snapshot:
        for start, end in ((b"c", b"c\xff"), (b"i", b"q"), (b"", b"")):
            with pytest.raises(ValueError, match="expected a range within keys that begin with one of"):
                list(snapshot.scan(start, end))


def test_two_prefixes_on_one_server_are_two_stores(redis_server: RedisServer) -> None:
    places = (redis_server.place(), redis_server.place(), redis_server.address + "/3?prefix=test-0")
    for amount, place in enumerate(places, start=1):
        with closing(RedisStore(place)) as store:
            add(store, amount)
    for amount, place in enumerate(places, start=1):
        with closing(RedisStore(place)) as store:
            assert total(store) == amount


@contextmanager
def cutting_proxy(port: int, answers: int) -> Iterator[int]:
    """A port that passes everything on to `port`, but hangs up in place of the first `answers` answers to a commit."""
    left = [answers]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=pass_on, args=(client,), daemon=True).start()

        def pass_on(client: socket.socket) -> None:
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                while asked := client.recv(1 << 20):
                    server.sendall(asked)
                    answer = server.recv(1 << 20)
                    if left[0] and b":past:" in asked and b":lock" in asked:
                        left[0] -= 1
                        return
                    client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def through(place: str, server: RedisServer, port: int) -> str:
    return place.replace(f":{server.port}", f":{port}")


def test_a_change_whose_answer_is_lost_is_made_once(redis_server: RedisServer, place: str) -> None:
    with (
        cutting_proxy(redis_server.port, 1) as port,
        closing(RedisStore(through(place, redis_server, port))) as store,
        closing(RedisStore(place)) as other,
    ):
        add(store)
        assert total(other) == 1
        add(other)
        add(store)
        assert total(other) == 3


def test_a_change_whose_answers_are_all_lost_says_that_it_may_be_there(redis_server: RedisServer, place: str) -> None:
    with (
        cutting_proxy(redis_server.port, 9) as port,
        closing(RedisStore(through(place, redis_server, port))) as store,
        closing(RedisStore(place)) as other,
    ):
        with pytest.raises(StoreError, match="kept whole or not at all: send it again, repeats count once"):
            add(store)
        assert total(other) in (0, 1)
        add(other)  # nobody has to wait until its lock expires


def test_a_server_that_stops_is_an_error_and_the_store_works_again_when_it_is_back(tmp_path: Path) -> None:
    with redis_running(tmp_path) as server, closing(RedisStore(server.place())) as store:
        add(store)
        server.stop(signal.SIGKILL)
        with pytest.raises(StoreError, match=r"expected a Redis server that answers, got: .*refused.*; start it, or"):
            total(store)
        with pytest.raises(StoreError, match="expected a Redis server that answers"):
            add(store)
        server.start()
        assert total(store) == 1
        add(store)
        assert total(store) == 2


def test_no_server_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StoreError, match=rf"online store 'redis://127\.0\.0\.1:{port}': expected a Redis server that"):
        RedisStore(f"redis://:secret@127.0.0.1:{port}")
    with pytest.raises(StoreError, match="expected a Redis server that answers"):
        RedisStore("unix:///nowhere/redis.sock")


def test_a_password_is_asked_for_and_never_shown(tmp_path: Path) -> None:
    with redis_running(tmp_path, "--requirepass", "open sesame") as server:
        host = server.address.removeprefix("redis://")
        with pytest.raises(StoreError, match="got one that wants one; put it into the URL"):
            RedisStore(f"redis://{host}")
        with pytest.raises(StoreError, match="expected the server's user and password, got others") as caught:
            RedisStore(f"redis://:wrong-one@{host}")
        assert "wrong-one" not in str(caught.value)
        with closing(RedisStore(f"redis://:open%20sesame@{host}")) as store:
            assert store.name == f"redis://{host}"
            add(store)


def test_a_server_out_of_memory_keeps_nothing_of_a_change_and_answers_reads(tmp_path: Path) -> None:
    with redis_running(tmp_path, "--maxmemory", "6mb") as server, closing(RedisStore(server.place())) as store:
        add(store)
        with pytest.raises(StoreError, match=r"got a server at its maxmemory; nothing of it was kept; raise"):
            for number in range(100):
                store.update(
                    lambda change, number=number: (  # type: ignore[misc]
                        added(change, 1),
                        change.put_many([(b"c%d" % number, bytes(200_000))]),
                    )
                )
        with store.read() as snapshot:
            large = snapshot.get_many([b"c%d" % number for number in range(100)])
        assert total(store) == 1 + sum(value is not None for value in large)


def test_a_replica_is_read_and_not_written(
    tmp_path: Path, redis_server: RedisServer, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(RedisStore(place)) as primary:
        add(primary)
    with redis_running(tmp_path, "--replicaof", f"127.0.0.1 {redis_server.port}") as server:
        deadline = time.monotonic() + 30
        while True:
            try:
                replica = RedisStore(server.address + "/0?" + place.partition("?")[2], create=False)
                break
            except StoreError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with closing(replica):
            assert total(replica) == 1
            with pytest.raises(StoreError, match="got a read-only replica; name the primary"):
                add(replica)
        assert "a read-only replica: it ranks, but takes no events" in caplog.text


def test_keys_of_another_program_are_an_error(place: str) -> None:
    with closing(RedisStore(place)) as store:
        answer(place, "SET", server_key(place, "values"), "mine")
        with pytest.raises(StoreError, match="got others of the same names; choose another"):
            total(store)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ((), ""),
        (("--appendonly", "no"), "appendonly no: acknowledged events may be lost .* since the server's last snapshot"),
        (
            ("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"),
            "maxmemory-policy allkeys-lru: .* set noeviction",
        ),
    ],
)
def test_a_server_that_may_lose_something_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: tuple[str, ...], warning: str
) -> None:
    with redis_running(tmp_path, *options) as server, closing(RedisStore(server.place())) as store:
        assert store.server.durable == ("appendonly no" not in warning)
    assert len(caplog.records) == (1 if warning else 0)
    if warning:
        assert caplog.records[0].levelno == logging.WARNING
        assert re.search(warning, caplog.records[0].getMessage())


def waits(place: str) -> int:
    """How often the server was asked to answer when all is on its disk."""
    return int(answer(place, "INFO", "commandstats").get("cmdstat_waitaof", {"calls": 0})["calls"])


def test_a_server_that_syncs_each_second_is_waited_for_where_it_can_be_and_told_of_where_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_running(tmp_path, "--appendfsync", "everysec") as server, closing(RedisStore(server.place())) as store:
        version = answer(server.address, "INFO")["redis_version"]
        assert store.server.durable == (tuple(map(int, str(version).split(".")[:2])) >= (7, 2))
        assert ("appendfsync everysec: acknowledged events may be lost" in caplog.text) != store.server.durable
        before = waits(server.address)
        add(store)
        add(store)
        assert waits(server.address) - before == (2 if store.server.durable else 0)
        server.stop(signal.SIGKILL)
        server.start()
        assert total(store) == 2 or not store.server.durable


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:secret@host?decode_responses=1", r"expected options \[.*'prefix'.*\], got \['decode_responses'\]"),
        ("redis://:secret@host?prefix=a{b", "expected a prefix of 1 to 64"),
        ("redis://:secret@host?prefix=", "expected a prefix of 1 to 64"),
        ("redis://:secret@host/zero", "expected a database number and a port"),
        ("redis://:secret@host:port", "expected a database number and a port"),
        ("redis://:secret@host/-1", "expected a database number of 0 or more"),
        ("redis://:secret@host?socket_timeout=long", "expected a usable URL"),
        ("http://:secret@host", "begins with redis://, rediss:// or unix://"),
    ],
)
def test_an_unusable_url_is_an_error_without_its_password(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        open_store(url, create=True)
    assert "secret" not in str(caught.value)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "features.stores.redis_store")
    monkeypatch.delitem(sys.modules, "features.stores.redis_client")
    with pytest.raises(StoreError, match=r"expected the package redis, found none; install it with `pip install"):
        open_store("redis://127.0.0.1", create=True)


def test_a_unix_socket_is_reached(tmp_path: Path) -> None:
    with TemporaryDirectory() as short:  # a socket's path has to fit in 107 bytes
        path = f"{short}/redis.sock"
        with redis_running(tmp_path, "--unixsocket", path), closing(RedisStore(f"unix://{path}?prefix=one")) as store:
            add(store)
            assert total(store) == 1


def test_a_server_is_reached_over_tls_and_its_certificate_is_checked(tmp_path: Path) -> None:
    port, options = with_tls(tmp_path)
    try:
        with redis_running(tmp_path, *options):
            address = f"rediss://localhost:{port}"
            with closing(RedisStore(f"{address}?ssl_ca_certs={tmp_path}/cert")) as store:
                add(store)
                assert total(store) == 1
            with pytest.raises(StoreError, match="certificate verify failed"):
                RedisStore(address)
    except AssertionError as error:
        if "TLS" not in str(error):
            raise
        pytest.skip("this redis-server was built without TLS")


def with_tls(folder: Path) -> tuple[int, list[str]]:
    """A port with TLS, its certificate in folder/cert, and the options that open it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject], check=True, capture_output=True
    )
    served = ["--tls-port", str(port), "--tls-cert-file", str(folder / "cert"), "--tls-key-file", str(folder / "key")]
    return port, [*served, "--tls-ca-cert-file", str(folder / "cert"), "--tls-auth-clients", "no"]


def test_every_read_is_one_round_trip(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(RedisStore(place)) as store:
        add(store)
        with store.read() as snapshot:
            list(snapshot.scan(b"i", b"i\xff"))  # the server is sent the script once
        calls = counted_calls(monkeypatch)
        with store.read() as snapshot:
            snapshot.get_many([b"c%d" % number for number in range(5000)])
            list(snapshot.scan(b"i", b"i\xff"))
            snapshot.get_many([])
        assert len(calls) == 2


def test_what_a_ranking_has_to_know_takes_four_round_trips_however_many_candidates(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"item {number}" for number in range(1000)]
    with closing(RedisStore(place)) as store:
        wanted = StoreSettings(
            reads=required_aggregates(catalogue(categories={"brand": ("a", "b")})), categories=("brand",)
        )
        state = OnlineState.open(store, wanted)
        state.add_items([StoredItem(item_id, "title", categories={"brand": ("a",)}) for item_id in ids])
        state.add_events([IncomingEvent("u0", item_id, number) for number, item_id in enumerate(ids)])
        calls = counted_calls(monkeypatch)
        read_online(state, "u0", None, ids, now=0)
        first = len(calls) - 1  # the server is sent a script once
        read_online(state, "u0", None, ids, now=0)
        assert first <= 5  # one for what waits since the last event
        assert len(calls) - first <= 4


def counted_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The round trips to servers from now on."""
    calls: list[int] = []
    send = RedisClient.try_calls

    def count(client: RedisClient, commands: Sequence[Command]) -> list[object]:
        calls.append(1)
        return send(client, commands)

    monkeypatch.setattr(RedisClient, "try_calls", count)
    return calls
