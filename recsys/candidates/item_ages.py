"""How popular and how new items are at a time: weights that halve with age."""

from __future__ import annotations

import numpy as np

from features.arrays import NO_TIME, Bool, Float64, Int64
from features.clock import DAY, oldest_read
from features.exact import exp
from features.log import Log

HALF_LIFE = 7 * DAY
"""After so many microseconds a click, or the newness of an item, counts half."""
_LN2 = 0.6931471805599453


def popularity(log: Log, as_of: int, *, horizon: int | None = None) -> Float64:
    """(n_items,) clicks with a time strictly before `as_of`, each halved for every 7 days before the newest of them; 0
    for an item without. horizon: microseconds that it looks back."""
    events = log.events
    period = slice(*np.searchsorted(events.time, (oldest_read(as_of, horizon), as_of)))
    counted = events.positive[period] & events.dated[period]
    time, item = events.time[period][counted], events.item[period][counted]
    return np.bincount(item, _halved(time), len(log.catalog)).astype(np.float64)


def newness(log: Log, at: int, *, as_of: int, since: int = NO_TIME) -> Float64:
    """(n_items,) 1 for the newest item, halved for every 7 days that another is older; 0 where no date is known.

    An item's date is that of its publication, before `at`; where the table has none, its first impression or event from
    `since` on and strictly before `as_of`.
    """
    date = log.catalog.published_at[:-1]
    date = np.where(date == NO_TIME, _first_seen(log, since, as_of), date)
    known = (date != NO_TIME) & (date < at)
    weight = np.zeros(len(date))
    weight[known] = _halved(date[known])
    return weight


def came_later(log: Log, at: int) -> Bool:
    """(n_items,) whether an item's first impression or event is at or after `at`; False for one without any.

    An undated event, which only comes before others of its user, shows that the item was there, not when.
    """
    later = _first_seen(log, NO_TIME, np.iinfo(np.int64).max) >= at
    later[log.events.item[log.events.time < at]] = False
    return later


def _first_seen(log: Log, since: int, as_of: int) -> Int64:
    """(n_items,) time of the first impression or event in a period; NO_TIME where there is none."""
    requests, events = log.impressions.requests, log.events
    never = np.iinfo(np.int64).max
    first = np.full(len(log.catalog), never)
    start, end = np.searchsorted(requests.time, (since, as_of))
    rows = slice(requests.offsets[start], requests.offsets[end])
    lengths = np.diff(requests.offsets[start : end + 1])
    real = np.repeat(~log.impressions.sampled[start:end], lengths)
    np.minimum.at(first, requests.item[rows][real], np.repeat(requests.time[start:end], lengths)[real])
    acted = (events.time >= since) & (events.time < as_of) & events.dated
    np.minimum.at(first, events.item[acted], events.time[acted])
    return np.where(first == never, NO_TIME, first)


def _halved(time: Int64) -> Float64:
    """(n,) 1 for the newest time, a half for one that is 7 days older."""
    if not len(time):
        return np.zeros(0)
    return exp((time - time.max()) * (_LN2 / HALF_LIFE))
