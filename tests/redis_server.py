"""A real Redis server of a test's own: a free port on this machine, a folder of its own, every write on disk."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

_PREFIXES = count()


class RedisServer:
    """A server that can be stopped, killed and started again on the same data. options: as in redis.conf."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("no redis-server on PATH: install Debian's package redis-server")
        pytest.importorskip("redis", reason="the package redis is not installed: pip install '.[redis]'")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._log = folder / "redis.log"
        always = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--logfile", str(self._log))
        self._command = [program, *place, *always, *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def place(self) -> str:
        """The URL of an empty store."""
        return f"{self.address}/0?prefix=test-{next(_PREFIXES)}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    client.sendall(b"PING\r\n")
                    if client.recv(64)[:5] in (b"+PONG", b"-NOAU"):
                        return
            time.sleep(0.02)
        raise AssertionError(f"redis-server did not start: {self._log.read_text()[-2000:]}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None


@contextmanager
def redis_running(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server for as long as the context lasts; skips the test where there is none to be had."""
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
