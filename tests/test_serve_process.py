"""The server as a process of its own: it starts, stops when asked, and keeps what it acknowledged when it is killed."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Timer

import httpx
import pytest
from redis_server import RedisServer, redis_running
from small_logs import read_online
from small_ranking_model import small_site
from trained_site import MODEL, TrainedSite
from warm_process import Warm, run_warm

from features.definitions.aggregates import CLICK, USER, Count
from features.online.state import OnlineState
from features.stores.open import open_store
from pipelines import cli
from pipelines.load import load_items_into
from pipelines.serve import listen
from recsys.errors import ServerError
from recsys.online.open_state import open_state

STARTED = 1_700_000_000
LATER = STARTED + 3600
"""When a list is asked for: scores change with the time of the request."""
CLI = ("-m", "pipelines.cli")


@pytest.fixture(scope="module")
def unit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unit")
    ranking_model = small_site().ranking_model
    ranking_model.save(folder)
    ranking_model.encoder.save(folder / "encoder")
    return folder


@contextmanager
def server(unit_folder: Path, store: str) -> Iterator[tuple[Warm, str]]:
    """A running server and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Warm("-m", "served_small_site", str(unit_folder), store, str(port)) as process:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(process, address)
        yield process, address


def wait_until_ready(process: Warm, address: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.poll()}: {process.stderr()}")
        try:
            if httpx.get(f"{address}/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError("the server was not ready after two minutes")


def batch(number: int) -> list[dict[str, object]]:
    """Five clicks of one user, all different."""
    return [
        {
            "user_id": "u1",
            "item_id": f"i{number}-{i}",
            "timestamp": STARTED + 10 * number + i,
            "event_id": f"{number}-{i}",
        }
        for i in range(5)
    ]


def clicks_of_the_user(store: str) -> int:
    with closing(open_store(store, create=False)) as opened:
        reader = read_online(OnlineState.open(opened), "u1", None, ["any"], now=time.time_ns() // 1000)
        return int(reader.count(Count(CLICK, USER))[0])


def test_what_was_acknowledged_survives_a_kill_and_a_server_asked_to_stop_ends_well(
    unit_folder: Path, new_place: Callable[[], str]
) -> None:
    store, acknowledged = new_place(), 0
    with server(unit_folder, store) as (process, address), httpx.Client(base_url=address) as client:
        Timer(1.0, process.send_signal, (signal.SIGKILL,)).start()
        for number in range(100_000):
            try:
                answer = client.post("/v1/events", json={"events": batch(number)})
            except httpx.TransportError:
                break
            assert answer.json() == {"accepted": 5, "rejected": []}
            acknowledged += 1
        assert process.wait(10) == -signal.SIGKILL
    assert acknowledged > 0
    assert clicks_of_the_user(store) in (5 * acknowledged, 5 * (acknowledged + 1))
    with server(unit_folder, store) as (process, address):
        again = [event for number in range(acknowledged + 1) for event in batch(number)]
        for start in range(0, len(again), 5_000):
            httpx.post(f"{address}/v1/events", json={"events": again[start : start + 5_000]}, timeout=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr()
    assert clicks_of_the_user(store) == 5 * (acknowledged + 1)


def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # asyncio switches Nagle's algorithm off for no other


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port}.*in use.*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(ServerError, match="port 99999"):
        listen("127.0.0.1", 99999)


def clicked(address: str, user: str, item: str, timestamp: int) -> None:
    event = {"user_id": user, "item_id": item, "timestamp": timestamp, "event_type": "click"}
    answer = httpx.post(f"{address}/v1/events", json={"events": [event]}, timeout=30)
    assert answer.json() == {"accepted": 1, "rejected": []}


def ranked(address: str, user: str, candidates: list[str], at: int | None = None) -> httpx.Response:
    asked = {"user_id": user, "candidates": candidates} | ({} if at is None else {"timestamp": at})
    return httpx.post(f"{address}/v1/rank", json=asked, timeout=30)


def test_servers_that_share_a_redis_see_each_others_events_and_outlive_its_absence(
    unit_folder: Path, tmp_path: Path
) -> None:
    ids = [str(item_id) for item_id in small_site().log.catalog.ids[:20]]
    with redis_running(tmp_path) as redis, ExitStack() as servers:
        place = redis.place()
        with open_state(place, small_site().ranking_model.settings, create=True) as state:
            load_items_into(state, small_site().ranking_model, small_site().data / "items.parquet")
        (first_process, first), (_, second) = (servers.enter_context(server(unit_folder, place)) for _ in range(2))
        before = ranked(second, "u1", ids, LATER).json()["items"]
        for number in range(3):
            clicked(first, "u1", ids[number], STARTED + number)
        after = ranked(second, "u1", ids, LATER).json()["items"]
        assert after != before
        assert ranked(first, "u1", ids, LATER).json()["items"] == after

        redis.stop(signal.SIGKILL)
        alone = ranked(first, "u1", ids, LATER).json()
        assert (alone["rung"], [item["item_id"] for item in alone["items"]]) == ("caller_order", ids)
        for answer in (
            httpx.post(f"{first}/v1/events", json={"events": batch(0)}, timeout=30),
            httpx.get(f"{first}/health/ready", timeout=30),
        ):
            assert answer.status_code == 503
            assert "expected a Redis server that answers" in answer.json()["error"]["message"]
        assert httpx.get(f"{first}/health/live", timeout=30).status_code == 200

        redis.start()
        assert ranked(first, "u1", ids, LATER).json()["items"] == after
        clicked(first, "u1", ids[3], STARTED + 3)
        assert (
            ranked(second, "u1", ids, LATER).json()["items"] == ranked(first, "u1", ids, LATER).json()["items"] != after
        )
        first_process.send_signal(signal.SIGTERM)
        assert first_process.wait(20) == 0
        assert "Traceback" not in first_process.stderr()


def test_a_store_on_redis_is_loaded_and_served_by_the_commands_and_serves_what_the_tables_give(
    trained: TrainedSite, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    place = redis_server.place()
    for command, table in (("load-items", "items"), ("load-events", "events"), ("load-events", "impressions")):
        recsys(command, str(trained.data / f"{table}.parquet"), "--store", place, "--model", MODEL)
    users = trained.home / "users.csv"
    users.write_text("user_id,country\nu1,NZ\n")
    assert "1 of 1 rows" in recsys("load-users", str(users), "--store", place)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = str(trained.home / "log")
    arguments = ("--store", place, "--model", MODEL, "--port", str(port), "--log-rankings", log)
    with Warm(*CLI, "serve", *arguments, "--set=serving.budget_ms=0") as process:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        examples = httpx.get(f"http://127.0.0.1:{port}/v1/examples").json()
        ids = [item["item_id"] for item in examples["items"]][:10]
        answer = ranked(f"http://127.0.0.1:{port}", examples["users"][0], ids)
        assert sorted(item["item_id"] for item in answer.json()["items"]) == sorted(ids)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    compared = ["audit", str(trained.data), "--model", MODEL, "--logged", log, "--set=threads=1"]
    assert cli.run(lambda: cli.cli(compared, standalone_mode=False)) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith(f"10 candidates in 1 lists that {answer.json()['model']['ranker']} ranked")
    )


def test_a_server_that_is_stopped_while_it_starts_leaves_nothing(trained: TrainedSite, tmp_path: Path) -> None:
    arguments = ("serve", "--store", str(tmp_path / "store"), "--create", "--model", MODEL, "--port", "0")
    with Warm(*CLI, *arguments, cwd=trained.home, TMPDIR=str(tmp_path)) as process:
        while not list(tmp_path.glob("recsys-model-*")):
            assert process.poll() is None, process.stderr()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr().splitlines()[-1].endswith("stopped")
    assert not list(tmp_path.glob("recsys-model-*"))


def test_a_command_says_in_one_line_that_no_redis_answers(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user_id\nu1\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"redis://127.0.0.1:{free.getsockname()[1]}"
    done = run_warm(*CLI, "load-users", str(tmp_path / "users.csv"), "--store", place)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith(f"error: online store '{place}': expected a Redis server that answers")


def recsys(*arguments: str) -> str:
    """What a command prints."""
    done = run_warm(*CLI, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
