"""Where the online state is kept: bytes under bytes, changed in durable transactions. LMDB on disk implements it here,
a Redis server in `features.stores.redis_store`.

Anything with these few operations can stand in for LMDB: many keys read at once from one consistent snapshot, keys of a
range in order, and a change that is written whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar, cast

import lmdb

from features.errors import StoreError, StoreMissing

MAX_KEY_BYTES = 511
_LARGEST_MAP = 2**38
_SMALLEST_MAP = 2**30

Result = TypeVar("Result")


class Snapshot(Protocol):
    """A consistent view of the store."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, None where there is none; as many as `keys`, which may repeat."""

    def between(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` to before `end`, and their values, ascending. Both begin with one same byte, of
        `features.online.keys.RANGED`.
        """


class Transaction(Snapshot, Protocol):
    """A view that sees its own changes, which the store keeps all together or not at all."""

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set values."""

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Remove keys, those that are there."""


class KeyValueStore(Protocol):
    """A store of the online state. name: where it is, for messages."""

    name: str

    def read(self) -> AbstractContextManager[Snapshot]:
        """A snapshot, for as long as the context lasts."""

    def update(self, change: Callable[[Transaction], Result]) -> Result:
        """Run `change` in a transaction and make it durable before returning; nothing is kept when it raises.

        One change at a time; others wait. `change` does nothing but read and write its transaction: it may run more
        than once. Raises StoreError where the store cannot keep it.
        """

    def close(self) -> None:
        """Let go of the store; nothing that was acknowledged is lost without it either."""


def with_prefix(snapshot: Snapshot, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys that start with `prefix`, and their values, ascending."""
    return snapshot.between(prefix, prefix + b"\xff" * (MAX_KEY_BYTES - len(prefix)))


class _LmdbView:
    """One LMDB transaction as a Transaction."""

    def __init__(self, transaction: lmdb.Transaction) -> None:
        self._transaction = transaction

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        get = cast("Callable[[bytes], bytes | None]", self._transaction.get)
        return [get(key) for key in keys]

    def between(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._transaction.cursor() as cursor:
            if not cursor.set_range(start):
                return
            for key, value in cast("Iterator[tuple[bytes, bytes]]", cursor.iternext()):
                if key >= end:
                    return
                yield key, value

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        put = self._transaction.put
        for key, value in sorted(items):
            put(key, value)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._transaction.delete(key)


class LmdbStore:
    """A store in a folder on disk, for one machine: any number of readers, one writer at a time.

    The file grows as needed, up to the address space reserved for it. A process that is killed loses nothing that
    `update` had returned from.
    """

    def __init__(self, path: Path, *, create: bool = True, durable: bool = True) -> None:
        """create: make it where there is none. durable: write every change to disk before `update` returns; without it
        a store is faster and lost with the machine, as suits a temporary one."""
        self.path = Path(path)
        self.name = str(path)
        if not create and not (self.path / "data.mdb").is_file():
            raise StoreMissing(
                f"online store {str(path)!r}: expected a folder with a store, found none; "
                "fill one with `recsys load-items` and `recsys load-events`"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._environment = _open(self.path, durable=durable)
        except (OSError, lmdb.Error) as error:
            raise StoreError(
                f"online store {str(path)!r} cannot be opened: {error}; expected a folder that can be written"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """A snapshot of the last finished change."""
        try:
            transaction = self._environment.begin(buffers=False)
        except lmdb.Error as error:
            raise StoreError(f"online store {str(self.path)!r} cannot be read: {error}") from error
        try:
            yield _LmdbView(transaction)
        finally:
            transaction.abort()

    def update(self, change: Callable[[Transaction], Result]) -> Result:
        """Run `change`, write it to disk, return its result; on an error nothing of it is kept."""
        try:
            with self._environment.begin(write=True) as transaction:
                return change(_LmdbView(transaction))
        except lmdb.Error as error:
            raise StoreError(
                f"online store {str(self.path)!r} cannot be written: {error}; nothing of this change was kept, "
                "free some disk space or check the folder's rights"
            ) from error

    def close(self) -> None:
        """Close the files."""
        self._environment.close()


def open_store(store: str, *, create: bool) -> KeyValueStore:
    """The store in a folder of this machine, or on the Redis server that a URL names.

    create: make it where there is none. Raises StoreError where it cannot be opened.
    """
    if "://" not in store:
        return LmdbStore(Path(store), create=create)
    try:
        from features.stores.redis_store import RedisStore
    except ImportError as error:
        raise StoreError(
            "a store on a Redis server: expected the package redis, found none; "
            "install it with `pip install 'recsys[redis]'`"
        ) from error
    return RedisStore(store, create=create)


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
