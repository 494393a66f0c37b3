"""The interface of a key-value store for the online state; `features.stores.lmdb_store` and `redis_store` implement it.

Keys and values are bytes. Many keys are read at once from one consistent snapshot, keys of a range come in order, and a
transaction is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

MAX_KEY_BYTES = 511
Result = TypeVar("Result")
SCANNED_PREFIXES = b"hilnqv"
"""First bytes of the keys that are read in ranges: a store may keep no order among the others."""


class StoreSnapshot(Protocol):
    """A consistent view of the store."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, None where there is none; as many as `keys`, which may repeat."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` to before `end`, and their values, ascending. Both begin with the same byte, one of
        `SCANNED_PREFIXES`.
        """


class Transaction(StoreSnapshot, Protocol):
    """A view that sees its own writes, which the store keeps all together or not at all."""

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set values."""

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Remove keys, those that are there."""


class KeySearch(Protocol):
    """Which keys are wanted, so that a store that keeps keys in order passes over the others."""

    def seek(self, key: bytes) -> bytes | None:
        """The first key not before `key` that may be wanted, None where there is none. A key that is there is wanted
        where it is its own answer.
        """


@dataclass(frozen=True)
class StoreUsage:
    """What a store takes. kind: lmdb or redis. size: bytes of the file, or of the server's memory. free: bytes of the
    file's pages that nothing uses, which later changes fill; None for memory.
    """

    kind: str
    size: int
    free: int | None


class KeyValueStore(Protocol):
    """A store of the online state. name: where it is, for messages. rows_together: about how many events one change
    should write: more cost less each, and hold up others for longer. may_hang: whether a read waits for another machine
    or process, so that it can take very long."""

    name: str
    rows_together: int
    may_hang: bool

    def read(self) -> AbstractContextManager[StoreSnapshot]:
        """A snapshot, for as long as the context lasts."""

    def update(self, change: Callable[[Transaction], Result]) -> Result:
        """Run `change` in a transaction and make it durable before returning; nothing is kept when it raises.

        One change at a time; others wait. `change` does nothing but read and write its transaction: it may run more
        than once. Raises StoreError where the store cannot keep it.
        """

    def update_matching(self, search: KeySearch, change: Callable[[Transaction, list[bytes]], Result]) -> Result:
        """As `update`, with all keys that a search wants, in order; some of them may be gone. For work that nobody
        waits for: it may look at every key.
        """

    def hold(self, name: str) -> AbstractContextManager[bool]:
        """Have a name to oneself, among all processes that use the store, while the block runs; False, at once, where
        another has it. It is free again soon after its holder was killed.
        """

    def everything(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values as they are when the first is read, in any order, in little memory; writers do not wait.
        A key that is removed meanwhile may come twice, with the same value. Raises StoreError where others overwrite
        more than can be followed.
        """

    def usage(self) -> StoreUsage:
        """What the store takes."""

    def close(self) -> None:
        """Release connections and files; what was acknowledged is durable already."""


def scan_prefix(snapshot: StoreSnapshot, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys that start with `prefix`, and their values, ascending."""
    return snapshot.scan(prefix, _end_of(prefix))


def scan_after(snapshot: StoreSnapshot, prefix: bytes, key: bytes) -> Iterator[tuple[bytes, bytes]]:
    """As `scan_prefix`, only the keys after `key`, which starts with `prefix` too."""
    return snapshot.scan(key + b"\0", _end_of(prefix))


def _end_of(prefix: bytes) -> bytes:
    return prefix + b"\xff" * (MAX_KEY_BYTES - len(prefix))
