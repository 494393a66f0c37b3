"""Collaborative snapshots in the online store: of each item a record of its vectors and one for each list of similar
items.

Stored by what they depend on (encoder and settings) and by build time; `features.online.item_tables` keeps the newest
two. A request reads the records of its history and candidates alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from features.arrays import NO_TIME, Float32, Int32, Int64, Strings
from features.compiled import compiled
from features.online.id_hash import hash_id
from features.online.item_arrays import ItemPlaces, RowsByPlace
from features.online.item_tables import ItemTables, RecordName
from features.stores.base import KeyValueStore, StoreSnapshot
from recsys.collaborative.alignment import Alignment
from recsys.collaborative.neighbours import Neighbours
from recsys.collaborative.snapshot import CollaborativeSnapshot, TableSettings

_NEIGHBOURS, _SEQUENCE, _VECTORS, _WEIGHTS = b"n", b"s", b"v", b"w"
_hash = lru_cache(maxsize=2**17)(hash_id)
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class RequestTables:
    """`TableSource` of one request. as_of: when its snapshot was built, NO_TIME where none was built before it."""

    as_of: int
    built: CollaborativeSnapshot
    settings: TableSettings

    def build_times(self, times: Int64) -> Int64:
        """The same for every time, (n,)."""
        return np.full(len(times), self.as_of)

    def snapshot(self, as_of: int) -> CollaborativeSnapshot:
        """The snapshot, by the codes of the request's catalog."""
        return self.built


def snapshots_owner(settings: TableSettings, *, encoder: str) -> str:
    """What snapshots depend on, as their owner in a store. encoder: its fingerprint."""
    return f"{encoder} {settings.model_dump_json(by_alias=True)}"


class OnlineSnapshots:
    """The snapshots of one ranking model in a store. encoder: its fingerprint. dim: width of its text vectors."""

    def __init__(self, store: KeyValueStore, settings: TableSettings, *, encoder: str, dim: int) -> None:
        self.settings = settings
        self._dim = dim
        self._width = settings.factors + dim + (settings.factors if settings.alignment_clicks else 0)
        self._arrays = RowsByPlace(self._width)
        self._tables = ItemTables(store, snapshots_owner(settings, encoder=encoder))

    def build_times(self, snapshot: StoreSnapshot) -> tuple[int, ...]:
        """When the snapshots in the store were built, ascending, at most two."""
        return tuple(self._tables.editions(snapshot))

    def read(
        self,
        snapshot: StoreSnapshot,
        ids: Strings,
        history: Int32,
        as_of: int,
        places: ItemPlaces | None = None,
        text_vectors: Float32 | None = None,
    ) -> RequestTables:
        """The newest snapshot built at or before a time, for a catalog of these ids and its unknown item.

        history: codes of the items whose neighbours are wanted; a code may repeat. places: of the items, where what is
        read of them may stay in memory. text_vectors: of the items, (n_items + 1, dim), NaN rows where there is none
        now; aligned vectors that follow from them are computed once.
        """
        settings, names = self.settings, ids.tolist()
        rows = np.unique(history)
        editions = self._tables.editions(snapshot)
        build_time = max((time for time in editions if time <= as_of), default=NO_TIME)
        clicked = [names[row] for row in rows.tolist()]
        lists = (_NEIGHBOURS, _SEQUENCE) if settings.sequence_window else (_NEIGHBOURS,)
        records = [RecordName(table, name) for table in lists for name in clicked]
        state = (0 if places is None else places.generation, build_time, editions.get(build_time, 0))
        place = np.zeros(len(names) + 1, np.int64) if places is None else places.place
        vectors, missing = self._arrays.get(state, place)
        missing = missing[missing < len(names)]
        wanted = [RecordName(_VECTORS, names[code]) for code in missing.tolist()]
        values = self._read(snapshot, build_time, [*records, *wanted])  # all at once: one round trip, if it takes any
        stored = values[: len(records)]
        changed = missing
        if len(missing):
            vectors[missing] = self._vectors(values[len(records) :])
        known = np.array([_hash(name) for name in names], np.uint64) if places is None else places.id_hash
        neighbours = _neighbours(known, rows, stored[: len(rows)])
        sequence = _neighbours(known, rows, stored[len(rows) :]) if settings.sequence_window else None
        factors, audience = vectors[:, : settings.factors], vectors[:, settings.factors :][:, : self._dim]
        alignment = None
        if settings.alignment_clicks:
            aligned = np.ascontiguousarray(vectors[:, settings.factors + self._dim :])
            is_predicted = np.isnan(aligned[:-1, 0])
            if text_vectors is not None:
                is_predicted &= ~np.isnan(text_vectors[:-1, 0])
            predicted = np.flatnonzero(is_predicted)
            weights = self._weights(snapshot, build_time, is_read=len(predicted) > 0)
            alignment = Alignment(aligned, weights)
            if len(predicted) and text_vectors is not None and build_time != NO_TIME:
                aligned[predicted] = alignment.predict(text_vectors[predicted])
                vectors[predicted, settings.factors + self._dim :] = aligned[predicted]
                changed = np.union1d(missing, predicted)
        if len(changed):
            self._arrays.put(state, place[changed], vectors[changed])
        built = CollaborativeSnapshot(neighbours, factors, audience, sequence, alignment)
        return RequestTables(build_time, built, settings)

    def save(self, build_time: int, ids: Sequence[str], snapshot: CollaborativeSnapshot) -> None:
        """Store a snapshot, whole or not at all, and remove all but the newest two.

        ids: of the snapshot's items, in the order of their codes.
        """
        self._tables.write(build_time, _records(ids, snapshot))

    def _read(self, snapshot: StoreSnapshot, build_time: int, records: Sequence[RecordName]) -> Sequence[bytes | None]:
        """Records of a snapshot; None for all where none was built."""
        return [None] * len(records) if build_time == NO_TIME else self._tables.read(snapshot, build_time, records)

    def _vectors(self, values: Sequence[bytes | None]) -> Float32:
        """(n, width) rows of the values, NaN for None: factors, audience, aligned vectors."""
        missing = np.full(self._width, np.nan, "<f4").tobytes()
        joined = b"".join([missing if value is None else value for value in values])
        return np.frombuffer(joined, "<f4").reshape(-1, self._width)

    def _weights(self, snapshot: StoreSnapshot, build_time: int, *, is_read: bool) -> Float32:
        """(dim, factors) weights of the alignment, which only items without a record need; NaN where there are none."""
        value = self._read(snapshot, build_time, [RecordName(_WEIGHTS, "")])[0] if is_read else None
        if value is None:
            return np.full((self._dim, self.settings.factors), np.nan, np.float32)
        return np.frombuffer(value, "<f4").reshape(self._dim, -1)


def _records(ids: Sequence[str], snapshot: CollaborativeSnapshot) -> Iterator[tuple[RecordName, bytes]]:
    """Names and values of all items' records, and that of the alignment's weights."""
    hashes = np.array([hash_id(item) for item in ids], "<u8")
    alignment = snapshot.alignment
    aligned = () if alignment is None else (alignment.vectors,)
    vectors = np.column_stack([snapshot.factors, snapshot.audience, *aligned]).astype("<f4")
    for code, item in enumerate(ids):
        for table, neighbours in ((_NEIGHBOURS, snapshot.neighbours), (_SEQUENCE, snapshot.sequence)):
            if neighbours is not None:
                row = slice(neighbours.offsets[code], neighbours.offsets[code + 1])
                similar = hashes[neighbours.item[row]].tobytes() + neighbours.similarity[row].astype("<f4").tobytes()
                yield RecordName(table, item), similar
        yield RecordName(_VECTORS, item), vectors[code].tobytes()
    if alignment is not None:
        yield RecordName(_WEIGHTS, ""), alignment.weights.astype("<f4").tobytes()


def _neighbours(known: Hashes, rows: Int32, values: Sequence[bytes | None]) -> Neighbours:
    """Similarities between items of a catalog and of the unknown one: of some rows, ascending, to any, from the rows'
    records. known: (n_items,) hashes of the ids."""
    lengths = np.array([len(value or b"") // 12 for value in values], np.int64)
    joined = b"".join([value for value in values if value])
    words, numbers = np.frombuffer(joined, "<i4"), np.frombuffer(joined, "<f4")
    offsets = np.zeros(len(known) + 2, np.int64)
    item, similarity = np.empty(len(words) // 3, np.int32), np.empty(len(words) // 3, np.float32)
    n = _fill_neighbours(words, numbers, lengths, rows, known, offsets, item, similarity)
    return Neighbours(offsets, item[:n], similarity[:n])


@compiled
def _fill_neighbours(
    words: Int32,
    numbers: Float32,
    lengths: Int64,
    rows: Int32,
    known: Hashes,
    offsets: Int64,
    item: Int32,
    similarity: Float32,
) -> int:
    """Fill `Neighbours` of the items that are known; how many are. words, numbers: the records as whole numbers and as
    floats of 32 bits, each the hashes of its items and then their similarities. lengths: items of each. Codes are found
    by a hash table with linear probing; of equal hashes the first counts."""
    size = 4
    while size < 4 * len(known):
        size *= 2
    slots, mask = np.full(size, -1, np.int32), np.uint64(size - 1)
    for code in range(len(known)):
        slot = known[code] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = code
    n, start, row = 0, 0, 0
    for record in range(len(rows)):
        while row <= rows[record]:
            offsets[row] = n
            row += 1
        first_number = start + 2 * lengths[record]
        for place in range(lengths[record]):
            low, high = np.uint32(words[start + 2 * place]), np.uint32(words[start + 2 * place + 1])
            wanted = (np.uint64(high) << np.uint64(32)) | np.uint64(low)
            slot = wanted & mask
            while slots[slot] >= 0:
                if known[slots[slot]] == wanted:
                    item[n], similarity[n] = slots[slot], numbers[first_number + place]
                    n += 1
                    break
                slot = (slot + np.uint64(1)) & mask
        start = first_number + lengths[record]
    while row < len(offsets):
        offsets[row] = n
        row += 1
    return n
