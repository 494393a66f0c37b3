"""A user's history at a time: the latest distinct items the user clicked strictly before it.

Reads events that are sorted by (time, item id), as `features.log.Log` holds them. An item clicked twice is in it once,
at its latest click; the order is oldest first, by (time, item id).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import CsrLists, Int32, Int64
from features.clock import oldest_read, window_edge
from features.grouping import group, group_pairs
from features.log import Events, Requests

_FIRST_WINDOW = 64
_CHUNK = 4096


@dataclass(frozen=True)
class Histories:
    """Histories of n requests. items: n rows of item codes, oldest first. times: (items.offsets[-1],) microseconds."""

    items: CsrLists
    times: Int64

    def __len__(self) -> int:
        return len(self.items)

    def take_range(self, first: int, end: int) -> Histories:
        """The histories of requests first to end, without copying."""
        offsets = self.items.offsets[first : end + 1]
        codes = slice(offsets[0], offsets[-1])
        return Histories(CsrLists(offsets - offsets[0], self.items.codes[codes]), self.times[codes])


@dataclass(frozen=True)
class UserClicks:
    """Positive events of known users, sorted by (user, time, item id).

    starts: (n_users + 1,) where each user's clicks begin. next_click: (n,) position of the same user's next click on
    the same item, or n where there is none: click i is in the history at position p when i < p <= next_click[i].
    """

    starts: Int64
    item: Int32
    time: Int64
    next_click: Int32


def clicks_by_user(events: Events, n_users: int) -> UserClicks:
    """The clicks of each user in time order, with what is needed to skip repeats. Null users have none."""
    clicks = np.flatnonzero(events.positive & (events.user >= 0))
    order, starts = group(events.user[clicks], n_users)
    clicks = clicks[order]
    item, n = events.item[clicks], len(clicks)
    user = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(starts))
    by_pair = group_pairs(user, item, n_users, int(item.max(initial=0)) + 1)[0]
    item_by_pair = item[by_pair]
    same = item_by_pair[1:] == item_by_pair[:-1]
    same[starts[(starts > 0) & (starts < n)] - 1] = False
    next_click = np.full(n, n, np.int32)
    next_click[by_pair[:-1][same]] = by_pair[1:][same]
    return UserClicks(starts.astype(np.int64), item, events.time[clicks], next_click)


def histories(
    clicks: UserClicks, requests: Requests, *, length: int, delay: int = 0, horizon: int | None = None
) -> Histories:
    """The histories of `requests`: each user's latest `length` distinct clicked items before time minus delay.

    delay: microseconds that an event needs to become known. horizon: microseconds that a window may reach back, None
    for no limit. Unknown users have an empty history.
    """
    as_of = requests.time - delay
    end = _positions_before(clicks, requests.user, as_of)
    start = np.zeros_like(end)
    if horizon is None:
        has_user = requests.user >= 0
        start[has_user] = clicks.starts[requests.user[has_user]]
    else:
        start = _positions_before(clicks, requests.user, window_edge(as_of, horizon))
    pairs = [
        _latest_distinct(clicks, start[chunk], end[chunk], length, chunk)
        for chunk in np.array_split(np.flatnonzero(end > start), max(1, len(end) // _CHUNK))
    ]
    owner = np.concatenate([chunk[0] for chunk in pairs])
    positions = np.concatenate([chunk[1] for chunk in pairs])
    order = np.argsort(owner, kind="stable")
    positions = positions[order]
    offsets = np.zeros(len(requests) + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=len(requests)), out=offsets[1:])
    return Histories(CsrLists(offsets, clicks.item[positions]), clicks.time[positions])


def clicked_before(clicks: UserClicks, time: int, *, length: int, horizon: int | None = None) -> CsrLists:
    """The latest `length` distinct items that each user clicked strictly before a time, oldest first; a row a user.

    horizon: as of `histories`. The same items as the `histories` of requests of all users at that time, in one pass
    over all clicks.
    """
    n = len(clicks.item)
    later = np.append(clicks.time, np.iinfo(np.int64).max)[clicks.next_click]
    since = oldest_read(time, horizon)
    in_history = np.flatnonzero((clicks.time < time) & (later >= time) & (clicks.time >= since))
    user = np.searchsorted(clicks.starts, in_history, side="right") - 1 if n else in_history
    return latest_items(user, clicks.item[in_history], n_users=len(clicks.starts) - 1, length=length)


def latest_items(user: Int32 | Int64, item: Int32, *, n_users: int, length: int) -> CsrLists:
    """The last `length` items of each user, a row a user. user: (n,) ascending codes. item: (n,)."""
    last = np.searchsorted(user, user, side="right") - np.arange(len(user)) <= length
    offsets = np.searchsorted(user[last], np.arange(n_users + 1)).astype(np.int64)
    return CsrLists(offsets, item[last])


def _positions_before(clicks: UserClicks, user: Int32, as_of: Int64) -> Int64:
    """(n,) position after each user's last click strictly before a time: a binary search of all requests at once, each
    between the first and the last click of its user; 0 for an unknown one. user, as_of: (n,)."""
    has_user = user >= 0
    low = np.where(has_user, clicks.starts[:-1][user], 0)
    high = np.where(has_user, clicks.starts[1:][user], 0)
    searching = np.flatnonzero(low < high)
    while len(searching):
        middle = (low[searching] + high[searching]) // 2
        earlier = clicks.time[middle] < as_of[searching]
        low[searching[earlier]] = middle[earlier] + 1
        high[searching[~earlier]] = middle[~earlier]
        searching = searching[low[searching] < high[searching]]
    return low


def _latest_distinct(clicks: UserClicks, start: Int64, end: Int64, length: int, requests: Int64) -> tuple[Int64, Int64]:
    """(request, position) pairs of the clicks in each request's history, in time order within a request."""
    owners, latest = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    window = max(_FIRST_WINDOW, length)
    while len(requests):
        positions = end[:, None] - np.arange(window, 0, -1)
        in_history = positions >= start[:, None]
        in_history &= clicks.next_click[np.maximum(positions, 0)] >= end[:, None]
        later = np.cumsum(in_history[:, ::-1], axis=1)[:, ::-1]
        complete = (later[:, 0] >= length) | (end - start <= window)
        rows, columns = np.nonzero(in_history & (later <= length) & complete[:, None])
        owners.append(requests[rows])
        latest.append(positions[rows, columns])
        start, end, requests = start[~complete], end[~complete], requests[~complete]
        window *= 4
    return np.concatenate(owners), np.concatenate(latest)
