"""The columns of stored items in arrays that stay in memory, so that the catalog of a request is a few look-ups.

Each item that a request names gets a place, where its columns stand until the items change or there are too many.
Place 0 is an item without columns. What else is kept by place, such as the vectors of its text, says of which
generation the places are: a new one begins whenever places are given anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import NO_TIME, CsrLists, Float32, Int32, Int64, Strings
from features.compiled import compiled
from features.log import Catalog, Categorical
from features.online.id_hash import hash_id
from features.online.item_changes import ItemMemory
from features.online.items import CACHED_ITEMS, StoredItem, read_items
from features.online.settings import StoreSettings
from features.stores.base import StoreSnapshot

_FIRST_CAPACITY = 1024


@dataclass(frozen=True)
class ItemPlaces:
    """The places of a catalog's items and of the unknown one, (n_items + 1,). generation: of the places. id_hash:
    `hash_id` of the items' ids, (n_items,)."""

    generation: int
    place: Int64
    id_hash: npt.NDArray[np.uint64]


class GrowingArray:
    """An array whose first axis grows; what is added stays where it is. fill: of places that nothing was written to."""

    def __init__(self, dtype: npt.DTypeLike, width: tuple[int, ...] = (), *, fill: object = 0) -> None:
        self._fill = fill
        self.values = np.full((_FIRST_CAPACITY, *width), fill, dtype)

    def reserve(self, n: int) -> None:
        """Make room for n places. Arrays that were read before keep what they held."""
        values = self.values
        if n > len(values):
            grown = np.full((max(n, 2 * len(values)), *values.shape[1:]), self._fill, values.dtype)
            grown[: len(values)] = values
            self.values = grown


class RowsByPlace:
    """Rows of numbers by place, filled as they are asked for, of one state of what they are computed from. Safe for
    threads."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._lock = Lock()
        self._state: tuple[int, ...] = ()
        self._clear()

    def _clear(self) -> None:
        self._filled, self._rows = GrowingArray(np.bool_), GrowingArray(np.float32, (self._width,), fill=np.nan)

    def get(self, state: tuple[int, ...], place: Int64) -> tuple[Float32, Int64]:
        """The rows of some places, (n, width), and the positions of those that are not here, where they are NaN.

        state: the generation of the places first. Nothing of an older state than the last one is here, nor is place 0.
        """
        with self._lock:
            if state > self._state:
                self._state = state
                self._clear()
            if state < self._state:
                return np.full((len(place), self._width), np.nan, np.float32), np.arange(len(place))
            for array in (self._filled, self._rows):
                array.reserve(int(place.max()) + 1)
            return self._rows.values[place], np.flatnonzero(~self._filled.values[place])

    def put(self, state: tuple[int, ...], place: Int64, rows: Float32) -> None:
        """Keep the rows of some places, unless a newer state has been asked for."""
        kept = place > 0
        with self._lock:
            if state == self._state:
                self._rows.values[place[kept]] = rows[kept]
                self._filled.values[place[kept]] = True


@dataclass(eq=False)
class _Values:
    """A categorical column. names: its values, by code. offsets: where the codes of each place begin, and end."""

    names: list[str] = field(default_factory=list)
    code: dict[str, int] = field(default_factory=dict)
    codes: GrowingArray = field(default_factory=lambda: GrowingArray(np.int32))
    offsets: GrowingArray = field(default_factory=lambda: GrowingArray(np.int64))
    _local: GrowingArray = field(default_factory=lambda: GrowingArray(np.int32, fill=-1))

    def add(self, place: int, values: Sequence[str]) -> None:
        """Append the values of the next place, counted from 1."""
        self.offsets.reserve(place + 2)
        start = int(self.offsets.values[place])
        end = start + len(values)
        self.codes.reserve(end)
        for position, value in enumerate(values, start):
            if value not in self.code:
                self.code[value] = len(self.names)
                self.names.append(value)
            self.codes.values[position] = self.code[value]
        self.offsets.values[place + 1] = end

    def of(self, place: Int64) -> Categorical:
        """The column for some places, with the values that occur in them."""
        self.offsets.reserve(int(place.max()) + 2)
        self._local.reserve(len(self.names))
        offsets = np.zeros(len(place) + 1, np.int64)
        lists = (self.offsets.values, self.codes.values)
        found, local = _distinct_values(lists, place, self._local.values, offsets)
        names = self.names
        occurring = [names[code] for code in found.tolist()]
        order = sorted(range(len(occurring)), key=occurring.__getitem__)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return Categorical(tuple([occurring[code] for code in order]), CsrLists(offsets, rank[local]))


@compiled
def _distinct_values(lists: tuple[Int64, Int32], place: Int64, local: Int32, offsets: Int64) -> tuple[Int32, Int32]:
    """The distinct codes of some places in the order of their first occurrence, and the position in it of each code
    of each place. lists: offsets and codes of all places. local: by code, -1 before and after. offsets: zeros, filled
    with where the codes of each of the places begin."""
    starts, codes = lists
    for row in range(len(place)):
        offsets[row + 1] = offsets[row] + starts[place[row] + 1] - starts[place[row]]
    found, positions = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int32)
    n, entry = 0, 0
    for row in range(len(place)):
        for source in range(starts[place[row]], starts[place[row] + 1]):
            code = codes[source]
            if local[code] < 0:
                local[code], found[n] = n, code
                n += 1
            positions[entry] = local[code]
            entry += 1
    for position in range(n):
        local[found[position]] = -1
    return found[:n], positions


class ItemArrays(ItemMemory):
    """The items of an online state by place. Safe for threads."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._generation = 0
        super().__init__()

    def _clear(self) -> None:
        settings = self._settings
        self._generation += 1
        self._place: dict[str, int] = {}
        self._n = 1
        self._id_hash = GrowingArray(np.uint64)
        self._title, self._description = GrowingArray(object, fill=""), GrowingArray(object, fill="")
        self._published_at = GrowingArray(np.int64, fill=NO_TIME)
        self._values = {column: _Values() for column in settings.categories}
        self._numbers = {column: GrowingArray(np.float64, fill=np.nan) for column in settings.numbers}
        self._vectors = {column: GrowingArray(np.float32, (width,), fill=np.nan) for column, width in settings.vectors}
        self._texts: dict[str, GrowingArray] = {}

    def _drop(self, ids: Sequence[str]) -> None:
        for item in ids:
            self._place.pop(item, None)

    def catalog(self, snapshot: StoreSnapshot, version: int, ids: Sequence[str]) -> tuple[Catalog, ItemPlaces] | None:
        """The catalog of some items, which are stored or not; None where the items have changed since the snapshot.

        version: of the items in the snapshot. ids: sorted and distinct.
        """
        self._catch_up(snapshot, version)
        with self._lock:
            missing = [item for item in ids if item not in self._place]
        fresh = read_items(snapshot, missing) if missing else {}
        with self._lock:
            if self._version != version:
                return None
            if max(self._n, len(self._place)) + len(fresh) > CACHED_ITEMS:
                self._clear()
            dropped = [item for item in ids if item not in self._place and item not in fresh]
            if dropped:  # just now, here or by another thread
                fresh |= read_items(snapshot, dropped)
            for item, stored in fresh.items():
                if item not in self._place:
                    self._place[item] = 0 if stored is None else self._add(stored)
            place = np.fromiter(map(self._place.__getitem__, ids), np.int64, len(ids))
            place = np.append(place, 0)
            return self._catalog(ids, place), ItemPlaces(self._generation, place, self._hashes(ids, place[:-1]))

    def _hashes(self, ids: Sequence[str], place: Int64) -> npt.NDArray[np.uint64]:
        hashes: npt.NDArray[np.uint64] = self._taken(self._id_hash, place)
        for row in np.flatnonzero(place == 0).tolist():
            hashes[row] = hash_id(ids[row])
        return hashes

    def _add(self, item: StoredItem) -> int:
        """The place that an item's columns are written to."""
        place = self._n
        self._n += 1
        cells: list[tuple[GrowingArray, object]] = [
            (self._id_hash, hash_id(item.item_id)),
            (self._title, item.title),
            (self._description, item.description),
            (self._published_at, item.published_at),
        ]
        cells += [(column, item.numbers[name]) for name, column in self._numbers.items() if name in item.numbers]
        for name, column in self._vectors.items():
            if name in item.vectors and len(item.vectors[name]) == column.values.shape[1]:
                cells.append((column, item.vectors[name]))
        for name, text in item.texts.items():
            cells.append((self._texts.setdefault(name, GrowingArray(object, fill="")), text))
        for column, cell in cells:
            column.reserve(place + 1)
            column.values[place] = cell
        for name, values in self._values.items():
            values.add(place, item.values(name))
        return place

    def _catalog(self, ids: Sequence[str], place: Int64) -> Catalog:
        strings: Strings = np.empty(len(ids), object)
        strings[:] = ids
        return Catalog(
            strings,
            self._taken(self._title, place),
            self._taken(self._description, place),
            self._taken(self._published_at, place),
            {name: values.of(place) for name, values in self._values.items()},
            {name: self._taken(column, place) for name, column in self._numbers.items()},
            {name: self._taken(column, place) for name, column in self._vectors.items()},
            {name: self._taken(column, place) for name, column in self._texts.items()},
        )

    def _taken(self, column: GrowingArray, place: Int64) -> Any:
        column.reserve(self._n)
        return column.values[place]
