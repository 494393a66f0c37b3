"""`recsys serve` as a process of its own, which can be paused, killed and started again on the same port."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

READY_SECONDS = 120
_TOGETHER = re.compile(r"processes: (.*)")
_AGAIN = re.compile(r"(worker \d+) is ready again, process (\d+)")
_WORKER = re.compile(r"(worker \d+) (\d+)")


class Process(Protocol):
    """What is started and ended. pid: while it runs."""

    @property
    def pid(self) -> int | None:
        """Of the process."""

    def poll(self) -> int | None:
        """The exit status, None while it runs."""

    def wait(self, seconds: float) -> int:
        """The exit status, once it ended."""

    def send_signal(self, number: int) -> None:
        """Send a signal."""

    def stderr(self) -> str:
        """What it has written so far."""


class CommandLine:
    """`recsys ARGUMENTS` by this interpreter, its standard error in a temporary file."""

    def __init__(self, *arguments: str) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="recsys-", suffix=".log")  # noqa: SIM115
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._log)
        self.poll, self.wait, self.send_signal = self._process.poll, self._process.wait, self._process.send_signal

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    def stderr(self) -> str:
        """What it has written so far."""
        return Path(self._log.name).read_text(encoding="utf-8")


class ServerProcess:
    """A server of a model on a store. options: further ones of `recsys serve`. start_process: runs a command line."""

    def __init__(
        self, model: str, store: str, *options: str, start_process: Callable[..., Process] = CommandLine
    ) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.port = int(probe.getsockname()[1])
        self.store = store
        self.address = f"http://127.0.0.1:{self.port}"
        self._arguments = ("serve", "--model", model, "--store", store, "--port", str(self.port), *options)
        self._start_process = start_process
        self._process: Process | None = None

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it answers, with all workers. Raises RuntimeError where it ends or is not ready in time."""
        self._process = process = self._start_process(*self._arguments)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            if self.is_ready() and (self.workers() or "--workers" not in self._arguments):
                return
            time.sleep(0.1)
        said = process.stderr()[-2000:]
        self.kill()
        raise RuntimeError(f"expected a server that is ready within {READY_SECONDS} s, got: {said}")

    def is_ready(self) -> bool:
        """Whether it can rank."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection):
            try:
                connection.request("GET", "/health/ready")
                return connection.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False

    def log(self) -> str:
        """What it has written since its start."""
        return "" if self._process is None else self._process.stderr()

    def workers(self) -> dict[str, int]:
        """The last known process of each worker; none for a server of one process."""
        together = _TOGETHER.findall(self.log())
        found = dict(_WORKER.findall(together[-1])) if together else {}
        return {name: int(pid) for name, pid in (found | dict(_AGAIN.findall(self.log()))).items()}

    def processes(self) -> list[int]:
        """All that belong to it: the one that was started and those below it."""
        if self._process is None or self._process.pid is None:
            return []
        found = [self._process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in children.read_text(encoding="ascii").split()]
        return found

    def kill(self) -> None:
        """End all of its processes by SIGKILL, at once."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(READY_SECONDS)
        self._process = None

    def stop(self) -> None:
        """Ask it to end and wait for that. Raises RuntimeError where it ends with a status other than 0."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(READY_SECONDS)
            except BaseException:
                self.kill()
                raise
            if status != 0:
                raise RuntimeError(f"expected a server that ends with 0, got {status}: {process.stderr()[-2000:]}")
        self._process = None


def private_bytes(pid: int) -> int:
    """Memory that one process has for itself (USS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
