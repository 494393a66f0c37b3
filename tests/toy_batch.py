"""A batch whose tasks are numbers: task n has n rows. Also a process that is killed at some steps of writing it.

`python -m toy_batch FOLDER STEP …` writes the batch FOLDER/N for each step N, in a process of its own each time, which
is killed with -9 as that step begins.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.batch.folder import batch_folder
from recsys.batch.processes import Processes
from recsys.batch.run import RankedRows, write_partitions

TASKS = (3, 1, 4)
INPUTS = {"model": "models:/toy-ranker/1", "top_k": None}


@dataclass(frozen=True)
class Counting:
    """A scorer of numbers, which opens itself. killed_at: the task at which its process is killed."""

    killed_at: int | None = None

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([("of", pa.int64()), ("n", pa.int64())])

    def __call__(self) -> Counting:
        return self

    def ranked(self, task: int) -> Iterator[RankedRows]:
        if task == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        for n in range(task):
            yield RankedRows(pa.table({"of": [task], "n": [n]}, schema=self.schema), {"rows_out": 1})


def write_toy(
    out: Path | str,
    *,
    resume: bool = False,
    workers: int = 1,
    scorer: Counting = Counting(),
    inputs: dict[str, Any] = INPUTS,
    started: str = "now",
) -> dict[str, Any]:
    """Write the batch, or go on with it; its manifest."""
    with batch_folder(out, resume=resume) as folder:
        folder.begin(inputs, started=started)
        if folder.finished is not None:
            return folder.finished
        write_partitions(folder, TASKS, Processes(scorer, workers))
        return folder.publish(folder.manifest.totals())


def _killed(out: Path, step: int) -> None:
    """Write the batch until a step on the file system begins: a file opened to be written, synced, renamed, removed."""
    steps = iter(range(step))

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
        if (writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")) and next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    write_toy(out)


if __name__ == "__main__":
    for number in sys.argv[2:]:
        process = os.fork()
        if process == 0:
            _killed(Path(sys.argv[1]) / number, int(number))
            os._exit(0)
        os.waitpid(process, 0)
