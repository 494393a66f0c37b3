"""Tables of item records in the online store, in versions: a version is written whole, and the newest two stay.

A version is a number that grows, such as the time that its records were computed as of. A pointer names the versions
that are complete, and their editions: a version that is written again gets another edition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from struct import Struct
from typing import NamedTuple

from features.online.keys import ITEM_TABLES
from features.stores.base import KeyValueStore, StoreSnapshot, Transaction

_VERSION, _EDITION = Struct(">Q"), Struct(">QQ")
_OFFSET = 2**63
_POINTER, _RECORDS = b"p", b"n"
_N_VERSIONS = 2
_OWNER_BYTES = 8
_BATCH = 2_000


class RecordName(NamedTuple):
    """Names a record of a version. table: one byte. item: its id."""

    table: bytes
    item: str


class ItemTables:
    """The tables of one owner in a store. owner: text that identifies what the records depend on."""

    def __init__(self, store: KeyValueStore, owner: str) -> None:
        self._store = store
        self._prefix = ITEM_TABLES + bytes.fromhex(owner_hash(owner))

    def editions(self, snapshot: StoreSnapshot) -> dict[int, int]:
        """The complete versions, ascending, at most two, with the edition of each."""
        value = snapshot.get_many([self._prefix + _POINTER])[0] or b""
        return {version - _OFFSET: edition for version, edition in _EDITION.iter_unpack(value)}

    def read(self, snapshot: StoreSnapshot, version: int, names: Iterable[RecordName]) -> list[bytes | None]:
        """Records of a version, None where it has none of that name."""
        head = self._head(version)
        return snapshot.get_many([head + table + item.encode() for table, item in names])

    def write(self, version: int, records: Iterable[tuple[RecordName, bytes]]) -> None:
        """Write all records of a version, and remove all but the newest two."""
        head = self._head(version)
        rows = ((head + table + item.encode(), value) for (table, item), value in records)
        while batch := list(islice(rows, _BATCH)):
            self._store.update(lambda transaction, batch=batch: transaction.put_many(batch))  # type: ignore[misc]
        oldest = self._store.update(lambda transaction: self._complete(transaction, version))
        with self._store.read() as snapshot:
            old = [key for key, _ in snapshot.scan(self._prefix + _RECORDS, self._head(oldest))]
        for start in range(0, len(old), _BATCH):
            keys: Sequence[bytes] = old[start : start + _BATCH]
            self._store.update(lambda transaction, keys=keys: transaction.delete_many(keys))  # type: ignore[misc]

    def _complete(self, transaction: Transaction, version: int) -> int:
        """Point to a version that is written, in a new edition; the oldest one that stays."""
        editions = self.editions(transaction)
        editions[version] = max(editions.values(), default=0) + 1
        newest = sorted(editions)[-_N_VERSIONS:]
        pointer = b"".join(_EDITION.pack(number + _OFFSET, editions[number]) for number in newest)
        transaction.put_many([(self._prefix + _POINTER, pointer)])
        return newest[0]

    def _head(self, version: int) -> bytes:
        """Begins the keys of a version; those of older versions come before it."""
        return self._prefix + _RECORDS + _VERSION.pack(version + _OFFSET)


def owner_hash(owner: str) -> str:
    """What stands for an owner in keys, hexadecimal."""
    return blake2b(owner.encode(), digest_size=_OWNER_BYTES).hexdigest()


def owner_of(key: bytes) -> str:
    """The `owner_hash` in a key."""
    return key[len(ITEM_TABLES) : len(ITEM_TABLES) + _OWNER_BYTES].hex()


def completed_versions(key: bytes, value: bytes) -> tuple[int, ...]:
    """The complete versions that a pointer names, ascending; none where the key is not a pointer's."""
    if key[:1] != ITEM_TABLES or key[len(ITEM_TABLES) + _OWNER_BYTES :] != _POINTER:
        return ()
    return tuple(version - _OFFSET for version, _ in _EDITION.iter_unpack(value))
