"""Logs with events or impressions added or removed, sorted by time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import CsrLists, Int8, Int32, Int64
from features.log import HISTORY_TYPE, Events, Impressions, Log, Requests
from features.tables.events import event_types


@dataclass(frozen=True)
class ExtraEvents:
    """Events to add. user, item: (n,) codes, user -1 is unknown. time: microseconds. type: (n,) event type codes."""

    user: Int32
    item: Int32
    time: Int64
    type: Int8


def with_events(log: Log, more: ExtraEvents, *, positive_event_types: tuple[str, ...] | None) -> Log:
    """The log with more events, of types that it has. positive_event_types: as in the configuration."""
    events = log.events
    is_positive = event_types(list(events.types), positive_event_types)[1]
    has_timestamp = np.array([name != HISTORY_TYPE for name in events.types])
    added = Events(
        more.user, more.item, more.time, more.type, events.types, is_positive[more.type], has_timestamp[more.type]
    )
    return replace(log, events=events.with_added(added).sorted())


def with_impressions(log: Log, more: Impressions) -> Log:
    """The log with more lists."""
    impressions = log.impressions
    old, new = impressions.requests, more.requests
    user, time = np.concatenate([old.user, new.user]), np.concatenate([old.time, new.time])
    order = np.argsort(time, kind="stable")
    offsets = np.concatenate([old.offsets, old.offsets[-1] + new.offsets[1:]])
    rows = CsrLists(offsets, np.arange(offsets[-1], dtype=np.int32)).take(order)
    item = np.concatenate([old.item, new.item])[rows.codes]
    query = None
    if old.query is not None:
        blank = np.full(len(new), None, object) if new.query is None else new.query
        query = np.concatenate([old.query, blank])[order]
    return replace(
        log,
        impressions=Impressions(
            Requests(user[order], time[order], rows.offsets, item, query),
            np.concatenate([impressions.ids, more.ids])[order],
            np.concatenate([impressions.sampled, more.sampled])[order],
            np.concatenate([impressions.label, more.label])[rows.codes],
            np.concatenate([impressions.position, more.position])[rows.codes],
        ),
    )


def truncate(log: Log, time: int) -> Log:
    """The log of what happened strictly before `time`."""
    n_events = int(np.searchsorted(log.events.time, time))
    n_impressions = int(np.searchsorted(log.impressions.requests.time, time))
    impressions = log.impressions.take(np.arange(n_impressions, dtype=np.int64))
    return replace(log, events=log.events.take(slice(n_events)), impressions=impressions)


def impressions_like(
    user: Int32, time: Int64, like: Requests, *, sampled: bool, label: Int8 | None = None, name: str = "added"
) -> Impressions:
    """Lists with the candidates of other requests. user, time: (n,) as many as `like` has. label: (n_rows,), none
    clicked without one."""
    n = len(like)
    return Impressions(
        Requests(user, time, like.offsets, like.item),
        np.array([f"{name} {i}" for i in range(n)], object),
        np.full(n, sampled),
        np.zeros(like.n_rows, np.int8) if label is None else label,
        np.zeros(like.n_rows, np.int32),
    )
