"""A compacted copy of an LMDB store, put in its place.

A process that has the store open goes on with the file that it has mapped, and what it wrote there would be lost. So
the file is only replaced while nobody else has it open, and who opens it meanwhile waits.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import lmdb

from features.errors import StoreError
from features.stores.store_in_use import FolderLock, sync_folder

_DATA, _COPY = "data.mdb", "compacting"


@dataclass(frozen=True)
class Compaction:
    """Bytes of the file before and after."""

    before: int
    after: int


def compact_folder(folder: Path) -> Compaction:
    """Write the store of a folder without its unused pages, on disk when this returns.

    Raises StoreError where another process, or another part of this one, has it open, and where there is no space for
    the copy; the store is then as it was.
    """
    try:
        lock = FolderLock(folder, alone=True)
    except BlockingIOError as error:
        raise StoreError(
            f"online store {str(folder)!r}: expected no other process that has it open, found one; stop servers and "
            "loads on it and run the command again (until then new data fills the unused pages)"
        ) from error
    data, copy = folder / _DATA, folder / _COPY
    try:
        before = data.stat().st_size
        _clear(copy)
        copy.mkdir()
        with lmdb.open(os.fspath(folder), map_size=max(before, 2**20), readonly=True, lock=False) as environment:
            environment.copy(os.fspath(copy), compact=True)
        with (copy / _DATA).open("rb") as file:
            os.fsync(file.fileno())
        after = (copy / _DATA).stat().st_size
        _keep_owner(data, copy / _DATA)
        (copy / _DATA).replace(data)
        sync_folder(folder)
        return Compaction(before, after)
    except (OSError, lmdb.Error) as error:
        raise StoreError(
            f"online store {str(folder)!r} cannot be compacted: {error}; it is as it was, free some disk space or "
            "check the folder's rights"
        ) from error
    finally:
        _clear(copy)
        lock.close()


def _keep_owner(old: Path, new: Path) -> None:
    """Give a file the mode of another, and its owner where that is allowed: a server may have a user of its own."""
    status = old.stat()
    new.chmod(status.st_mode & 0o777)
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(new, status.st_uid, status.st_gid)


def _clear(copy: Path) -> None:
    """Remove the folder of a copy, also that of a killed compaction."""
    if copy.is_dir():
        for path in copy.iterdir():
            path.unlink()
        copy.rmdir()
