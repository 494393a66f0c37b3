"""A temporary folder of this machine, which is gone when its block ends, or when the next run begins after a kill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from filelock import FileLock, Timeout

_LOCK = ".lock"


@contextmanager
def machine_folder() -> Iterator[Path]:
    """A new folder below TMPDIR, which this user alone can read. Those of killed runs are removed first."""
    prefix = f"recsys-{os.getuid() if hasattr(os, 'getuid') else 'batch'}-"
    for left in Path(gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        _remove_if_dead(left)
    folder = Path(mkdtemp(prefix=prefix))
    lock = FileLock(folder / _LOCK)
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_dead(path: Path) -> None:
    try:
        with FileLock(path, blocking=False):
            shutil.rmtree(path.parent, ignore_errors=True)
    except (Timeout, OSError):  # of a run that lives, or gone meanwhile
        pass
