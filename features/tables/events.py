"""The events table, and the rule that matches its events with the clicked rows of impressions.

Repeats count once, as a click where one of them is one. A clicked row of an impression and an event are one click when
they share impression id and item, or else when the event is the user's first on that item within the click window after
the impression. A clicked row without such an event becomes an event of type `click` at its impression's time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from features.arrays import Bool, Int8, Int32, Int64
from features.errors import InputError
from features.log import Events
from features.tables.event_types import is_click
from features.tables.positive_rule import PositiveRule
from features.tables.ratings import ValuesSeen
from features.tables.schema import EVENTS, ColumnSpec, Schema
from features.tables.string_codes import DictionaryColumn, dictionary_encode
from features.tables.table_reader import CheckedBatch

CLICK = "click"
_MOST_TYPES = 127


@dataclass(frozen=True)
class EventRows:
    """The events table, each event once, in the order of the input; each column's codes are of its own vocabulary.

    meets_rule: (n,) False for events that are no click whatever their type. repeats: rows left out because they repeat
    another row. values: the numbers of column `value`.
    """

    user: DictionaryColumn
    item: DictionaryColumn
    type: DictionaryColumn
    impression: DictionaryColumn
    time: Int64
    meets_rule: Bool
    repeats: int
    values: ValuesSeen

    def __len__(self) -> int:
        return len(self.time)


def event_schema(rule: PositiveRule | None) -> Schema:
    """The events table; where there is a rule, its column is read as `value`."""
    if rule is None:
        return EVENTS
    value = ColumnSpec("value", "number", required=True, source=rule.column, requested_by="data.positive")
    return replace(EVENTS, columns=tuple(value if column.name == "value" else column for column in EVENTS.columns))


def read_events(batches: Iterable[CheckedBatch], rule: PositiveRule | None = None) -> EventRows:
    """All usable events of an events table, repeats left out; of no batches, where there is no such table, none.

    rule: which of them can be clicks; None is all.
    """
    texts: dict[str, list[pa.Array]] = {
        name: [] for name in ("user_id", "item_id", "event_type", "impression_id", "event_id")
    }
    times: list[Int64] = [np.zeros(0, np.int64)]
    met: list[Bool] = [np.zeros(0, np.bool_)]
    seen = ValuesSeen()
    for checked in batches:
        for name, chunks in texts.items():
            column = checked.data.column(name)
            chunks.append((column.fill_null(CLICK) if name == "event_type" else column).dictionary_encode())
        times.append(checked.data.column("timestamp").cast(pa.int64()).to_numpy())
        values = checked.data.column("value").to_numpy(zero_copy_only=False)
        met.append(np.ones(len(values), np.bool_) if rule is None else rule.met_by(values))
        seen.add(values)
    user, item, event_type, impression, event_id = (dictionary_encode(chunks) for chunks in texts.values())
    time, meets_rule = np.concatenate(times), np.concatenate(met)
    if len(event_type.values) > _MOST_TYPES:
        raise InputError(
            f"events column 'event_type': expected at most {_MOST_TYPES} types, got {len(event_type.values)}; "
            "the column seems to hold something else"
        )
    is_first = deduplicate(user.codes, item.codes, event_type.codes, time, event_id.codes, preferred=meets_rule)
    user, item, event_type, impression = (column[is_first] for column in (user, item, event_type, impression))
    repeats = int((~is_first).sum())
    return EventRows(user, item, event_type, impression, time[is_first], meets_rule[is_first], repeats, seen)


def deduplicate(
    user: Int32, item: Int32, event_type: Int32 | Int8, time: Int64, event_id: Int32, *, preferred: Bool
) -> Bool:
    """(n,) True for the first row of every event id; without one, of every user, item, type and time, preferred rows
    before others. Rows without id and without user are never repeats: two anonymous users may do the same."""
    is_first = np.ones(len(time), np.bool_)
    named = np.flatnonzero(event_id >= 0)
    is_first[named] = False
    is_first[named[np.unique(event_id[named], return_index=True)[1]]] = True
    rows = np.flatnonzero((event_id < 0) & (user >= 0))
    order = rows[np.lexsort((rows, ~preferred[rows], time[rows], event_type[rows], item[rows], user[rows]))]
    same = np.ones(max(0, len(order) - 1), np.bool_)
    for column in (user, item, event_type, time):
        same &= column[order[1:]] == column[order[:-1]]
    is_first[order[1:][same]] = False
    return is_first


def event_types(names: list[str], positive: tuple[str, ...] | None) -> tuple[tuple[str, ...], Bool]:
    """All event types, sorted, and which of them count as a click; see `features.tables.event_types.is_click`."""
    types = tuple(sorted({*names, CLICK}))
    return types, np.array([is_click(name, positive) for name in types], np.bool_)


def types_found(rows: EventRows, events: Events) -> dict[str, tuple[int, bool]]:
    """Rows of the events table by type, and whether the type counts as a click. events: the log's."""
    counts = np.bincount(rows.type.codes, minlength=len(rows.type.values)).tolist()
    clicks = {events.types[code] for code in np.unique(events.type[events.positive])}
    counted = sorted(zip(rows.type.values.to_pylist(), counts, strict=True))
    return {name: (count, name in clicks) for name, count in counted if count}
