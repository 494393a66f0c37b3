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
    further = {kind: _named(columns, kind) for kind in ("category ", "number ", "vector ", "text ")}
    for row, item_id in enumerate(columns["item_id"]):
        given = {
            kind: {name: values[row] for name, values in found.items() if values[row] is not None}
            for kind, found in further.items()
        }
        yield StoredItem(
            item_id,
            columns["title"][row] or "",
            columns["description"][row] or "",
            published[row],
            {name: split_values(text) for name, text in given["category "].items()},
            given["number "],
            {name: np.array(vector, np.float32) for name, vector in given["vector "].items()},
            given["text "],
        )


def read_events(checked: CheckedBatch) -> list[IncomingEvent]:
    """The events of a checked batch."""
    data = checked.data
    time = data.column("timestamp").cast("int64").to_pylist()
    kind = data.column("event_type").fill_null(CLICK).to_pylist()
    user, item, list_id, event_id = (
        data.column(name).to_pylist() for name in ("user_id", "item_id", "impression_id", "event_id")
    )
    return list(map(IncomingEvent, user, item, time, kind, list_id, event_id))


def read_impressions(lists: ImpressionTable, start: int, end: int) -> Iterator[Impression]:
    """Impressions `start` to `end` of a table."""
    ids, user = lists.ids[start:end].decoded(), lists.user[start:end].decoded()
    first, last = lists.offsets[start], lists.offsets[end]
    item = lists.item[first:last].decoded()
    for index in range(start, end):
        rows = slice(lists.offsets[index] - first, lists.offsets[index + 1] - first)
        clicked = item[rows][lists.label[first:last][rows] > 0]
        yield Impression(
            user[index - start],
            tuple(item[rows]),
            int(lists.time[index]),
            ids[index - start],
            tuple(clicked),
            bool(lists.sampled[index]),
        )


def _named(columns: Mapping[str, Sequence[Any]], kind: str) -> dict[str, Sequence[Any]]:
    return {name.removeprefix(kind): values for name, values in columns.items() if name.startswith(kind)}
