"""The partitions of a batch, written one after the other or by several processes: the same bytes either way.

A task is what one partition is made of: a chunk of candidates, or whatever its scorer turns into ranked rows. Tasks are
numbered in their order. Those that are done are taken from the iterator and not scored again.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_all_start_methods, get_context, parent_process
from os import _exit
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from recsys.batch.folder import BatchFolder
from recsys.batch.partition_file import write_partition
from recsys.errors import WorkerDied

Task = TypeVar("Task")
Task_contra = TypeVar("Task_contra", contravariant=True)
_START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
"""Never a fork of this process: it has threads."""


@dataclass(frozen=True)
class RankedRows:
    """Some rows of a partition. counts: what they add to the numbers in the manifest."""

    table: pa.Table
    counts: Mapping[str, int]


class PartitionScorer(Protocol[Task_contra]):
    """Makes a partition's rows from its task, batch by batch; the same rows from the same task in every process."""

    @property
    def schema(self) -> pa.Schema:
        """Of every table."""

    def ranked(self, task: Task_contra) -> Iterator[RankedRows]:
        """The rows of a partition in order."""


def write_partitions(
    folder: BatchFolder,
    tasks: Iterable[Task],
    scorer: Callable[[], PartitionScorer[Task]],
    *,
    workers: int = 1,
    on_done: Callable[[Task], None] = lambda task: None,
) -> None:
    """Write the partitions that are not done yet.

    scorer: opens what scores, once in each process; with several workers it is pickled and hashable, such as a frozen
    dataclass with `__call__`. on_done: called with each task that is done, earlier ones too. At most workers + 1 tasks
    are in memory. Raises WorkerDied where a process ended, and whatever a scorer raises.
    """
    todo = _without_done(folder, tasks, on_done)
    if workers == 1:
        opened = scorer()
        for number, task in todo:
            path = folder.temporary()
            folder.add(number, path, _write(opened, task, path))
            on_done(task)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context(_START), initializer=_end_with_parent) as pool:
        waiting: dict[Future[Counter[str]], tuple[int, Task, Path]] = {}
        try:
            for number, task in todo:
                path = folder.temporary()
                waiting[pool.submit(_write_in_worker, scorer, task, path)] = number, task, path
                if len(waiting) > workers:
                    _collect(folder, waiting, on_done)
            while waiting:
                _collect(folder, waiting, on_done)
        except BrokenProcessPool as error:
            raise WorkerDied(
                "a worker process ended in the middle, perhaps for want of memory; use fewer --workers or smaller "
                "--batch-rows"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _without_done(
    folder: BatchFolder, tasks: Iterable[Task], on_done: Callable[[Task], None]
) -> Iterator[tuple[int, Task]]:
    earlier = frozenset(folder.manifest.partitions)
    for number, task in enumerate(tasks):
        if number in earlier:
            on_done(task)
        else:
            yield number, task


def _collect(
    folder: BatchFolder, waiting: dict[Future[Counter[str]], tuple[int, Task, Path]], on_done: Callable[[Task], None]
) -> None:
    """Add what at least one worker has written."""
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        number, task, path = waiting.pop(future)
        folder.add(number, path, future.result())
        on_done(task)


def _write(scorer: PartitionScorer[Task], task: Task, path: Path) -> Counter[str]:
    """Write a partition under a temporary name; its counts."""
    counts = Counter[str]()

    def tables() -> Iterator[pa.Table]:
        for rows in scorer.ranked(task):
            counts.update(rows.counts)
            yield rows.table

    write_partition(path, scorer.schema, tables())
    return counts


def _write_in_worker(scorer: Callable[[], PartitionScorer[Task]], task: Task, path: Path) -> Counter[str]:
    return _write(_opened(scorer), task, path)


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
