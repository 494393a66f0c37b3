"""Which repeats make an impression, so that an earlier event of the user says nothing of the clicked item.

The clicked item of a repeat is hidden among negatives that the user has touched before as well. Impressions for which
about as many such negatives can be shown, within a factor of two, are compared: among these, touched negatives are as
frequent as touched clicked items. That takes enough of them. Where more than half of those that there are would be
needed, so many repeats are left out at random that half is enough; where there are none, all repeats are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.arrays import Bool, Float64, Int64
from features.tables.click_timeline import ClickTimeline
from features.tables.list_clicks import ListClicks, moving_share
from features.tables.touched_items import TouchedItems


def hide_repeats(
    clicks: ListClicks, timeline: ClickTimeline, touched: TouchedItems, *, size: int, seed: int, window: int
) -> ListClicks:
    """The clicks whose impressions give nothing away, with the share of touched items among the negatives of each.

    size, window: as `features.tables.negative_sampling.slates` takes them.
    """
    if not clicks.touched.any():
        return clicks
    group = np.floor(np.log2(_to_show(clicks, timeline, touched, window) + 1)).astype(np.int64)
    most = np.minimum((2.0**group - 1) / (2 * (size - 1)), 1.0)
    share = _share_of_repeats(clicks.touched, group)
    kept_repeats = most * (1 - share) / np.maximum(share * (1 - most), 1e-9)
    left_out = clicks.touched & (np.random.default_rng([seed, 1]).random(len(share)) >= kept_repeats)
    kept = clicks.without(left_out)
    return replace(kept, touched_share=_share_of_repeats(kept.touched, group[~left_out]))


def _to_show(clicks: ListClicks, timeline: ClickTimeline, touched: TouchedItems, window: int) -> Int64:
    """(n,) items beside the clicked one that each user has touched before and that can be its negatives."""
    counts = []
    for rows in clicks.blocks():
        user, time = clicks.user[rows], clicks.time[rows]
        chance = timeline.following(int(time[0]), window).chances(even_share=1.0)
        row, item = touched.at_rest(user, time, chance)
        counts.append(np.bincount(row[item != clicks.item[rows][row]], minlength=len(user)))
    return np.concatenate(counts)


def _share_of_repeats(is_repeat: Bool, group: Int64) -> Float64:
    """(n,) share of repeats among the impressions of the same group around each."""
    share = np.zeros(len(group))
    for one in np.unique(group):
        of_group = group == one
        share[of_group] = moving_share(is_repeat[of_group], np.ones(int(of_group.sum()), np.bool_))
    return share
