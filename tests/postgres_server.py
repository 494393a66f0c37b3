"""A real PostgreSQL of a test's own: a free port on this machine, a folder of its own, and MLflow's server over it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT, NOBODY = 0, "nobody"


def postgres_programs() -> Path:
    """The folder of initdb and postgres, of the newest version; skips the test where there is none."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not folders:
        pytest.skip("no PostgreSQL: install Debian's package postgresql")
    return folders[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def postgres_running() -> Iterator[str]:
    """The URI of a database, for SQLAlchemy with psycopg. PostgreSQL refuses to run as root: then it runs as nobody."""
    pytest.importorskip("psycopg", reason="the package psycopg is not installed: pip install '.[postgres]'")
    programs, port = postgres_programs(), free_port()
    user = NOBODY if os.getuid() == ROOT else None
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user is not None:
        shutil.chown(home, user)
    data = home / "data"
    initdb = [programs / "initdb", "-D", data, "-U", "recsys", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"]
    try:
        subprocess.run(initdb, user=user, check=True, capture_output=True, text=True, cwd=home)
        options = ("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", home)
        server = [programs / "postgres", "-D", data, "-p", str(port), *options]
        with _running(server, home / "log", user=user) as process:
            _wait(lambda: _accepts(port), process, home / "log")
            yield f"postgresql+psycopg://recsys@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def mlflow_server(database: str, folder: Path) -> Iterator[str]:
    """The address of MLflow's server over a database, which also takes the artifacts, into `folder`."""
    port = free_port()
    words = ["-m", "mlflow", "server", "--backend-store-uri", database, "--artifacts-destination", str(folder / "kept")]
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    address = f"http://127.0.0.1:{port}"
    with _running([sys.executable, *words, *place], folder / "server.log", user=None) as process:
        _wait(lambda: _answers(f"{address}/health"), process, folder / "server.log")
        yield address


@contextmanager
def _running(command: list[str | Path], log: Path, *, user: str | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its children, ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, user=user, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=log.parent
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)  # PostgreSQL's fast shutdown
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def _wait(ready: object, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if ready():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
