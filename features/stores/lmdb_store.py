"""The online state in LMDB, on the disk of one machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import lmdb
from filelock import FileLock, Timeout

from features.errors import StoreError, StoreMissing
from features.stores.base import KeySearch, Result, StoreSnapshot, StoreUsage, Transaction
from features.stores.store_in_use import FolderLock

_LARGEST_MAP = 2**38
_SMALLEST_MAP = 2**30
_META_PAGES = 2


class _LmdbTransaction:
    """`features.stores.base.Transaction` over a transaction of LMDB."""

    def __init__(self, transaction: lmdb.Transaction) -> None:
        self._transaction = transaction

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        get = cast("Callable[[bytes], bytes | None]", self._transaction.get)
        return [get(key) for key in keys]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._transaction.cursor() as cursor:
            if not cursor.set_range(start):
                return
            for key, value in cast("Iterator[tuple[bytes, bytes]]", cursor.iternext()):
                if key >= end:
                    return
                yield key, value

    def find(self, search: KeySearch) -> list[bytes]:
        """The keys that a search wants, in order."""
        found = []
        with self._transaction.cursor() as cursor:
            target = search.seek(b"\0")
            while target is not None and cursor.set_range(target):
                key = cast(bytes, cursor.key())
                target = search.seek(key)
                if target == key:
                    found.append(key)
                    target = search.seek(key + b"\0")
        return found

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        put = self._transaction.put
        for key, value in sorted(dict(items).items()):
            put(key, value)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._transaction.delete(key)


class LmdbStore:
    """A store in a folder on disk, for one machine: any number of readers, one writer at a time.

    The file grows as needed, up to the address space reserved for it. A process that is killed loses nothing that
    `update` had returned from.
    """

    rows_together = 20_000
    may_hang = False

    def __init__(self, path: Path, *, create: bool = True, durable: bool = True) -> None:
        """create: make it where there is none. durable: write every change to disk before `update` returns; without it
        a store is faster and lost with the machine, as suits a temporary one."""
        self.name = str(path)
        if not create and not (path / "data.mdb").is_file():
            raise StoreMissing(
                f"online store {self.name!r}: expected a folder with a store, found none; "
                "fill one with `recsys load-items` and `recsys load-events`"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(path)
            try:
                self._environment = _open(path, durable=durable)
                self._environment.reader_check()  # snapshots of killed processes keep old pages from being used again
            except BaseException:
                self._lock.close()
                raise
        except (OSError, lmdb.Error) as error:
            raise StoreError(
                f"online store {self.name!r} cannot be opened: {error}; expected a folder that can be written"
            ) from error

    @contextmanager
    def read(self) -> Iterator[StoreSnapshot]:
        """A snapshot of the last finished change."""
        try:
            transaction = self._environment.begin(buffers=False)
        except lmdb.Error as error:
            raise StoreError(f"online store {self.name!r} cannot be read: {error}") from error
        try:
            yield _LmdbTransaction(transaction)
        finally:
            transaction.abort()

    def update(self, change: Callable[[Transaction], Result]) -> Result:
        """Run `change`, write it to disk, return its result; on an error nothing of it is kept."""
        try:
            with self._environment.begin(write=True) as transaction:
                return change(_LmdbTransaction(transaction))
        except lmdb.Error as error:
            raise StoreError(
                f"online store {self.name!r} cannot be written: {error}; nothing of this change was kept, "
                "free some disk space or check the folder's rights"
            ) from error

    def update_matching(self, search: KeySearch, change: Callable[[Transaction, list[bytes]], Result]) -> Result:
        """As `update`; the keys are found within the transaction, by a few steps for each run of unwanted ones."""
        return self.update(lambda transaction: change(transaction, cast(_LmdbTransaction, transaction).find(search)))

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """A lock on a file, which the system takes from a process that ends."""
        lock = FileLock(Path(self.name) / f"{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        except OSError as error:
            raise StoreError(
                f"online store {self.name!r} cannot be locked: {error}; check the folder's rights"
            ) from error
        try:
            yield True
        finally:
            lock.release()

    def everything(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values in order. Pages that are overwritten meanwhile are kept: the file grows."""
        try:
            with self._environment.begin(buffers=False) as transaction, transaction.cursor() as cursor:
                yield from cursor.iternext()
        except lmdb.Error as error:
            raise StoreError(f"online store {self.name!r} cannot be read: {error}") from error

    def usage(self) -> StoreUsage:
        """The file's size, and that of its unused pages."""
        pages, info = self._environment.stat(), self._environment.info()
        used = pages["branch_pages"] + pages["leaf_pages"] + pages["overflow_pages"] + _META_PAGES
        written = info["last_pgno"] + 1
        return StoreUsage("lmdb", written * pages["psize"], (written - used) * pages["psize"])

    def close(self) -> None:
        """Close the files."""
        self._environment.close()
        self._lock.close()


def _open(path: Path, *, durable: bool) -> lmdb.Environment:
    """Reserve as much address space as the system grants; disk is taken only as it is written."""
    size = _LARGEST_MAP
    while True:
        try:
            return lmdb.open(os.fspath(path), map_size=size, max_readers=1024, sync=durable, metasync=durable)
        except (lmdb.MemoryError, OverflowError):
            if size <= _SMALLEST_MAP:
                raise
            size //= 4
