"""Rows of checked tables as the online state takes them: items, events, impressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from features.arrays import NO_TIME
from features.definitions.aggregates import CLICK
from features.online.events import Impression, IncomingEvent
from features.online.items import StoredItem, split_values
from features.tables.impressions import ImpressionTable
from features.tables.table_reader import CheckedBatch


def read_items(checked: CheckedBatch) -> Iterator[StoredItem]:
    """The items of a checked batch whose further columns are named as `features.tables.items.item_schema` names
    them."""
    data = checked.data
    published = data.column("published_at").cast("int64").fill_null(NO_TIME).to_pylist()
    columns = {name: data.column(name).to_pylist() for name in data.schema.names if name != "published_at"}
    further = {prefix: _named(columns, prefix) for prefix in ("category ", "number ", "vector ", "text ")}
    for row, item_id in enumerate(columns["item_id"]):
        values_of_row = {
            prefix: {name: values[row] for name, values in named.items() if values[row] is not None}
            for prefix, named in further.items()
        }
        yield StoredItem(
            item_id,
            columns["title"][row] or "",
            columns["description"][row] or "",
            published[row],
            {name: split_values(text) for name, text in values_of_row["category "].items()},
            values_of_row["number "],
            {name: np.array(vector, np.float32) for name, vector in values_of_row["vector "].items()},
            values_of_row["text "],
        )


def read_events(checked: CheckedBatch) -> list[IncomingEvent]:
    """The events of a checked batch."""
    data = checked.data
    time = data.column("timestamp").cast("int64").to_pylist()
    event_type = data.column("event_type").fill_null(CLICK).to_pylist()
    user, item, list_id, event_id, value = (
        data.column(name).to_pylist() for name in ("user_id", "item_id", "impression_id", "event_id", "value")
    )
    return list(map(IncomingEvent, user, item, time, event_type, list_id, event_id, value))


def read_impressions(table: ImpressionTable, start: int, end: int) -> Iterator[Impression]:
    """Impressions `start` to `end` of a table."""
    ids, user = table.ids[start:end].decoded(), table.user[start:end].decoded()
    first, last = table.offsets[start], table.offsets[end]
    item = table.item[first:last].decoded()
    for index in range(start, end):
        rows = slice(table.offsets[index] - first, table.offsets[index + 1] - first)
        clicked = item[rows][table.label[first:last][rows] > 0]
        yield Impression(
            user[index - start],
            tuple(item[rows]),
            int(table.time[index]),
            ids[index - start],
            tuple(clicked),
            bool(table.sampled[index]),
        )


def _named(columns: Mapping[str, Sequence[Any]], prefix: str) -> dict[str, Sequence[Any]]:
    return {name.removeprefix(prefix): values for name, values in columns.items() if name.startswith(prefix)}
