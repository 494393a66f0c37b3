"""Which clicks make a sampled impression; `features.tables.sampled_impressions` gives the reasons.

A user's events on one item are divided into visits: a visit begins with the first event, and with every event that
comes more than 30 minutes after the one before. An impression is dated at the beginning of a visit whose first click
comes within 30 minutes. In the first visit the item is new to the user; the later ones are repeats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Bool, Float64, Int32, Int64
from features.clock import MINUTE
from features.log import Events

NEAR = 30 * MINUTE
"""Longest pause within a visit, and longest time from its beginning to its click; microseconds."""
_BLOCK = 64
_NEARBY = 250


@dataclass(frozen=True)
class ListClicks:
    """The n clicks that make an impression, by the time of their visit, and how many clicks make none.

    time: (n,) of the impression. touched: (n,) whether the user has an earlier event on the item. touched_share: (n,)
    expected share of such items among the negatives. first_left_out: first clicks of a user on an item that make none.
    repeats_left_out: other clicks that make none. not_asked_for: repeats that would make one. not_hidden: repeats that
    make none because too few other items that the user has touched can be shown. unknown_user: clicks without a user.
    """

    user: Int32
    item: Int32
    time: Int64
    touched: Bool
    touched_share: Float64
    first_left_out: int
    repeats_left_out: int
    not_asked_for: int
    not_hidden: int
    unknown_user: int

    def blocks(self) -> Iterator[slice]:
        """Slices of 64 clicks, which share one stretch of the clicks that follow them."""
        return (slice(start, start + _BLOCK) for start in range(0, len(self.user), _BLOCK))

    def without(self, hidden: Bool) -> ListClicks:
        """The clicks but those repeats that cannot be hidden. hidden: (n,) mask of them."""
        kept, n = ~hidden, int(hidden.sum())
        return replace(
            self,
            user=self.user[kept],
            item=self.item[kept],
            time=self.time[kept],
            touched=self.touched[kept],
            touched_share=self.touched_share[kept],
            repeats_left_out=self.repeats_left_out + n,
            not_hidden=self.not_hidden + n,
        )


def list_clicks(events: Events, *, repeats: bool) -> ListClicks:
    """The clicks of known users that make an impression. repeats: in later visits too, not in the first one alone.

    A visit that begins with an event without a time makes none.
    """
    with_user = np.flatnonzero(events.user >= 0)
    order = with_user[np.lexsort((events.time[with_user], events.item[with_user], events.user[with_user]))]
    user, item, time, dated = events.user[order], events.item[order], events.time[order], events.dated[order]
    is_first = _differs(user) | _differs(item)
    begins = is_first | (np.diff(time, prepend=time[:1]) > NEAR) | (dated & ~np.r_[True, dated[:-1]])
    clicks = np.flatnonzero(events.positive[order])
    starts = np.flatnonzero(begins)
    visits, first = np.unique(np.cumsum(begins)[clicks] - 1, return_index=True)
    click, start = clicks[first], starts[visits]
    makes_list = (time[click] - time[start] <= NEAR) & dated[start]
    asked_for = makes_list & (is_first[start] | repeats)
    of_pair = np.unique(np.cumsum(is_first)[clicks], return_index=True)[1]
    n_first = int(np.isin(click[asked_for], clicks[of_pair]).sum())
    chosen = start[asked_for]
    chosen = chosen[np.lexsort((item[chosen], time[chosen]))]
    return ListClicks(
        user[chosen],
        item[chosen],
        time[chosen],
        ~is_first[chosen],
        np.zeros(len(chosen)),
        first_left_out=len(of_pair) - n_first,
        repeats_left_out=len(clicks) - len(of_pair) - (len(chosen) - n_first),
        not_asked_for=int((makes_list & ~asked_for).sum()),
        not_hidden=0,
        unknown_user=int((events.positive & (events.user < 0)).sum()),
    )


def moving_share(values: Bool, among: Bool) -> Float64:
    """(n,) share of `values` among the up to 250 on either side that are `among`; 0 where none is."""
    counted = np.concatenate([[0], np.cumsum(among)])
    total = np.concatenate([[0], np.cumsum(values & among)])
    low = np.maximum(np.arange(len(values)) - _NEARBY, 0)
    high = np.minimum(np.arange(len(values)) + _NEARBY + 1, len(values))
    return np.asarray((total[high] - total[low]) / np.maximum(counted[high] - counted[low], 1))


def _differs(values: Int32) -> Bool:
    """(n,) True where a value differs from the one before, and for the first."""
    return np.concatenate([np.ones(min(1, len(values)), np.bool_), values[1:] != values[:-1]])
