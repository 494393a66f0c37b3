"""The events table, and which of its events are the clicks of which lists.

Repeats count once. A clicked row of a list and an event are one click when they share impression id and item, or else
when the event is the user's first on that item within the click window after the list. A clicked row without such an
event becomes an event of type `click` at its list's own time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features.errors import InputError
from features.log import Bool, Events, Int8, Int32, Int64
from features.tables.event_types import is_click
from features.tables.string_codes import Coded, coded
from features.tables.table_reader import TableReader

CLICK = "click"
_MOST_TYPES = 127


@dataclass(frozen=True)
class EventRows:
    """The events table, each event once, in the order of the input; codes in vocabularies of their own.

    repeats: rows left out because they say again what an earlier one said.
    """

    user: Coded
    item: Coded
    type: Coded
    impression: Coded
    time: Int64
    repeats: int

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class ClickedRows:
    """Clicked rows of lists, in the log's codes. list: (n,) which list. user -1: null."""

    list: Int64
    user: Int32
    item: Int32
    time: Int64


@dataclass(frozen=True)
class Matches:
    """event: (n_clicked,) the event that is each clicked row's click, -1 where there is none. early: how many of the
    matched events are stamped before their list; they are moved to its time."""

    event: Int64
    early: int


def no_events() -> EventRows:
    """The events of a data set without an events table."""
    none = coded([])
    return EventRows(none, none, none, none, np.zeros(0, np.int64), 0)


def read_events(reader: TableReader) -> EventRows:
    """All usable events of an events table, repeats left out."""
    texts: dict[str, list[pa.Array]] = {
        name: [] for name in ("user_id", "item_id", "event_type", "impression_id", "event_id")
    }
    times: list[Int64] = []
    for checked in reader:
        for name, chunks in texts.items():
            column = checked.data.column(name)
            chunks.append((column.fill_null(CLICK) if name == "event_type" else column).dictionary_encode())
        times.append(checked.data.column("timestamp").cast(pa.int64()).to_numpy())
    user, item, kind, impression, event_id = (coded(chunks) for chunks in texts.values())
    time = np.concatenate(times)
    if len(kind.values) > _MOST_TYPES:
        raise InputError(
            f"events column 'event_type': expected at most {_MOST_TYPES} types, got {len(kind.values)}; "
            "the column seems to hold something else"
        )
    kept = first_of_each(user.codes, item.codes, kind.codes, time, event_id.codes)
    n_repeats = int((~kept).sum())
    return EventRows(user.take(kept), item.take(kept), kind.take(kept), impression.take(kept), time[kept], n_repeats)


def first_of_each(user: Int32, item: Int32, kind: Int32 | Int8, time: Int64, event_id: Int32) -> Bool:
    """(n,) True for the first row of every event id; without one, of every user, item, type and time. Rows without id
    and without user are never repeats: two strangers may do the same."""
    kept = np.ones(len(time), np.bool_)
    named = np.flatnonzero(event_id >= 0)
    kept[named] = False
    kept[named[np.unique(event_id[named], return_index=True)[1]]] = True
    rows = np.flatnonzero((event_id < 0) & (user >= 0))
    order = rows[np.lexsort((rows, time[rows], kind[rows], item[rows], user[rows]))]
    same = np.ones(max(0, len(order) - 1), np.bool_)
    for column in (user, item, kind, time):
        same &= column[order[1:]] == column[order[:-1]]
    kept[order[1:][same]] = False
    return kept


def event_types(found: list[str], positive: tuple[str, ...] | None) -> tuple[tuple[str, ...], Bool]:
    """All event types, sorted, and which of them count as a click; see `features.tables.event_types.is_click`."""
    types = tuple(sorted({*found, CLICK}))
    return types, np.array([is_click(name, positive) for name in types], np.bool_)


def types_found(rows: EventRows, events: Events) -> dict[str, tuple[int, bool]]:
    """Rows of the events table by type, and whether the type counts as a click. events: the log's."""
    counts = np.bincount(rows.type.codes, minlength=len(rows.type.values)).tolist()
    clicks = {events.types[code] for code in np.unique(events.type[events.positive])}
    found = sorted(zip(rows.type.values.to_pylist(), counts, strict=True))
    return {name: (count, name in clicks) for name, count in found if count}


def match_clicks(events: Events, impression: Int32, clicked: ClickedRows, *, window: int, n_items: int) -> Matches:
    """Which event is the click of each clicked row. impression: (n_events,) list of each event, -1 for none. window:
    microseconds."""
    usable = np.flatnonzero(events.positive & events.dated)
    by_id = usable[impression[usable] >= 0]
    key = impression[by_id].astype(np.int64) * n_items + events.item[by_id]
    order = np.lexsort((events.time[by_id], key))
    by_id, key = by_id[order], key[order]
    wanted = clicked.list * n_items + clicked.item
    place = np.searchsorted(key, wanted)
    found = np.full(len(wanted), -1, np.int64)
    inside = np.flatnonzero(place < len(key))
    hit = inside[key[place[inside]] == wanted[inside]]
    found[hit] = by_id[place[hit]]
    claimed = np.zeros(len(events), np.bool_)
    claimed[by_id[np.isin(key, wanted)]] = True
    free = usable[~claimed[usable] & (events.user[usable] >= 0)]
    rest = np.flatnonzero((found < 0) & (clicked.user >= 0))
    found[rest] = _first_within(events, free, clicked, rest, window=window, n_items=n_items)
    matched = np.flatnonzero(found >= 0)
    early = np.unique(found[matched[events.time[found[matched]] < clicked.time[matched]]])
    return Matches(found, len(early))


def _first_within(
    events: Events, free: Int64, clicked: ClickedRows, rows: Int64, *, window: int, n_items: int
) -> Int64:
    """For each of the clicked `rows` the first of the `free` events of its user and item from its time on, -1 where
    that is more than `window` later."""
    user = np.concatenate([clicked.user[rows], events.user[free]]).astype(np.int64)
    key = user * n_items + np.concatenate([clicked.item[rows], events.item[free]])
    time = np.concatenate([clicked.time[rows], events.time[free]])
    is_event = np.arange(len(key)) >= len(rows)
    order = np.lexsort((is_event, time, key))
    n = len(order)
    following = np.where(is_event[order], np.arange(n), n)
    following = np.minimum.accumulate(following[::-1])[::-1]
    asked = np.flatnonzero(~is_event[order])
    asked = asked[following[asked] < n]
    row, event = order[asked], order[following[asked]]
    near = (key[row] == key[event]) & (time[event] - time[row] <= window)
    found = np.full(len(rows), -1, np.int64)
    found[row[near]] = free[event[near] - len(rows)]
    return found


def merged(events: Events, clicked: ClickedRows, matches: Matches) -> tuple[Events, int]:
    """The events with the clicks of lists added that are not among them, sorted by (time, item id), and how many
    were added. An event stamped before the list it was clicked in counts from the list's time."""
    time = events.time.copy()
    matched = matches.event >= 0
    np.maximum.at(time, matches.event[matched], clicked.time[matched])
    extra = np.flatnonzero(~matched)
    n, n_extra = len(events), len(extra)
    user = np.concatenate([events.user, clicked.user[extra]])
    item = np.concatenate([events.item, clicked.item[extra]])
    time = np.concatenate([time, clicked.time[extra]])
    kind: Int8 = np.concatenate([events.type, np.full(n_extra, events.types.index(CLICK), np.int8)])
    kept = first_of_each(user, item, kind, time, np.full(len(time), -1, np.int32))
    kept[:n] = True
    order = np.flatnonzero(kept)
    order = order[np.lexsort((kind[order], user[order], item[order], time[order]))]
    every = np.ones(n_extra, np.bool_)
    return Events(
        user[order],
        item[order],
        time[order],
        kind[order],
        events.types,
        np.concatenate([events.positive, every])[order],
        np.concatenate([events.dated, every])[order],
    ), int(kept[n:].sum())
