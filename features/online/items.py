"""Stored items: texts, date, categories, numbers and vectors of the items table, as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct

import numpy as np
import orjson

from features.arrays import NO_TIME, CsrLists, Float32, Int64, Strings
from features.log import Catalog, Categorical
from features.online.item_changes import ItemMemory
from features.online.keys import item_key
from features.stores.base import StoreSnapshot

_LENGTH = Struct("<I")
CACHED_ITEMS = 200_000
"""Items that stay in memory."""


@dataclass(frozen=True)
class StoredItem:
    """One row of the items table. published_at: microseconds, NO_TIME where missing. categories: column to its values;
    missing values are in none of the mappings. vectors: column to (d,) float32.
    """

    item_id: str
    title: str = ""
    description: str = ""
    published_at: int = NO_TIME
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    vectors: Mapping[str, Float32] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def values(self, column: str) -> tuple[str, ...]:
        """The distinct values of a categorical column, sorted; none where missing."""
        values = self.categories.get(column, ())
        return values if len(values) < 2 else tuple(sorted(set(values)))

    def pack(self) -> bytes:
        """The item as bytes, equal for equal items; its id is not among them."""
        parts = (
            self.title,
            self.description,
            self.published_at,
            {column: self.values(column) for column in sorted(self.categories)},
            {column: self.numbers[column] for column in sorted(self.numbers)},
            {column: self.texts[column] for column in sorted(self.texts)},
            {column: len(self.vectors[column]) for column in sorted(self.vectors)},
        )
        text = orjson.dumps(parts)
        vectors = [np.asarray(self.vectors[column], np.float32).tobytes() for column in sorted(self.vectors)]
        return b"".join((_LENGTH.pack(len(text)), text, *vectors))


def unpack_item(item_id: str, value: bytes) -> StoredItem:
    """The item of the bytes of `StoredItem.pack`."""
    start = _LENGTH.size + _LENGTH.unpack_from(value)[0]
    title, description, published_at, categories, numbers, texts, widths = orjson.loads(value[_LENGTH.size : start])
    vectors = {}
    for column, width in widths.items():
        vectors[column] = np.frombuffer(value, np.float32, width, start)
        start += 4 * width
    categories = {column: tuple(values) for column, values in categories.items()}
    return StoredItem(item_id, title, description, published_at, categories, numbers, vectors, texts)


def read_items(snapshot: StoreSnapshot, ids: Sequence[str]) -> dict[str, StoredItem | None]:
    """The items of those ids, None for one that is not stored."""
    values = snapshot.get_many([item_key(item) for item in ids])
    return {item: None if value is None else unpack_item(item, value) for item, value in zip(ids, values, strict=True)}


class ItemCache(ItemMemory):
    """Stored items in memory. Safe for threads."""

    def _clear(self) -> None:
        self._items: dict[str, StoredItem | None] = {}

    def _drop(self, ids: Sequence[str]) -> None:
        for item in ids:
            self._items.pop(item, None)

    def read(self, snapshot: StoreSnapshot, version: int, ids: Iterable[str]) -> dict[str, StoredItem]:
        """The items of those ids that are stored. version: of the items in the snapshot."""
        item_ids = list(ids)
        self._catch_up(snapshot, version)
        with self._lock:
            held = self._items if self._version == version else {}
            cached = {item: held[item] for item in item_ids if item in held}  # others may change what is held
        fresh = read_items(snapshot, [item for item in item_ids if item not in cached])
        with self._lock:
            if self._version == version:
                if len(self._items) > CACHED_ITEMS:
                    self._clear()
                self._items.update(fresh)
        return {item: stored for item in item_ids if (stored := fresh.get(item) or cached.get(item)) is not None}


def split_values(text: str) -> tuple[str, ...]:
    """The category values of a cell, which `|` separates; blanks around them do not count."""
    return tuple(value for value in (part.strip() for part in text.split("|")) if value)


def local_catalog(
    ids: Sequence[str],
    items: Mapping[str, StoredItem],
    *,
    categories: Sequence[str],
    numbers: Sequence[str],
    vectors: Mapping[str, int],
) -> Catalog:
    """A catalog of a few items. ids: sorted and distinct; one that is not in `items` has no columns.

    categories, numbers: the columns it has to have. vectors: vector column to its width.
    """
    rows = [items.get(item_id) or StoredItem(item_id) for item_id in ids]
    rows.append(StoredItem(""))
    texts = sorted({column for row in rows for column in row.texts})
    return Catalog(
        _strings(ids),
        _strings([row.title for row in rows]),
        _strings([row.description for row in rows]),
        np.array([row.published_at for row in rows], np.int64),
        {column: categorical([row.values(column) for row in rows]) for column in categories},
        {column: np.array([row.numbers.get(column, np.nan) for row in rows], np.float64) for column in numbers},
        {column: _matrix([row.vectors.get(column) for row in rows], width) for column, width in vectors.items()},
        {column: _strings([row.texts.get(column, "") for row in rows]) for column in texts},
    )


def _strings(values: Sequence[str]) -> Strings:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def categorical(rows: Sequence[tuple[str, ...]]) -> Categorical:
    """A column of the category values of each row."""
    values = tuple(sorted({value for row in rows for value in row}))
    code = {value: number for number, value in enumerate(values)}
    offsets: Int64 = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Categorical(values, CsrLists(offsets, np.array([code[value] for row in rows for value in row], np.int32)))


def _matrix(rows: Sequence[Float32 | None], width: int) -> Float32:
    matrix = np.full((len(rows), width), np.nan, np.float32)
    for number, row in enumerate(rows):
        if row is not None and len(row) == width:
            matrix[number] = row
    return matrix
