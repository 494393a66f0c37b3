"""Workers of this machine: this process, or several."""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_all_start_methods, get_context, parent_process
from os import _exit
from typing import Any, Generic

from recsys.batch.run import PartitionScorer, Task, write_task
from recsys.batch.storage import PartitionWriter, Written
from recsys.errors import WorkerDied

_START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
"""Never a fork of this process: it has threads."""


@dataclass(frozen=True)
class Processes(Generic[Task]):
    """`Workers` of this machine. scorer: opens what scores, once in each process; with several of them it is pickled
    and hashable, such as a frozen dataclass with `__call__`."""

    scorer: Callable[[], PartitionScorer[Task]]
    number: int = 1

    def written(
        self, todo: Iterator[tuple[int, Task]], writer: PartitionWriter
    ) -> Iterator[tuple[int, Task, Written, Counter[str]]]:
        """Each task as it is done; at most number + 1 are in memory. Raises WorkerDied where a process ended."""
        if self.number == 1:
            opened = self.scorer()
            for number, task in todo:
                yield number, task, *write_task(opened, writer, number, task)
            return
        with ProcessPoolExecutor(self.number, mp_context=get_context(_START), initializer=_end_with_parent) as pool:
            waiting: dict[Future[tuple[Written, Counter[str]]], tuple[int, Task]] = {}
            try:
                for number, task in todo:
                    waiting[pool.submit(_write_in_worker, self.scorer, writer, number, task)] = number, task
                    if len(waiting) > self.number:
                        yield from _collected(waiting)
                while waiting:
                    yield from _collected(waiting)
            except BrokenProcessPool as error:
                raise WorkerDied(
                    "a worker process ended in the middle, perhaps for want of memory; use fewer --workers or smaller "
                    "--batch-rows"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _collected(
    waiting: dict[Future[tuple[Written, Counter[str]]], tuple[int, Task]],
) -> Iterator[tuple[int, Task, Written, Counter[str]]]:
    """What at least one worker has written, taken out of `waiting`."""
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        number, task = waiting.pop(future)
        yield number, task, *future.result()


def _write_in_worker(
    scorer: Callable[[], PartitionScorer[Task]], writer: PartitionWriter, number: int, task: Task
) -> tuple[Written, Counter[str]]:
    return write_task(_opened(scorer), writer, number, task)


@lru_cache(maxsize=1)
def _opened(scorer: Callable[[], Any]) -> Any:
    return scorer()


def _end_with_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger().setLevel(logging.WARNING)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        _exit(1)
