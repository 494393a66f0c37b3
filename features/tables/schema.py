"""The columns of the input tables: the name, kind and necessity of each.

Canonical Arrow types, which every reader of a checked table gets:

    id, text, category   large_string, valid UTF-8; several category values are separated by `|`
    type                 large_string, an event type as `features.tables.event_types` compares it
    time                 timestamp[us, UTC]
    number               double, finite or null
    label                int8, 0 to 30
    count                int32, from 0
    flag                 bool
    vector               list<float>, all of one length
    any                  as it came
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

Kind = Literal["id", "text", "category", "type", "time", "number", "label", "count", "flag", "vector", "any"]

WORDS: frozenset[Kind] = frozenset({"text", "category", "type"})
"""Kinds whose values are words: of lists joined, of numbers written out."""

CANONICAL: dict[Kind, pa.DataType] = {
    "id": pa.large_string(),
    "text": pa.large_string(),
    "category": pa.large_string(),
    "type": pa.large_string(),
    "time": pa.timestamp("us", "UTC"),
    "number": pa.float64(),
    "label": pa.int8(),
    "count": pa.int32(),
    "flag": pa.bool_(),
    "vector": pa.list_(pa.float32()),
}


@dataclass(frozen=True)
class ColumnSpec:
    """One column of a table.

    required: the file must have it. non_null: a row without a value is rejected. is_event_time: it is the time of an
    event, so that its numbers must all be of one unit; a date of publication may be any number, and is missing where
    a cell is no date. source: the name in the file where that is not `name`. requested_by: the option that names it,
    for the error that it is missing. joiner: separates the values of a list that becomes text.
    """

    name: str
    kind: Kind
    required: bool = False
    non_null: bool = False
    is_event_time: bool = False
    source: str = ""
    requested_by: str = ""
    joiner: str = "|"

    @property
    def optional_date(self) -> bool:
        """Whether a cell that is no time counts as missing rather than rejects its row."""
        return self.kind == "time" and not self.is_event_time and not self.non_null

    @property
    def field(self) -> str:
        """The column's name in the file."""
        return self.source or self.name


@dataclass(frozen=True)
class Schema:
    """A table: its name and its columns. allow_extra_columns: hand on whatever other columns there are, as they
    came. may_be_empty: whether it may have no row; rows of which none can be used are an error all the same."""

    table: str
    columns: tuple[ColumnSpec, ...]
    allow_extra_columns: bool = False
    may_be_empty: bool = False

    def with_columns(self, columns: Iterable[ColumnSpec]) -> Schema:
        """The same table with further columns."""
        return replace(self, columns=(*self.columns, *columns))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, as a checked batch has them."""
        return tuple(column.name for column in self.columns)


def _id(name: str, *, non_null: bool = True, required: bool = True) -> ColumnSpec:
    return ColumnSpec(name, "id", required=required, non_null=non_null)


_TIMESTAMP = ColumnSpec("timestamp", "time", required=True, non_null=True, is_event_time=True)

ITEMS = Schema(
    "items",
    (
        _id("item_id"),
        ColumnSpec("title", "text", required=True, joiner=" "),
        ColumnSpec("description", "text", joiner=" "),
        ColumnSpec("published_at", "time"),
    ),
)
EVENTS = Schema(
    "events",
    (
        _id("user_id", non_null=False),
        _id("item_id"),
        _TIMESTAMP,
        ColumnSpec("event_type", "type"),
        ColumnSpec("value", "number"),
        _id("impression_id", non_null=False, required=False),
        _id("event_id", non_null=False, required=False),
    ),
)
IMPRESSIONS = Schema(
    "impressions",
    (
        _id("impression_id"),
        _id("user_id", non_null=False),
        _TIMESTAMP,
        _id("item_id"),
        ColumnSpec("clicked", "label", required=True, non_null=True),
        ColumnSpec("position", "count"),
        ColumnSpec("query", "text"),
        ColumnSpec("sampled", "flag"),
    ),
)
USERS = Schema("users", (_id("user_id"),), allow_extra_columns=True)

TABLES: dict[str, Schema] = {schema.table: schema for schema in (ITEMS, EVENTS, IMPRESSIONS, USERS)}

WRITTEN_IMPRESSIONS = pa.schema(
    [
        ("impression_id", pa.string()),
        ("user_id", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("item_id", pa.string()),
        ("position", pa.int32()),
        ("clicked", pa.int8()),
        ("sampled", pa.bool_()),
    ]
)
"""Columns of the impressions tables that are made here."""
