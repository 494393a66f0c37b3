"""All clicks in the order of time, and the items of a stretch of them, from which negatives are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import Bool, Float64, Int32, Int64
from features.log import Events


class ClickTimeline:
    """All clicks in the order of time. first_click_time: (n_items,) time of each item's first click, the largest int64
    for none."""

    def __init__(self, events: Events, n_items: int) -> None:
        dated = events.positive & events.dated
        self._item, self._time = events.item[dated], events.time[dated]
        self.first_click_time = np.full(n_items, np.iinfo(np.int64).max)
        np.minimum.at(self.first_click_time, events.item[events.positive], events.time[events.positive])

    def following(self, time: int, window: int) -> CandidatePool:
        """Items of the `window` clicks from `time` on; of the last ones where fewer follow."""
        start = max(0, min(int(np.searchsorted(self._time, time)), len(self._time) - window))
        item, count = np.unique(self._item[start : start + window], return_counts=True)
        first = self.first_click_time[item]
        order = np.argsort(first, kind="stable")
        cumulative = np.concatenate([[0], np.cumsum(count[order])])
        return CandidatePool(item[order], first[order], cumulative, len(self.first_click_time))


@dataclass(frozen=True)
class CandidatePool:
    """Distinct items of a stretch of clicks, the longest known ones first. first_click_time: (k,). cumulative: (k + 1,)
    occurrences. n_items: of the catalog."""

    item: Int32
    first_click_time: Int64
    cumulative: Int64
    n_items: int

    def draw(self, time: Int64, *, n_draws: int, even_share: float, rng: np.random.Generator) -> tuple[Int32, Bool]:
        """(n, 2 n_draws) items for impressions at `time` (n,), -1 for none, and which were never clicked before it.

        The first half of the columns are such items, the second half are others; in each half a share of the columns is
        drawn evenly, the rest by occurrence.
        """
        n_old = np.searchsorted(self.first_click_time, time, side="left")[:, None]
        evenly = np.diff(np.floor(even_share * np.arange(n_draws + 1) + 0.5)) > 0
        drawn = []
        for low, high in ((n_old, np.full_like(n_old, len(self.item))), (np.zeros_like(n_old), n_old)):
            chance = rng.random((len(time), n_draws))
            first, last = self.cumulative[low], self.cumulative[high]
            index = np.searchsorted(self.cumulative, first + chance * (last - first), side="right") - 1
            index[:, evenly] = (low + chance * (high - low)).astype(np.int64)[:, evenly]
            drawn.append(np.where(high > low, self.item[np.minimum(index, len(self.item) - 1)], -1))
        new = np.arange(2 * n_draws) < n_draws
        return np.hstack(drawn).astype(np.int32), np.broadcast_to(new, (len(time), 2 * n_draws))

    def chances(self, even_share: float) -> Float64:
        """(n_items,) chance of each item to be drawn, an even one for a share and one by occurrence for the rest; 0 for
        items that are not in the pool."""
        by_occurrence = np.diff(self.cumulative) / self.cumulative[-1]
        chance = np.zeros(self.n_items)
        chance[self.item] = even_share / len(self.item) + (1 - even_share) * by_occurrence
        return chance
