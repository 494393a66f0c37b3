"""API keys in a file and on a Redis server: made, listed, revoked, and noticed by a running server."""

from __future__ import annotations

import json
import logging
import signal
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from redis_server import RedisServer, redis_running

from features.errors import InputError, RecsysError
from features.stores.redis_client import RedisClient, address_of
from features.stores.redis_hash import RedisHash
from pipelines import cli
from recsys.serving.api_keys import KeyFile, KeySource, RedisKeys, create_key, open_keys, revoke_key
from recsys.serving.key_ring import KeyRing


@pytest.fixture(params=["file", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no key is yet, as `--keys` takes it."""
    if request.param == "file":
        return str(tmp_path / "secret" / "keys.json")
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.place()


@pytest.fixture
def source(place: str) -> Iterator[KeySource]:
    with open_keys(place) as opened:
        yield opened


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and last line on standard error of a command in this process."""
    code = cli.run(lambda: cli.cli(arguments, standalone_mode=False))
    said = capsys.readouterr()
    return code, said.out, [*said.err.strip().splitlines(), ""][-1 if code == 0 else -2]


def test_a_new_key_is_printed_once_and_only_its_hash_is_kept(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    code, out, _ = run(["keys", "add", "shop", "--scope", "write", "--keys", place, "--json", str(report)], capsys)
    key = out.strip()
    assert (code, len(key)) == (0, 43)  # 256 bits in base64
    assert json.loads(report.read_text()) == {"name": "shop", "scope": "write", "key": key}
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    code, out, _ = run(["keys", "list", "--keys", place, "--json", str(report)], capsys)
    (row,) = json.loads(report.read_text())["keys"]
    assert (row["name"], row["scope"], row["ends_with"]) == ("shop", "write", key[-4:])
    assert "shop" in out and key[-4:] in out
    assert key[:-4] not in out + report.read_text()
    with open_keys(place) as source:
        assert key[:-4] not in repr(source.read())
    code, out, _ = run(["keys", "revoke", "shop", "--keys", place], capsys)
    assert code == 0
    assert run(["keys", "list", "--keys", place], capsys)[1] == "no keys\n"


def test_names_are_usable_new_and_known(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "add", "a", "--scope", "read", "--keys", place], capsys)[0] == 0
    code, _, line = run(["keys", "add", "a", "--scope", "admin", "--keys", place], capsys)
    assert code == 1 and "'a' is there already" in line and "recsys keys revoke a" in line
    code, _, line = run(["keys", "revoke", "b", "--keys", place], capsys)
    assert code == 1 and "expected one of the names ['a'], got 'b'" in line
    for name in ("two words", "", "-a", "n" * 65, "a\n"):
        assert run(["keys", "add", "--scope=read", f"--keys={place}", "--", name], capsys)[0] == 2
    assert run(["keys", "add", "c", "--scope", "all", "--keys", place], capsys)[0] == 2


def test_keys_that_are_made_at_once_are_all_there(place: str) -> None:
    def add(number: int) -> str:
        with open_keys(place) as source:
            return create_key(source, f"k{number}", "read")

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(add, range(24)))
    assert len(set(made)) == 24
    with open_keys(place) as source:
        assert sorted(source.read()) == sorted(f"k{number}" for number in range(24))


def test_scopes_are_nested(source: KeySource) -> None:
    for scope in ("read", "write", "admin"):
        create_key(source, scope, scope)
    keys = source.read()
    allowed = {name: [scope for scope in ("read", "write", "admin") if key.allows(scope)] for name, key in keys.items()}
    assert allowed == {"read": ["read"], "write": ["read", "write"], "admin": ["read", "write", "admin"]}


def test_a_key_is_known_until_it_is_revoked(source: KeySource) -> None:
    key = create_key(source, "shop", "read")
    ring = KeyRing(source)
    found = ring.find(key.encode())
    assert found is not None and found.scope == "read"
    for wrong in ("", key[:-1], key + "A", key.swapcase(), found.sha256):
        assert ring.find(wrong.encode()) is None
    revoke_key(source, "shop")
    ring.refresh()
    assert ring.find(key.encode()) is None


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_running_server_notices_keys_that_come_and_go(source: KeySource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(source), "seconds", 0.05)
    create_key(source, "first", "read")
    ring = KeyRing(source)
    with ring.watching():
        later = create_key(source, "later", "read").encode()
        wait_until(lambda: ring.find(later) is not None)
        revoke_key(source, "later")
        wait_until(lambda: ring.find(later) is None)


def test_a_file_is_its_owners_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my keys.json"
    add = ["keys", "add", "--scope", "read", "--keys", str(path)]
    assert run([*add, "a"], capsys)[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for mode in (0o644, 0o640, 0o602):
        path.chmod(mode)
        for command in ([*add, "b"], ["keys", "list", "--keys", str(path)]):
            code, _, line = run(command, capsys)
            assert code == 1
            assert line.endswith(f"got mode {mode:04o}; run `chmod 600 '{path}'`")
    path.chmod(0o600)
    assert run([*add, "b"], capsys)[0] == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "expected JSON that `recsys keys add` wrote"),
        ("[]", "expected an object that `recsys keys add` wrote, got []"),
        ('{"keys": {}}', "expected format 1, got None"),
        ('{"format": 2, "keys": {}}', "expected format 1, got 2"),
        ('{"format": 1}', "field 'keys'"),
        ('{"format": 1, "keys": {"a": {"scope": "all"}}}', "field 'keys.a.scope'"),
    ],
)
def test_a_file_of_another_form_is_one_line(
    content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    for command in (["list"], ["add", "b", "--scope", "read"], ["revoke", "a"]):
        code, _, line = run(["keys", *command, "--keys", str(path)], capsys)
        assert code == 1
        assert line.startswith(f"error: API keys {str(path)!r}: ")
        assert told in line
    assert path.read_text() == content


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "keys.json")
    for command in (["list"], ["revoke", "a"]):
        code, _, line = run(["keys", *command, "--keys", path], capsys)
        assert code == 1
        assert f"recsys keys add NAME --scope read --keys {path}" in line
    assert list(tmp_path.iterdir()) == []


def test_where_the_keys_cannot_be_read_again_the_last_known_ones_hold_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "keys.json"
    source = KeyFile(path)
    key = create_key(source, "shop", "read").encode()
    ring = KeyRing(source)
    content = path.read_bytes()
    path.chmod(0o644)
    ring.refresh()
    path.unlink()
    ring.refresh()
    assert ring.find(key) is not None
    assert caplog.text.count("the last known API keys hold") == 1
    assert "expected a file that only its owner may read" in caplog.text
    path.touch(mode=0o600)
    path.write_bytes(content)
    revoke_key(source, "shop")
    ring.refresh()
    assert ring.find(key) is None
    assert caplog.text.count("can be read again") == 1


def test_a_redis_that_is_away_leaves_the_last_known_keys_and_names_no_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with redis_running(tmp_path, "--requirepass", "s3cret") as server:
        place = server.place().replace("redis://", "redis://:s3cret@")
        with closing(RedisKeys(place)) as source:
            key = create_key(source, "shop", "read").encode()
            ring = KeyRing(source)
            server.stop(signal.SIGKILL)
            ring.refresh()
            ring.refresh()
            assert ring.find(key) is not None
            assert caplog.text.count("the last known API keys hold") == 1
            assert "expected a Redis server that answers" in caplog.text
            with pytest.raises(RecsysError, match=r"^API keys 'redis://127"):
                create_key(source, "other", "read")
            server.start()
            revoke_key(source, "shop")
            ring.refresh()
            assert ring.find(key) is None
    assert "s3cret" not in caplog.text


def test_keys_and_a_store_under_one_address_leave_each_other_alone(redis_server: RedisServer) -> None:
    place = redis_server.place()
    address = address_of(place)
    with open_keys(place) as source, closing(RedisClient(address)) as client:
        create_key(source, "shop", "read")
        assert client.call(("KEYS", f"{{{address.prefix}}}:*")) == [[]]  # what docs/online-store.md removes a store by


def test_a_value_of_another_format_on_a_redis_server_is_one_line(redis_server: RedisServer) -> None:
    place = redis_server.place()
    with closing(RedisHash(place, "api-keys", holds="API keys")) as values:
        assert values.add("later", b'{"format": 2, "scope": "read"}')
        assert not values.add("later", b"{}")
    with closing(RedisKeys(place)) as source, pytest.raises(InputError, match="expected format 1, got 2"):
        source.read()
