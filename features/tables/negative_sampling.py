"""The negatives of sampled impressions; `features.tables.sampled_impressions` gives the reasons.

Clicks are positive, dated events. Lists are drawn in blocks that share one stretch of the clicks that follow them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from features.arrays import Bool, Float64, Int32, Int64
from features.log import Catalog
from features.tables.click_timeline import ClickTimeline
from features.tables.list_clicks import ListClicks, moving_share
from features.tables.touched_items import TouchedItems

_DRAWS = 4


@dataclass(frozen=True)
class SampledImpressions:
    """Impressions in the order of time. item: (n, size) codes by position, -1 beyond the end of a shorter one.

    clicked: (n,) column of the clicked item. never_seen: (n, size) True for items without an earlier click. touched:
    (n, size) True for items that the user has an earlier event on.
    """

    user: Int32
    time: Int64
    item: Int32
    clicked: Int64
    never_seen: Bool
    touched: Bool


def slates(
    catalog: Catalog,
    clicks: ListClicks,
    timeline: ClickTimeline,
    touched: TouchedItems,
    *,
    size: int,
    seed: int,
    window: int,
    even_share: float = 0.5,
    block: int = 1,
) -> Iterator[SampledImpressions]:
    """The impressions of `clicks` in their order, `block` or more at a time; a click without a negative makes none.

    size: candidates of an impression. window: clicks from an impression's time on that give its negatives. even_share:
    share of the negatives that are drawn evenly over the items of these clicks; the others by how often they occur.
    """
    if size < 2 or window < 1:
        raise ValueError(f"expected a size from 2 and a window from 1, got size {size} and window {window}")
    rng = np.random.default_rng(seed)
    is_new = timeline.first_click_time[clicks.item] >= clicks.time
    new_share = moving_share(is_new, ~clicks.touched)
    pending: list[SampledImpressions] = []
    for rows in clicks.blocks():
        user, item, time = clicks.user[rows], clicks.item[rows], clicks.time[rows]
        pool = timeline.following(int(time[0]), window)
        n_others = np.full(len(user), size - 1)
        known = np.full((len(user), 0), -1, np.int32)
        if clicks.touched_share[rows].any():
            wanted = rng.binomial(n_others, clicks.touched_share[rows])
            chance = pool.chances(even_share)
            known = _draw_touched(touched, chance, user, item, time, wanted=wanted, rng=rng)
            n_others -= (known >= 0).sum(axis=1)
        n_new = rng.binomial(n_others, new_share[rows])
        drawn, new = pool.draw(time, n_draws=_DRAWS * size, even_share=even_share, rng=rng)
        usable = (drawn >= 0) & ~repeated_in_row(drawn) & (catalog.published_at[drawn] <= time[:, None])
        usable &= ~touched.ever(user[:, None], drawn)
        negatives = _choose(known, drawn, usable, new, n_new, n_others, size - 1)
        pending.append(_shuffled(user, time, np.column_stack([item, negatives]), timeline, touched, rng))
        if sum(len(sampled.user) for sampled in pending) >= block:
            yield _concatenated(pending)
            pending = []
    if pending:
        yield _concatenated(pending)


def _draw_touched(
    touched: TouchedItems,
    chance: Float64,
    user: Int32,
    item: Int32,
    time: Int64,
    *,
    wanted: Int64,
    rng: np.random.Generator,
) -> Int32:
    """(n, k) items that each user has touched, up to `wanted` (n,) of them in random order, -1 beyond. chance:
    (n_items,) of each item to be the first. item: (n,) what is left out."""
    row, candidate = touched.at_rest(user, time, chance)
    other = candidate != item[row]
    row, candidate = row[other], candidate[other]
    order = np.lexsort((rng.exponential(size=len(row)) / chance[candidate], row))
    row, candidate = row[order], candidate[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    chosen = place < wanted[row]
    drawn = np.full((len(user), int(wanted.max())), -1, np.int32)
    drawn[row[chosen], place[chosen]] = candidate[chosen]
    return drawn


def repeated_in_row(values: npt.NDArray[np.integer]) -> Bool:
    """(n, k) True where a value repeats one further left in its row."""
    order = np.argsort(values, axis=1, kind="stable")
    in_order = np.take_along_axis(values, order, axis=1)
    repeated = np.zeros(values.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    return repeated


def _choose(
    known: Int32, drawn: Int32, usable: Bool, new: Bool, n_new: Int64, n_others: Int64, n_negatives: int
) -> Int32:
    """(n, n_negatives) items: the known ones, then n_others (n,) of the usable drawn ones, of which n_new (n,) are new,
    or what there is; -1 beyond."""
    chosen = usable & new & (np.cumsum(usable & new, axis=1) <= n_new[:, None])
    chosen |= usable & ~new & (np.cumsum(usable & ~new, axis=1) <= (n_others - n_new)[:, None])
    items = np.hstack([known, np.where(usable, drawn, -1)])
    preference = np.hstack([np.where(known >= 0, 0, 2), np.where(chosen, 0, np.where(usable, 1, 2))])
    choice = np.argsort(preference, axis=1, kind="stable")[:, :n_negatives]
    return np.asarray(np.take_along_axis(items, choice, axis=1))


def _shuffled(
    user: Int32,
    time: Int64,
    item: Int32,
    timeline: ClickTimeline,
    touched: TouchedItems,
    rng: np.random.Generator,
) -> SampledImpressions:
    """Lists whose first column is the clicked item, in random order; those without another item are left out."""
    has_negative = item[:, 1] >= 0
    user, time, item = user[has_negative], time[has_negative], item[has_negative]
    order = np.argsort(np.where(item >= 0, rng.random(item.shape), 2.0), axis=1)
    item = np.take_along_axis(item, order, axis=1)
    there = item >= 0
    never_seen = there & (timeline.first_click_time[item] >= time[:, None])
    was_touched = there & touched.before(user[:, None], item, time[:, None])
    return SampledImpressions(user, time, item, np.argmin(order, axis=1), never_seen, was_touched)


def _concatenated(batches: list[SampledImpressions]) -> SampledImpressions:
    return SampledImpressions(
        *(np.concatenate([getattr(batch, field.name) for batch in batches]) for field in fields(SampledImpressions))
    )
