"""The partitions of a batch, written one after the other, by several processes or by a cluster: the same bytes.

A task is what one partition is made of: a chunk of candidates, or whatever its scorer turns into ranked rows. Tasks are
numbered in their order. Those that are done are taken from the iterator and not scored again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pyarrow as pa

from recsys.batch.folder import BatchFolder
from recsys.batch.storage import PartitionWriter, Written

Task = TypeVar("Task")
Task_contra = TypeVar("Task_contra", contravariant=True)


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


class Workers(Protocol[Task]):
    """What writes partitions: this process, several, or a cluster."""

    def written(
        self, todo: Iterator[tuple[int, Task]], writer: PartitionWriter
    ) -> Iterator[tuple[int, Task, Written, Counter[str]]]:
        """Each task with its number, its partition and its counts, as they are done, in any order."""


def write_partitions(
    folder: BatchFolder,
    tasks: Iterable[Task],
    workers: Workers[Task],
    *,
    on_done: Callable[[Task], None] = lambda task: None,
) -> None:
    """Write the partitions that are not done yet.

    on_done: called with each task that is done, earlier ones too. Raises WorkerDied where a process ended, and whatever
    a scorer raises.
    """
    todo = _without_done(folder, tasks, on_done)
    for number, task, written, counts in workers.written(todo, folder.writer()):
        folder.add(number, written, counts)
        on_done(task)


def _without_done(
    folder: BatchFolder, tasks: Iterable[Task], on_done: Callable[[Task], None]
) -> Iterator[tuple[int, Task]]:
    earlier = frozenset(folder.manifest.partitions)
    for number, task in enumerate(tasks):
        if number in earlier:
            on_done(task)
        else:
            yield number, task


def write_task(
    scorer: PartitionScorer[Task], writer: PartitionWriter, number: int, task: Task
) -> tuple[Written, Counter[str]]:
    """Write a partition; where it is, and its counts."""
    counts = Counter[str]()

    def tables() -> Iterator[pa.Table]:
        for rows in scorer.ranked(task):
            counts.update(rows.counts)
            yield rows.table

    return writer.write(number, scorer.schema, tables()), counts
