"""Which clicks make a sampled impression, and its negatives; `features.tables.sampled_impressions` gives the reasons.

Clicks are positive, dated events. Lists are drawn in blocks that share one stretch of the clicks that follow them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from features.arrays import Bool, Float64, Int32, Int64
from features.clock import MINUTE
from features.log import Catalog, Events

_BLOCK = 64
_DRAWS = 4
_NEARBY = 250
_NEAR = 30 * MINUTE


@dataclass(frozen=True)
class FirstClicks:
    """The n clicks that make an impression, sorted by time, and how many other clicks make none."""

    user: Int32
    item: Int32
    time: Int64
    n_seen_before: int
    unknown_user: int


@dataclass(frozen=True)
class SampledImpressions:
    """Impressions in the order of time. item: (n, size) codes by position, -1 beyond the end of a shorter one.

    clicked: (n,) column of the clicked item. never_seen: (n, size) True for items without an earlier click.
    """

    user: Int32
    time: Int64
    item: Int32
    clicked: Int64
    never_seen: Bool


def first_clicks(events: Events) -> FirstClicks:
    """Each known user's first click on each item, dated at the user's first event on it.

    Where that event is more than 30 minutes before, the click makes no impression, and neither does a click whose first
    event is undated.
    """
    with_user = np.flatnonzero(events.user >= 0)
    order = with_user[np.lexsort((events.time[with_user], events.item[with_user], events.user[with_user]))]
    user, item, time = events.user[order], events.item[order], events.time[order]
    starts = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])]) if len(order) else order
    pair = np.cumsum(np.isin(np.arange(len(order)), starts)) - 1
    clicks = np.flatnonzero(events.positive[order])
    pairs, first = np.unique(pair[clicks], return_index=True)
    click, first_event = clicks[first], starts[pairs]
    makes_impression = (time[click] - time[first_event] <= _NEAR) & events.dated[order[first_event]]
    chosen = first_event[makes_impression][
        np.lexsort((item[first_event[makes_impression]], time[first_event[makes_impression]]))
    ]
    unknown = int((events.positive & (events.user < 0)).sum())
    return FirstClicks(user[chosen], item[chosen], time[chosen], int((~makes_impression).sum()), unknown)


def slates(
    events: Events, catalog: Catalog, firsts: FirstClicks, *, size: int, seed: int, window: int, block: int = 1
) -> Iterator[SampledImpressions]:
    """The impressions for `firsts` in their order, `block` or more at a time; a click without a negative makes none.

    size: candidates of an impression. window: clicks from an impression's time on that give its negatives.
    """
    if size < 2 or window < 1:
        raise ValueError(f"expected a size from 2 and a window from 1, got size {size} and window {window}")
    rng = np.random.default_rng(seed)
    clicks = ClickTimeline(events, len(catalog))
    pairs_with_event = np.unique(_pairs(events.user, events.item, len(catalog)))
    share = _moving_mean(clicks.first_click_time[firsts.item] >= firsts.time, _NEARBY)
    pending: list[SampledImpressions] = []
    for start in range(0, len(firsts.user), _BLOCK):
        rows = slice(start, start + _BLOCK)
        user, item, time = firsts.user[rows], firsts.item[rows], firsts.time[rows]
        n_new = rng.binomial(size - 1, share[rows])
        drawn, new = clicks.following(int(time[0]), window).draw(time, n_draws=_DRAWS * size, rng=rng)
        usable = (drawn >= 0) & ~repeated_in_row(drawn) & (catalog.published_at[drawn] <= time[:, None])
        usable &= ~_among(_pairs(user[:, None], drawn, len(catalog)), pairs_with_event)
        negatives = _choose(drawn, usable, new, n_new, size - 1)
        pending.append(_shuffled(user, time, np.column_stack([item, negatives]), clicks.first_click_time, rng))
        if sum(len(sampled.user) for sampled in pending) >= block:
            yield _concatenated(pending)
            pending = []
    if pending:
        yield _concatenated(pending)


def repeated_in_row(values: npt.NDArray[np.integer]) -> Bool:
    """(n, k) True where a value repeats one further left in its row."""
    order = np.argsort(values, axis=1, kind="stable")
    in_order = np.take_along_axis(values, order, axis=1)
    repeated = np.zeros(values.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    return repeated


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
        return CandidatePool(item[order], first[order], np.concatenate([[0], np.cumsum(count[order])]))


@dataclass(frozen=True)
class CandidatePool:
    """Distinct items of a stretch of clicks, the longest known ones first. first_click_time: (k,). cumulative: (k + 1,)
    occurrences."""

    item: Int32
    first_click_time: Int64
    cumulative: Int64

    def draw(self, time: Int64, *, n_draws: int, rng: np.random.Generator) -> tuple[Int32, Bool]:
        """(n, 2 n_draws) items for impressions at `time` (n,), -1 for none, and which were never clicked before it.

        The first half of the columns are such items, the second half are others; in each half every other column is
        drawn by occurrence, the rest evenly.
        """
        n_old = np.searchsorted(self.first_click_time, time, side="left")[:, None]
        drawn = []
        for low, high in ((n_old, np.full_like(n_old, len(self.item))), (np.zeros_like(n_old), n_old)):
            chance = rng.random((len(time), n_draws))
            first, last = self.cumulative[low], self.cumulative[high]
            index = np.searchsorted(self.cumulative, first + chance * (last - first), side="right") - 1
            index[:, ::2] = (low + chance * (high - low)).astype(np.int64)[:, ::2]
            drawn.append(np.where(high > low, self.item[np.minimum(index, len(self.item) - 1)], -1))
        new = np.arange(2 * n_draws) < n_draws
        return np.hstack(drawn).astype(np.int32), np.broadcast_to(new, (len(time), 2 * n_draws))


def _pairs(user: Int32, item: Int32, n_items: int) -> Int64:
    return np.asarray(user.astype(np.int64) * n_items + item)


def _among(values: Int64, ordered: Int64) -> Bool:
    """Mask of the `values` that are in the sorted `ordered`, which holds one value or more; same shape as `values`."""
    index = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[index] == values)


def _moving_mean(values: Bool, reach: int) -> Float64:
    """(n,) mean over up to `reach` values on either side."""
    total = np.concatenate([[0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - reach, 0)
    high = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def _choose(drawn: Int32, usable: Bool, new: Bool, n_new: Int64, n_others: int) -> Int32:
    """(n, n_others) items: n_new (n,) new ones and old ones beside them, or what there is; -1 beyond."""
    chosen = usable & new & (np.cumsum(usable & new, axis=1) <= n_new[:, None])
    chosen |= usable & ~new & (np.cumsum(usable & ~new, axis=1) <= n_others - n_new[:, None])
    choice = np.argsort(np.where(chosen, 0, np.where(usable, 1, 2)), axis=1, kind="stable")[:, :n_others]
    return np.asarray(np.take_along_axis(np.where(usable, drawn, -1), choice, axis=1))


def _shuffled(
    user: Int32, time: Int64, item: Int32, first_click_time: Int64, rng: np.random.Generator
) -> SampledImpressions:
    """Lists whose first column is the clicked item, in random order; those without another item are left out."""
    has_negative = item[:, 1] >= 0
    user, time, item = user[has_negative], time[has_negative], item[has_negative]
    order = np.argsort(np.where(item >= 0, rng.random(item.shape), 2.0), axis=1)
    item = np.take_along_axis(item, order, axis=1)
    never_seen = (item >= 0) & (first_click_time[item] >= time[:, None])
    return SampledImpressions(user, time, item, np.argmin(order, axis=1), never_seen)


def _concatenated(batches: list[SampledImpressions]) -> SampledImpressions:
    return SampledImpressions(
        *(np.concatenate([getattr(batch, field.name) for batch in batches]) for field in fields(SampledImpressions))
    )
