"""The server as a process of its own: it starts, stops when asked, and keeps what it acknowledged when it is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import httpx
import pytest
from small_unit import small_site

from features.online import OnlineState
from features.online_reader import OnlineReader
from features.reads import CLICK, USER, Count
from features.store import LmdbStore
from pipelines.serve import listen
from recsys.errors import ServerError

SCRIPT = Path(__file__).with_name("served_small_site.py")
STARTED = 1_700_000_000


@pytest.fixture(scope="module")
def unit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unit")
    unit = small_site().unit
    unit.save(folder)
    unit.encoder.save(folder / "encoder")
    return folder


@contextmanager
def server(unit_folder: Path, store: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])}
    command = [sys.executable, str(SCRIPT), str(unit_folder), str(store), str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(process, address)
        yield process, address
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(process: subprocess.Popen[str], address: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {process.communicate()[1]}")
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


def clicks_of_the_user(store: Path) -> int:
    opened = LmdbStore(store, create=False)
    try:
        reader = OnlineReader(OnlineState.open(opened), "u1", None, ["any"], now=time.time_ns() // 1000)
        return int(reader.count(Count(CLICK, USER))[0])
    finally:
        opened.close()


def test_what_was_acknowledged_survives_a_kill_and_a_server_asked_to_stop_ends_well(
    unit_folder: Path, tmp_path: Path
) -> None:
    acknowledged = 0
    with server(unit_folder, tmp_path / "store") as (process, address), httpx.Client(base_url=address) as client:
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
    assert clicks_of_the_user(tmp_path / "store") in (5 * acknowledged, 5 * (acknowledged + 1))
    with server(unit_folder, tmp_path / "store") as (process, address):
        again = [event for number in range(acknowledged + 1) for event in batch(number)]
        for start in range(0, len(again), 5_000):
            httpx.post(f"{address}/v1/events", json={"events": again[start : start + 5_000]}, timeout=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None and "Traceback" not in process.stderr.read()
    assert clicks_of_the_user(tmp_path / "store") == 5 * (acknowledged + 1)


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
