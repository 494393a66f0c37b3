"""Which items each user has events on, and when: of any type, with a time or without."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.arrays import Bool, Float64, Int32, Int64
from features.log import Events
from features.tables.list_clicks import NEAR


class TouchedItems:
    """The pairs of a user and an item with an event, sorted by user and item, and the times of these events."""

    def __init__(self, events: Events, n_items: int) -> None:
        known = np.flatnonzero(events.user >= 0)
        key = events.user[known].astype(np.int64) * n_items + events.item[known]
        order = np.lexsort((events.time[known], key))
        self._pairs, first = np.unique(key[order], return_index=True)
        self._n_items = n_items
        self._times = np.unique(events.time[known])
        rank = np.searchsorted(self._times, events.time[known][order])
        number = np.repeat(np.arange(len(self._pairs)), np.diff(np.append(first, len(order))))
        self._events = number * self._ranks + rank
        owner = self._pairs // n_items
        self._starts = np.searchsorted(owner, np.arange(int(owner.max(initial=-1)) + 2))

    def ever(self, user: Int32, item: Int32) -> Bool:
        """Whether each user has an event on the item; arrays that broadcast."""
        return self._pair(user, item) >= 0

    def before(self, user: Int32, item: Int32, time: Int64) -> Bool:
        """Whether each user has an event on the item before a time; arrays that broadcast."""
        pair = self._pair(user, item)
        return (pair >= 0) & (self._events_before(pair, time) > self._events_before(pair, self._times[0]))

    def at_rest(self, user: Int32, time: Int64, chance: Float64) -> tuple[Int64, Int32]:
        """(row, item) of each item that a row's user has an event on more than 30 minutes before the row's time, and
        none from there until 30 minutes after it; rows ascend. chance: (n_items,) items with 0 are left out."""
        first, n = self._starts[user], self._starts[user + 1] - self._starts[user]
        row = np.repeat(np.arange(len(user)), n)
        pair = np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n) + first[row]
        item = self._pairs[pair] % self._n_items
        likely = chance[item] > 0
        row, pair, item = row[likely], pair[likely], item[likely]
        n_before = self._events_before(pair, time[row] - NEAR)
        touched = n_before > self._events_before(pair, self._times[0])
        touched &= self._events_before(pair, time[row] + NEAR + 1) == n_before
        return row[touched], item[touched].astype(np.int32)

    @property
    def _ranks(self) -> int:
        return len(self._times) + 1

    def _pair(self, user: Int32, item: Int32) -> Int64:
        """Positions of pairs, -1 for those without an event."""
        key = user.astype(np.int64) * self._n_items + item
        index = np.minimum(np.searchsorted(self._pairs, key), len(self._pairs) - 1)
        return np.where(self._pairs[index] == key, index, -1)

    def _events_before(self, pair: Int64, time: Int64 | npt.NDArray[np.int64]) -> Int64:
        """Events of all pairs up to each of `pair`, and of that one only those before a time."""
        return np.asarray(np.searchsorted(self._events, pair * self._ranks + np.searchsorted(self._times, time)))
