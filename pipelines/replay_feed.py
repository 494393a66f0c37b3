"""The rows of a data directory in the order in which they would have reached an online store.

An event arrives at its time, or, where it names an impression of a later time, with that impression. An impression
arrives at its time, without its clicks; a clicked row of it arrives at the time of its click: with the event that it
matches, or with the impression where there is none. Rows are as the tables hold them; only their time is set here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.arrays import Int64
from features.online.events import Impression, IncomingEvent
from features.tables.formats import find_table
from features.tables.impressions import ImpressionTable
from features.tables.load import EncodedTables, ReadOptions, join, read_table_rows, read_tables
from features.tables.rejects import Rejects
from pipelines.online_rows import read_events, read_impressions
from recsys.audit.replay import ReplayFeed


def arriving(folder: Path, options: ReadOptions) -> ReplayFeed:
    """Everything in the events and impressions tables of a data directory, by time of arrival."""
    with Rejects(None) as rejects:
        tables = read_tables(folder, options, rejects, impressions_required=True)
    arrivals: list[tuple[int, IncomingEvent | Impression]] = list(
        _impressions(tables.impressions, join(tables, options))
    )
    arrivals += _events(folder, options, tables.impressions)
    arrivals.sort(key=lambda pair: pair[0])
    return ReplayFeed(np.array([time for time, _ in arrivals], np.int64), [arrival for _, arrival in arrivals])


def _events(folder: Path, options: ReadOptions, table: ImpressionTable) -> Iterator[tuple[int, IncomingEvent]]:
    path = find_table(folder, "events")
    if path is None:
        return
    shown_at = dict(zip(table.ids.decoded().tolist(), table.time.tolist(), strict=True))
    for checked in read_table_rows(path, "events", options):
        for event in read_events(checked):
            shown_time = shown_at.get(event.impression_id, event.time) if event.impression_id else event.time
            yield max(event.time, shown_time), event


def _impressions(table: ImpressionTable, joined: EncodedTables) -> Iterator[tuple[int, Impression]]:
    """Impressions at their times, sampled ones left out, and again with their clicks at the times of these."""
    click_times = _click_times(joined)
    first = np.searchsorted(joined.clicked.impression, np.arange(len(table) + 1))
    for index, impression in enumerate(read_impressions(table, 0, len(table))):
        if not impression.sampled:
            yield impression.time, replace(impression, clicked=())
        times = click_times[first[index] : first[index + 1]]
        for time in np.unique(times).tolist():
            clicked = tuple(item for item, at in zip(impression.clicked, times.tolist(), strict=True) if at == time)
            yield time, replace(impression, clicked=clicked)


def _click_times(joined: EncodedTables) -> Int64:
    """When each clicked row is known, microseconds: at its event's time, and not before its list."""
    event = joined.matches.event
    if not len(joined.events):
        return joined.clicked.time
    times = np.where(event >= 0, joined.events.time[event], joined.clicked.time)
    return np.asarray(np.maximum(times, joined.clicked.time))
