"""Collaborative snapshots in the online store: of each item one record of its neighbours and one of its vectors.

Stored by what they depend on (encoder and settings) and by build time; `features.online.item_tables` keeps the newest
two. A request reads the records of its history and candidates alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from features.arrays import NO_TIME, Float32, Int32, Int64, Strings
from features.online.id_hash import hash_id
from features.online.item_tables import ItemTables, RecordName
from features.stores.base import KeyValueStore, StoreSnapshot
from recsys.collaborative.snapshot import CollaborativeSnapshot, Neighbours, TableSettings

_NEIGHBOURS, _VECTORS = b"n", b"v"
_hash = lru_cache(maxsize=2**17)(hash_id)


@dataclass(frozen=True)
class RequestTables:
    """`TableSource` of one request. as_of: when its snapshot was built, NO_TIME where none was built before it."""

    as_of: int
    built: CollaborativeSnapshot

    def build_times(self, times: Int64) -> Int64:
        """The same for every time, (n,)."""
        return np.full(len(times), self.as_of)

    def snapshot(self, as_of: int) -> CollaborativeSnapshot:
        """The snapshot, by the codes of the request's catalog."""
        return self.built


class OnlineSnapshots:
    """The snapshots of one ranking model in a store. encoder: its fingerprint. dim: width of its text vectors."""

    def __init__(self, store: KeyValueStore, settings: TableSettings, *, encoder: str, dim: int) -> None:
        self.settings = settings
        self._dim = dim
        self._tables = ItemTables(store, f"{encoder} {settings.model_dump_json(by_alias=True)}")

    def build_times(self, snapshot: StoreSnapshot) -> tuple[int, ...]:
        """When the snapshots in the store were built, ascending, at most two."""
        return self._tables.versions(snapshot)

    def read(self, snapshot: StoreSnapshot, ids: Strings, history: Int32, as_of: int) -> RequestTables:
        """The newest snapshot built at or before a time, for a catalog of these ids and its unknown item.

        history: codes of the items whose neighbours are wanted; a code may repeat.
        """
        names = ids.tolist()
        rows = np.unique(history).tolist()
        build_time = max((time for time in self.build_times(snapshot) if time <= as_of), default=NO_TIME)
        records = [RecordName(_VECTORS, name) for name in names]
        records += [RecordName(_NEIGHBOURS, names[row]) for row in rows]
        none: list[bytes | None] = [None] * len(records)
        values = none if build_time == NO_TIME else self._tables.read(snapshot, build_time, records)
        vectors = self._vectors(values[: len(names)])
        neighbours = _neighbours(names, rows, values[len(names) :])
        split = self.settings.factors
        return RequestTables(build_time, CollaborativeSnapshot(neighbours, vectors[:, :split], vectors[:, split:]))

    def save(self, build_time: int, ids: Sequence[str], snapshot: CollaborativeSnapshot) -> None:
        """Store a snapshot, whole or not at all, and remove all but the newest two.

        ids: of the snapshot's items, in the order of their codes.
        """
        self._tables.write(build_time, _records(ids, snapshot))

    def _vectors(self, values: Sequence[bytes | None]) -> Float32:
        """(n + 1, factors + dim) rows of the values, NaN for None and for the last one."""
        width = self.settings.factors + self._dim
        missing = np.full(width, np.nan, "<f4").tobytes()
        joined = b"".join([missing if value is None else value for value in (*values, None)])
        return np.frombuffer(joined, "<f4").reshape(-1, width)


def _records(ids: Sequence[str], snapshot: CollaborativeSnapshot) -> Iterator[tuple[RecordName, bytes]]:
    """Names and values of all items' records."""
    hashes = np.array([hash_id(item) for item in ids], "<u8")
    neighbours = snapshot.neighbours
    vectors = np.column_stack([snapshot.factors, snapshot.audience]).astype("<f4")
    for code, item in enumerate(ids):
        row = slice(neighbours.offsets[code], neighbours.offsets[code + 1])
        similar = hashes[neighbours.item[row]].tobytes() + neighbours.similarity[row].astype("<f4").tobytes()
        yield RecordName(_NEIGHBOURS, item), similar
        yield RecordName(_VECTORS, item), vectors[code].tobytes()


def _neighbours(names: Sequence[str], rows: Sequence[int], values: Sequence[bytes | None]) -> Neighbours:
    """Similarities between items of a catalog: of some rows to any, from the rows' records."""
    hashes = np.array([_hash(name) for name in names], np.uint64)
    order = np.argsort(hashes)
    lengths = np.zeros(len(names) + 2, np.int64)
    items, similarities = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for row, value in zip(rows, values, strict=True):
        n = len(value or b"") // 12
        if value is None or not n:
            continue
        similar = np.frombuffer(value, "<u8", n)
        position = np.searchsorted(hashes, similar, sorter=order)
        position[position == len(names)] = 0
        item = order[position]
        inside = np.flatnonzero(hashes[item] == similar)
        items.append(item[inside].astype(np.int32))
        similarities.append(np.frombuffer(value, "<f4", n, 8 * n)[inside])
        lengths[row + 1] = len(inside)
    return Neighbours(np.cumsum(lengths), np.concatenate(items), np.concatenate(similarities))
