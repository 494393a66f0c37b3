"""Who has a store's folder open: every process holds a shared lock on a file in it, exclusive work asks for it alone.

The lock goes with its process, however that ends. Systems without `flock` are not protected.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from features.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be replaced either
    fcntl = None  # type: ignore[assignment]

_LOCK_FILE, _LMDB_LOCK_FILE = "open.lock", "lock.mdb"


class FolderLock:
    """A lock on a store's folder, until it is closed."""

    def __init__(self, folder: Path, *, alone: bool = False) -> None:
        """alone: the folder is open nowhere else, and nobody opens it until this lock is closed; others wait.

        Raises BlockingIOError where another has it open, or is alone with it for a moment.
        """
        self._folder = folder
        self._file: IO[bytes] = (folder / _LOCK_FILE).open("ab")
        try:
            if fcntl is not None:
                how = fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH
                fcntl.flock(self._file, how)
                if alone:
                    _require_no_reader(folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()


def _require_no_reader(folder: Path) -> None:
    """Raise BlockingIOError where a program that knows no `FolderLock` has the folder open: LMDB holds a lock of its
    own on its lock file. Call it where this process has not opened the folder, since closing the file ends its lock.
    """
    path = folder / _LMDB_LOCK_FILE
    if path.exists():
        with path.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            except OSError as error:
                raise BlockingIOError(str(error)) from error
            fcntl.lockf(file, fcntl.LOCK_UN, 1)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to disk. Raises StoreError where that fails."""
    try:
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        raise StoreError(f"online store {str(folder)!r} cannot be written to disk: {error}") from error
