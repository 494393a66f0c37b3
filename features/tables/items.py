"""The items table as a catalog: texts, dates, and the further columns that are requested or look like categories.

Reads `items` of a data directory in one pass; the last row of an item id counts, as in a log of changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrays import NO_TIME, CsrLists, Float32, Float64, Int64, Strings
from features.errors import InputError
from features.log import Catalog, Categorical
from features.tables.formats import columns_of, files_of
from features.tables.schema import ITEMS, ColumnSpec, Kind, Schema
from features.tables.table_reader import TableReader

CATEGORY = "category"
_PLAIN = ("item_id", "title", "description", "published_at")


@dataclass(frozen=True)
class CatalogColumns:
    """Which further columns of the items table are read. categories None: every text column whose values repeat.

    extra_categories: read as categories beside those. requested_by: what names a column, where that is not the option
    of its kind, for the error that it is missing.
    """

    categories: tuple[str, ...] | None = None
    numbers: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    extra_categories: tuple[str, ...] = ()
    requested_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def named_categories(self) -> tuple[str, ...]:
        """The categorical columns that are named, sorted."""
        return tuple(sorted({*(self.categories or ()), *self.extra_categories}))

    def required(self, kind: Kind, option: str, names: Iterable[str]) -> list[ColumnSpec]:
        """Columns that the file must have. option: what names them unless `requested_by` says otherwise."""
        requested_by = self.requested_by
        return [
            ColumnSpec(f"{kind} {name}", kind, True, source=name, requested_by=requested_by.get(name, option))
            for name in names
        ]


@dataclass(frozen=True)
class ItemsTable:
    """The items table: one row an item, canonical columns, in the order of the input.

    categories: the columns that hold categories. repeats: rows left out because their item id comes again later.
    """

    data: pa.Table
    columns: CatalogColumns
    categories: tuple[str, ...]
    repeats: int

    @property
    def ids(self) -> pa.Array:
        """Item ids, distinct, large_string."""
        return self.data.column("item_id").combine_chunks()


def item_schema(path: Path, encoding: str, columns: CatalogColumns) -> Schema:
    """The items table at `path` with the further `columns`. Raises InputError where its files cannot be read."""
    further = columns.required("number", "numbers", columns.numbers)
    further += columns.required("vector", "vectors", columns.vectors)
    further += [
        ColumnSpec(f"text {name}", "text", name != CATEGORY, source=name, requested_by="the text template")
        for name in columns.texts
        if name not in _PLAIN
    ]
    named = columns.named_categories
    further += columns.required("category", "categories", named)
    if columns.categories is None:
        typed = (pair for file in files_of(path, encoding) for pair in columns_of(file).items())
        text_columns = dict.fromkeys(name for name, arrow_type in typed if _is_text_type(arrow_type))
        taken = {*_PLAIN, *columns.numbers, *columns.vectors, CATEGORY, *named}
        further += [
            ColumnSpec(f"category {name}", "category", source=name) for name in text_columns if name not in taken
        ]
    if CATEGORY not in named:
        further.append(ColumnSpec(f"category {CATEGORY}", "category", source=CATEGORY))
    return ITEMS.with_columns(further)


def _is_text_type(arrow_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(arrow_type) or pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        arrow_type = arrow_type.value_type
    return any(
        test(arrow_type)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)
    )


def read_items(reader: TableReader, columns: CatalogColumns) -> ItemsTable:
    """All usable items of a reader whose schema is an `item_schema`."""
    data = pa.Table.from_batches([checked.data for checked in reader])
    last_rows = last_of_each(data.column("item_id"))
    repeats = len(data) - len(last_rows)
    data = data.take(last_rows) if repeats else data
    return ItemsTable(data, columns, _category_columns(data, columns), repeats)


def last_of_each(ids: pa.ChunkedArray) -> Int64:
    """Positions of the last row of each id, ascending."""
    codes = ids.combine_chunks().dictionary_encode().indices.to_numpy()
    _, from_behind = np.unique(codes[::-1], return_index=True)
    return np.sort(len(codes) - 1 - from_behind)


def _category_columns(data: pa.Table, columns: CatalogColumns) -> tuple[str, ...]:
    """Names of the columns that are categories: those named, or those whose distinct values are fewer than half the
    rows that have one; `category` is always one where it exists."""
    read = [name.removeprefix("category ") for name in data.column_names if name.startswith("category ")]
    chosen = []
    for name in read:
        column = data.column(f"category {name}")
        filled = len(column) - column.null_count
        named = name in columns.named_categories
        if named or (filled and (name == CATEGORY or looks_categorical(_distinct(column), filled))):
            chosen.append(name)
    return tuple(sorted(chosen))


def looks_categorical(distinct: int, filled: int) -> bool:
    """Whether a text column of so many distinct values in so many rows holds categories, rather than texts or ids."""
    return 2 * distinct < filled


def _distinct(column: pa.ChunkedArray) -> int:
    parts = pc.utf8_trim_whitespace(pc.list_flatten(pc.split_pattern(column, "|")))
    return int(pc.count_distinct(parts).as_py())


def build_catalog(items: ItemsTable, vocabulary: pa.Array) -> Catalog:
    """The catalog over the sorted ids `vocabulary`, in which some may have no row in the items table."""
    position = pc.index_in(vocabulary, value_set=items.ids)
    rows = pa.concat_arrays([position, pa.nulls(1, position.type)])
    data = items.data.take(rows)
    published = data.column("published_at").combine_chunks().cast(pa.int64()).fill_null(NO_TIME)
    return Catalog(
        strings(vocabulary),
        _texts(data, "title"),
        _texts(data, "description"),
        published.to_numpy(zero_copy_only=False),
        {name: _categorical(data.column(f"category {name}")) for name in items.categories},
        {name: _numbers(data, f"number {name}") for name in items.columns.numbers},
        {name: _vectors(data, name) for name in items.columns.vectors},
        {name: _texts(data, f"text {name}") for name in items.columns.texts if f"text {name}" in data.column_names},
    )


def strings(array: pa.Array | pa.ChunkedArray) -> Strings:
    """An Arrow text column as an object array of Python strings."""
    values: Strings = array.to_numpy(zero_copy_only=False) if isinstance(array, pa.Array) else array.to_numpy()
    return values.astype(object)


def _texts(data: pa.Table, name: str) -> Strings:
    return strings(data.column(name).fill_null(""))


def _numbers(data: pa.Table, name: str) -> Float64:
    numbers: Float64 = data.column(name).to_numpy()
    return numbers.astype(np.float64)


def _vectors(data: pa.Table, name: str) -> Float32:
    column = data.column(f"vector {name}").combine_chunks()
    present = column.is_valid().to_numpy(zero_copy_only=False)
    if not present.any():
        raise InputError(f"items column {name!r} (named in vectors): expected vectors, found none in any row")
    flat = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    vectors = np.full((len(column), len(flat) // int(present.sum())), np.nan, np.float32)
    vectors[present] = flat.reshape(int(present.sum()), -1)
    return vectors


def _categorical(column: pa.ChunkedArray) -> Categorical:
    lists = pc.split_pattern(column.combine_chunks(), "|")
    rows: Int64 = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    parts = pc.utf8_trim_whitespace(lists.flatten())
    filled = pc.not_equal(parts, "")
    rows, parts = rows[filled.to_numpy(zero_copy_only=False)], parts.filter(filled)
    values = parts.unique().drop_null()
    values = values.take(pc.sort_indices(values))
    codes = pc.index_in(parts, value_set=values).to_numpy(zero_copy_only=False)
    size = max(1, len(values))
    pairs = np.unique(rows.astype(np.int64) * size + codes)
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(np.bincount(pairs // size, minlength=len(column)), out=offsets[1:])
    return Categorical(tuple(values.to_pylist()), CsrLists(offsets, (pairs % size).astype(np.int32)))
