"""Which shown items of logged rankings were clicked, by the events that came.

An event is the click of a list when it names the list's impression_id, which is the request_id of the answer, or,
naming none, by the rule of `features.tables.click_matching`: the user's first on that item within the click window.
Where several lists within the window showed the item, the click belongs to the latest. An event that names a list which
is not in the log belongs to that one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.arrays import Bool, Int8, Int64
from features.errors import InputError
from features.log import HISTORY_TYPE
from features.tables.event_types import is_click
from features.tables.events import EventRows, read_events
from features.tables.impressions import ImpressionTable
from features.tables.items import CatalogColumns, ItemsTable
from features.tables.load import InputTables, ReadOptions, join, read_table_rows
from features.tables.logged_rankings import LoggedLists, read_logged
from features.tables.rejects import Rejects
from features.tables.schema import CANONICAL

_NO_ITEMS = ItemsTable(
    pa.table({"item_id": pa.array([], CANONICAL["id"])}), CatalogColumns(categories=()), categories=(), repeats=0
)


@dataclass(frozen=True)
class LabelledLists:
    """lists: in the period of the events, with labels. outside: lists before or after it, left out since nothing says
    whether they were clicked. clicks: click events. matched: rows that have one. elsewhere: clicks that name a list
    which is not in the log."""

    lists: LoggedLists
    outside: int
    clicks: int
    matched: int
    elsewhere: int


def label_logged(log: Path, events: Path, options: ReadOptions, *, rejects: Rejects | None = None) -> LabelledLists:
    """The lists of a log with the clicks of an events table. Raises InputError where one of them cannot be used, or no
    list is in the period of the events."""
    labelled = label_lists(read_logged(log), events, options, rejects or Rejects(None))
    if not len(labelled.lists):
        raise InputError(
            f"logged rankings {str(log)!r}: expected lists in the period of the events in {str(events)!r}, found none "
            f"of {labelled.outside:,}; name an events table that reaches from the first list to the last"
        )
    return labelled


def label_lists(lists: LoggedLists, events: Path, options: ReadOptions, rejects: Rejects) -> LabelledLists:
    """Logged lists with the clicks of the events table at a path. Raises InputError where it cannot be used."""
    reader = read_table_rows(events, "events", options, rejects=rejects)
    rows = read_events(reader, options.data.positive_rule)
    inside = lists.take(_within(lists.table.time, rows, options))
    elsewhere = (rows.impression.codes >= 0) & (rows.impression.recode(lists.table.ids.values) < 0)
    label = _labels(inside.table, replace(rows, meets_rule=rows.meets_rule & ~elsewhere), options)
    is_click = _clicks(rows, options)
    return LabelledLists(
        replace(inside, table=replace(inside.table, label=label)),
        outside=len(lists) - len(inside),
        clicks=int(is_click.sum()),
        matched=int(label.sum()),
        elsewhere=int((is_click & elsewhere).sum()),
    )


def _within(time: Int64, rows: EventRows, options: ReadOptions) -> Bool:
    """(n,) True for times of lists whose clicks would be among the events."""
    dated = rows.time[~_of_type(rows, HISTORY_TYPE)]
    if not len(dated):
        return np.zeros(len(time), np.bool_)
    return np.asarray((dated.min() - options.data.click_window <= time) & (time <= dated.max()))


def _of_type(rows: EventRows, name: str) -> Bool:
    return np.array([value == name for value in rows.type.values.to_pylist()], np.bool_)[rows.type.codes]


def _clicks(rows: EventRows, options: ReadOptions) -> Bool:
    """(n,) True for events that are clicks and have a time."""
    types = [is_click(name, options.data.positive_event_types) for name in rows.type.values.to_pylist()]
    return np.array(types, np.bool_)[rows.type.codes] & rows.meets_rule & ~_of_type(rows, HISTORY_TYPE)


def _labels(table: ImpressionTable, rows: EventRows, options: ReadOptions) -> Int8:
    """(n_rows,) 1 for what was clicked."""
    every = replace(table, label=np.ones(len(table.label), np.int8))
    joined = join(InputTables(_NO_ITEMS, rows, every, None, 0, {}), options)
    event = joined.matches.event
    latest = np.full(len(rows), -1, np.int64)
    np.maximum.at(latest, event[event >= 0], np.flatnonzero(event >= 0))  # lists are in the order of their times
    label = np.zeros(len(event), np.int8)
    label[latest[latest >= 0]] = 1
    return label
