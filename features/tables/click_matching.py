"""Clicked rows of impressions matched with the click events that record the same clicks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Int32, Int64
from features.log import Events
from features.tables.events import CLICK, deduplicate


@dataclass(frozen=True)
class ClickedRows:
    """Clicked rows of impressions, in the log's codes. impression: (n,) index of the impression. user -1: null."""

    impression: Int64
    user: Int32
    item: Int32
    time: Int64


@dataclass(frozen=True)
class Matches:
    """event: (n_clicked,) the event that matches each clicked row, -1 for none. n_before_impression: how many of the
    matched events are stamped before their impression; they are moved to its time."""

    event: Int64
    n_before_impression: int


def match_clicks(events: Events, impression: Int32, clicked: ClickedRows, *, window: int, n_items: int) -> Matches:
    """The event that matches each clicked row. impression: (n_events,) index of the impression of each event, -1 for
    none. window: microseconds."""
    usable = np.flatnonzero(events.positive & events.dated)
    by_id = usable[impression[usable] >= 0]
    key = impression[by_id].astype(np.int64) * n_items + events.item[by_id]
    order = np.lexsort((events.time[by_id], key))
    by_id, key = by_id[order], key[order]
    row_key = clicked.impression * n_items + clicked.item
    index = np.searchsorted(key, row_key)
    event_of_row = np.full(len(row_key), -1, np.int64)
    inside = np.flatnonzero(index < len(key))
    hit = inside[key[index[inside]] == row_key[inside]]
    event_of_row[hit] = by_id[index[hit]]
    claimed = np.zeros(len(events), np.bool_)
    claimed[by_id[np.isin(key, row_key)]] = True
    free = usable[~claimed[usable] & (events.user[usable] >= 0)]
    rest = np.flatnonzero((event_of_row < 0) & (clicked.user >= 0))
    event_of_row[rest] = _first_within(events, free, clicked, rest, window=window, n_items=n_items)
    matched = np.flatnonzero(event_of_row >= 0)
    early = np.unique(event_of_row[matched[events.time[event_of_row[matched]] < clicked.time[matched]]])
    return Matches(event_of_row, len(early))


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
    row_positions = np.flatnonzero(~is_event[order])
    row_positions = row_positions[following[row_positions] < n]
    row, event = order[row_positions], order[following[row_positions]]
    near = (key[row] == key[event]) & (time[event] - time[row] <= window)
    event_of_row = np.full(len(rows), -1, np.int64)
    event_of_row[row[near]] = free[event[near] - len(rows)]
    return event_of_row


def add_unmatched_clicks(events: Events, clicked: ClickedRows, matches: Matches) -> tuple[Events, int]:
    """The events and the clicked rows without an event, sorted by (time, item id), and how many of these rows were
    added: all but those of a user, item and time that a click event has. An event stamped before its impression counts
    from the impression's time."""
    time = events.time.copy()
    matched = matches.event >= 0
    np.maximum.at(time, matches.event[matched], clicked.time[matched])
    rows = np.flatnonzero(~matched)
    click, every = np.full(len(rows), events.types.index(CLICK), np.int8), np.ones(len(rows), np.bool_)
    added = Events(clicked.user[rows], clicked.item[rows], clicked.time[rows], click, events.types, every, every)
    both = replace(events, time=time).with_added(added)
    no_id = np.full(len(both), -1, np.int32)
    is_first = deduplicate(both.user, both.item, both.type, both.time, no_id, preferred=both.positive)
    is_first[: len(events)] = True
    return both.take(np.flatnonzero(is_first)).sorted(), int(is_first[len(events) :].sum())
