"""The parent of a server's processes: starts them, replaces those that end, and stops all when it is told to.

    tasks = [Task("worker", 1, run), Task("worker", 2, run)]
    Supervisor(tasks, describe=str, stop_seconds=10).run()

The first one starts alone, so that what it prepares is there for the others, and what keeps it from starting is said
once. SIGTERM and SIGINT stop everything, SIGHUP is passed on. A process whose parent has gone ends too.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

from prometheus_client import CollectorRegistry

from recsys.errors import ServerError
from recsys.serving.shared_metrics import ProcessMetrics, forget, share_metrics

logger = logging.getLogger(__name__)
_START = get_context("forkserver") if sys.platform == "linux" else get_context("spawn")
"""Processes are forked from one that has imported the libraries and started no threads, where the system's libraries
bear that: each then starts in a second or two, and shares the memory of what was imported."""
_IMPORTED = (
    "recsys.processes.answering",
    "recsys.processes.refreshing",
    "recsys.encoder.model",
    "transformers.models.bert.modeling_bert",
)
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds until a process is started again that has failed twice in a row, and at most."""
_STEADY_SECONDS = 10.0
"""A process that was ready for so long did not fail to start."""
_PARENT = "parent"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Task:
    """What a process does. kind, number: name it. run: called with a function that says, in a line, that the process is
    ready; it returns, or raises KeyboardInterrupt, after SIGTERM. It travels to the process by pickle."""

    kind: str
    number: int
    run: Callable[[Callable[[str], None]], None]

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"

    @property
    def owner(self) -> str:
        """Of its metrics."""
        return f"{self.kind}-{self.number}"


@dataclass(frozen=True)
class _Said:
    """What a process tells its parent. failed: it ends because of that. details: the traceback."""

    text: str
    failed: bool = False
    details: str = ""


@dataclass(eq=False)
class _Slot:
    """A task and the process that does it. due: when it starts, monotonic seconds, None while it runs. failures: starts
    in a row that came to nothing. reported: the reason of the last one. hung_up: SIGHUP waits until it is ready."""

    task: Task
    process: BaseProcess | None = None
    link: Connection | None = None
    due: float | None = None
    ready_at: float | None = None
    failures: int = 0
    reported: str = ""
    failure: _Said | None = None
    hung_up: bool = False


class Supervisor:
    """Runs tasks in a process each. describe: an error in one line. stop_seconds: that processes get to end.

    on_stop: called when the stop begins. on_ready: called once, when all are ready for the first time, with what the
    first one said.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        describe: Callable[[BaseException], str],
        stop_seconds: float,
        on_stop: Callable[[], None],
        on_ready: Callable[[str], None],
    ) -> None:
        self._slots = [_Slot(task) for task in tasks]
        self._describe = describe
        self._stop_seconds = stop_seconds
        self._on_stop = on_stop
        self._on_ready = on_ready
        self._said = ""
        self._complete = False

    def run(self) -> None:
        """Keep the processes running until a signal stops them. Raises ServerError, with what it said, where the first
        one cannot start."""
        with tempfile.TemporaryDirectory(prefix="recsys-metrics-", ignore_cleanup_errors=True) as folder:
            self._folder = Path(folder)
            share_metrics(self._folder, _PARENT)
            self._metrics = ProcessMetrics(CollectorRegistry())
            with self._signals() as signals:
                try:
                    _START.set_forkserver_preload(list(_IMPORTED))
                    self._slots[0].due = time.monotonic()
                    while self._tend(signals):
                        pass
                    logger.info("stopping")
                finally:
                    self._stop(signals)

    @contextmanager
    def _signals(self) -> Iterator[Connection]:
        """Signals as messages."""
        receiver, sender = _START.Pipe(duplex=False)
        before = {number: signal.signal(number, lambda which, _: sender.send(which)) for number in _SIGNALS}
        try:
            yield receiver
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tend(self, signals: Connection) -> bool:
        """Wait for the next thing that happens, and do what it asks for; False where it is the end."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.due is not None and slot.due <= now:
                self._start(slot)
        dues = [slot.due - now for slot in self._slots if slot.due is not None]
        links = {slot.link: slot for slot in self._slots if slot.link is not None}
        ends = {slot.process.sentinel: slot for slot in self._slots if slot.process is not None}
        happened = connection.wait([signals, *links, *ends], timeout=max(0.0, min(dues)) if dues else None)
        if signals in happened:
            if signals.recv() != signal.SIGHUP:
                return False
            self._pass_hangup()
        for one in happened:
            if isinstance(one, Connection) and one in links:
                self._listen(links[one])
        for one in happened:
            if isinstance(one, int):
                self._ended(ends[one])
        return True

    def _start(self, slot: _Slot) -> None:
        slot.link, theirs = _START.Pipe(duplex=False)
        slot.due, slot.ready_at, slot.failure = None, None, None
        slot.process = _START.Process(
            target=_run, args=(slot.task, theirs, self._folder, self._describe), name=str(slot.task)
        )
        slot.process.start()
        theirs.close()

    def _listen(self, slot: _Slot) -> None:
        """Take what a process says: that it is ready, or why it ends."""
        if slot.link is None:
            return
        try:
            said: _Said = slot.link.recv()
        except (EOFError, OSError):
            slot.link.close()
            slot.link = None
            return
        if said.failed:
            slot.failure = said
            return
        slot.ready_at = time.monotonic()
        slot.reported = ""
        self._count(slot.task.kind)
        if slot.hung_up:
            self._hang_up(slot)
        if self._complete:
            pid = slot.process.pid if slot.process else None
            logger.info("%s is ready again, process %s", slot.task, pid)
        elif slot is self._slots[0] and not self._said:
            self._said = said.text
            for other in self._slots[1:]:
                other.due = time.monotonic()
        if not self._complete and all(one.ready_at is not None for one in self._slots):
            self._complete = True
            self._on_ready(self._said)
            pids = [f"{one.task} {one.process.pid}" for one in self._slots if one.process is not None]
            logger.info("processes: %s", ", ".join(pids))

    def _count(self, kind: str) -> None:
        ready = [slot for slot in self._slots if slot.task.kind == kind and slot.ready_at is not None]
        self._metrics.running.labels(kind).set(len(ready))

    def _ended(self, slot: _Slot) -> None:
        """Plan the next process of a task whose process has ended."""
        process, now = slot.process, time.monotonic()
        if process is None:
            return
        process.join()
        while slot.link is not None:
            self._listen(slot)
        reason = slot.failure.text if slot.failure else _ending(process.exitcode)
        if not self._said:
            self._refuse_to_start(slot, reason)
        was_ready = slot.ready_at is not None
        steady = slot.ready_at is not None and now - slot.ready_at >= _STEADY_SECONDS
        process.close()
        slot.process, slot.ready_at = None, None
        forget(self._folder, slot.task.owner)
        self._count(slot.task.kind)
        self._metrics.restarts.labels(slot.task.kind).inc()
        slot.failures = 0 if steady else slot.failures + 1
        wait = 0.0 if slot.failures < 2 else min(FIRST_WAIT * 2.0 ** (slot.failures - 2), LONGEST_WAIT)
        slot.due = now + wait
        if reason != slot.reported or was_ready:
            what = "ended" if was_ready else "did not start"
            logger.error("%s %s: %s; another one takes its place", slot.task, what, reason)
            if slot.failure and slot.failure.details:
                logger.debug("%s", slot.failure.details)
        slot.reported = reason

    def _refuse_to_start(self, slot: _Slot, reason: str) -> None:
        error = ServerError(reason if slot.failure else f"{slot.task} ended before it was ready: {reason}")
        if slot.failure:
            error.add_note(slot.failure.details)
        raise error

    def _pass_hangup(self) -> None:
        for slot in self._slots:
            if slot.ready_at is not None:
                self._hang_up(slot)
            else:
                slot.hung_up = True

    def _hang_up(self, slot: _Slot) -> None:
        slot.hung_up = False
        if slot.process is not None and slot.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(slot.process.pid, signal.SIGHUP)

    def _stop(self, signals: Connection) -> None:
        """End all processes: each by itself once its open requests have ended, or at once when the time is up or a
        second signal comes."""
        self._on_stop()
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        while alive := [process.sentinel for process in running if process.is_alive()]:
            happened = connection.wait([signals, *alive], timeout=max(0.0, deadline - time.monotonic()))
            if not happened or (signals in happened and signals.recv() != signal.SIGHUP):
                logger.warning("%d processes had not ended and are killed", len(alive))
                break
        for process in running:
            process.kill()
            process.join()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


def _run(task: Task, link: Connection, folder: Path, describe: Callable[[BaseException], str]) -> None:
    """The main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which sends it to the parent too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="parent", daemon=True).start()
    share_metrics(folder, task.owner)
    try:
        task.run(partial(_say, link))
    except KeyboardInterrupt:
        return
    except Exception as error:
        link.send(_Said(describe(error), failed=True, details=traceback.format_exc()))
        sys.exit(1)


def _say(link: Connection, text: str) -> None:
    link.send(_Said(text))


def _end_with_parent() -> None:
    """Stop this process as SIGTERM does, once its parent is gone."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
