"""Logs with something added or taken away, sorted as every reader expects them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Int8, Int32, Int64
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
    positive = event_types(list(events.types), positive_event_types)[1]
    dated = np.array([name != HISTORY_TYPE for name in events.types])
    added = Events(more.user, more.item, more.time, more.type, events.types, positive[more.type], dated[more.type])
    return replace(log, events=events.with_added(added).sorted())


def with_impressions(log: Log, more: Impressions) -> Log:
    """The log with more lists."""
    lists = log.impressions
    old, new = lists.requests, more.requests
    user, time = np.concatenate([old.user, new.user]), np.concatenate([old.time, new.time])
    offsets = np.concatenate([old.offsets, old.offsets[-1] + new.offsets[1:]])
    query = None
    if old.query is not None:
        blank = np.full(len(new), None, object) if new.query is None else new.query
        query = np.concatenate([old.query, blank])
    both = Impressions(
        Requests(user, time, offsets, np.concatenate([old.item, new.item]), query),
        np.concatenate([lists.ids, more.ids]),
        np.concatenate([lists.sampled, more.sampled]),
        np.concatenate([lists.label, more.label]),
        np.concatenate([lists.position, more.position]),
    )
    return replace(log, impressions=both.take(np.argsort(time, kind="stable")))


def before(log: Log, time: int) -> Log:
    """The log of what happened strictly before `time`."""
    events = log.events
    end = int(np.searchsorted(events.time, time))
    n_lists = int(np.searchsorted(log.impressions.requests.time, time))
    return replace(
        log, events=events.take(slice(end)), impressions=log.impressions.take(np.arange(n_lists, dtype=np.int64))
    )


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
