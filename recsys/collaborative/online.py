"""Collaborative tables in the online store: of each item one record of its neighbours and one of its vectors.

Keyed by what the tables depend on (encoder and settings) and by when they were made. A pointer names the two newest
makings, which are whole; older ones are removed. A request reads the records of its history and candidates alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from struct import Struct
from typing import TypeVar

import numpy as np

from features.arrays import NO_TIME, Float32, Int32, Int64, Strings
from features.online.keys import hash_id
from features.stores.base import KeyValueStore, StoreSnapshot
from recsys.collaborative.snapshot import CollaborativeSnapshot, Neighbours, TableSettings

_TABLES = b"n"
_EDGES, _NEIGHBOURS, _VECTORS = b"e", b"n", b"v"
_EDGE = Struct(">Q")
_TIME_OFFSET = 2**63
_KEPT = 2
_AT_ONCE = 2_000
_hash = lru_cache(maxsize=2**17)(hash_id)

Row = TypeVar("Row")


@dataclass(frozen=True)
class RequestTables:
    """`TableSource` of one request. edge: when its tables were made, NO_TIME where none were made before it."""

    edge: int
    made: CollaborativeSnapshot

    def edges(self, moments: Int64) -> Int64:
        """The same for every moment, (n,)."""
        return np.full(len(moments), self.edge)

    def tables(self, edge: int) -> CollaborativeSnapshot:
        """The tables, by the codes of the request's catalog."""
        return self.made


class OnlineSnapshots:
    """The tables of one unit in a store. encoder: its fingerprint. dim: width of its text vectors."""

    def __init__(self, store: KeyValueStore, settings: TableSettings, *, encoder: str, dim: int) -> None:
        self.settings = settings
        self._store = store
        self._dim = dim
        made_of = f"{encoder} {settings.model_dump_json()}"
        self._prefix = _TABLES + blake2b(made_of.encode(), digest_size=8).digest()

    def edges(self) -> tuple[int, ...]:
        """When the tables that are there were made, ascending, at most two."""
        with self._store.read() as snapshot:
            return self._edges(snapshot)

    def read(self, ids: Strings, history: Int32, moment: int) -> RequestTables:
        """The newest tables made at or before a moment, for a catalog of these ids and its undescribed item.

        history: codes of the items whose neighbours are wanted; a code may repeat.
        """
        names = ids.tolist()
        rows = np.unique(history).tolist()
        with self._store.read() as snapshot:
            edge = max((edge for edge in self._edges(snapshot) if edge <= moment), default=NO_TIME)
            keys = [self._key(edge, _VECTORS, name) for name in names]
            keys += [self._key(edge, _NEIGHBOURS, names[row]) for row in rows]
            values = snapshot.get_many(keys) if edge != NO_TIME else [None] * len(keys)
        vectors = self._vectors(values[: len(names)])
        neighbours = _neighbours(names, rows, values[len(names) :])
        split = self.settings.factors
        return RequestTables(edge, CollaborativeSnapshot(neighbours, vectors[:, :split], vectors[:, split:]))

    def save(self, edge: int, ids: Sequence[str], tables: CollaborativeSnapshot) -> None:
        """Keep tables made at an edge, whole or not at all, and let go of all but the newest two.

        ids: of the tables' items, in the order of their codes.
        """
        for part in _parts(self._records(edge, ids, tables)):
            self._store.update(lambda transaction, part=part: transaction.put_many(part))  # type: ignore[misc]
        kept = sorted({*self.edges(), edge})[-_KEPT:]
        pointer = b"".join(_EDGE.pack(one + _TIME_OFFSET) for one in kept)
        self._store.update(lambda transaction: transaction.put_many([(self._prefix + _EDGES, pointer)]))
        self._remove_before(kept[0])

    def _remove_before(self, oldest: int) -> None:
        with self._store.read() as snapshot:
            limit = self._key(oldest, b"", "")
            gone = [key for key, _ in snapshot.scan(self._prefix + _NEIGHBOURS, limit)]
        for part in _parts(gone):
            self._store.update(lambda transaction, part=part: transaction.delete_many(part))  # type: ignore[misc]

    def _records(self, edge: int, ids: Sequence[str], tables: CollaborativeSnapshot) -> Iterable[tuple[bytes, bytes]]:
        """Keys and values of all items' records."""
        hashes = np.array([hash_id(item) for item in ids], "<u8")
        neighbours = tables.neighbours
        vectors = np.column_stack([tables.factors, tables.audience]).astype("<f4")
        for code, item in enumerate(ids):
            row = slice(neighbours.offsets[code], neighbours.offsets[code + 1])
            similar = hashes[neighbours.item[row]].tobytes() + neighbours.similarity[row].astype("<f4").tobytes()
            yield self._key(edge, _NEIGHBOURS, item), similar
            yield self._key(edge, _VECTORS, item), vectors[code].tobytes()

    def _vectors(self, values: Sequence[bytes | None]) -> Float32:
        """(n + 1, factors + dim) rows of the values, NaN for None and for the last one."""
        width = self.settings.factors + self._dim
        missing = np.full(width, np.nan, "<f4").tobytes()
        joined = b"".join([missing if value is None else value for value in (*values, None)])
        return np.frombuffer(joined, "<f4").reshape(-1, width)

    def _edges(self, snapshot: StoreSnapshot) -> tuple[int, ...]:
        value = snapshot.get_many([self._prefix + _EDGES])[0] or b""
        return tuple(edge - _TIME_OFFSET for (edge,) in _EDGE.iter_unpack(value))

    def _key(self, edge: int, kind: bytes, item: str) -> bytes:
        """Keys of one making lie together, older makings first."""
        return self._prefix + _NEIGHBOURS + _EDGE.pack(edge + _TIME_OFFSET) + kind + item.encode()


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
        known = np.frombuffer(value, "<u8", n)
        place = np.searchsorted(hashes, known, sorter=order)
        place[place == len(names)] = 0
        item = order[place]
        here = np.flatnonzero(hashes[item] == known)
        items.append(item[here].astype(np.int32))
        similarities.append(np.frombuffer(value, "<f4", n, 8 * n)[here])
        lengths[row + 1] = len(here)
    return Neighbours(np.cumsum(lengths), np.concatenate(items), np.concatenate(similarities))


def _parts(rows: Iterable[Row]) -> Iterable[list[Row]]:
    iterator = iter(rows)
    while part := list(islice(iterator, _AT_ONCE)):
        yield part
