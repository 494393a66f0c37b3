"""How many of the items that users clicked later were among their candidates: recall by source and of the union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features.arrays import Bool, CsrLists, Float64, Int32, Int64, segment_sums
from features.clock import format_time
from features.log import Log
from recsys.candidates.best_items import ScoredLists
from recsys.candidates.filters import Filters, pairs_by_user
from recsys.metrics.bootstrap import Interval, mean_intervals
from recsys.metrics.jsonable import jsonable

UNION = "union"
_SEED = 0


@dataclass(frozen=True)
class LaterClicks:
    """What users clicked in a period. items: distinct ascending codes, a row a user. n_banned: clicks on items that the
    user may not get, which are left out. n_not_allowed: of those that nobody may get, which are missed."""

    start: int
    end: int
    items: CsrLists
    n_banned: int
    n_not_allowed: int


def later_clicks(log: Log, position: Int64, filters: Filters, *, start: int, end: int) -> LaterClicks:
    """The items that users click from `start` on and before `end`, microseconds. position: (n_users of the log,) the
    row of each user in `filters.banned`, -1 for those who are not asked about."""
    events, n_items = log.events, len(log.catalog)
    n_users = len(filters.banned)
    within = (events.time >= start) & (events.time < end) & events.positive & events.dated & (events.user >= 0)
    clicked = pairs_by_user(position[events.user[within]], events.item[within], n_users, n_items)
    user = np.repeat(np.arange(n_users), clicked.lengths())
    banned = np.repeat(np.arange(n_users), filters.banned.lengths()) * n_items + filters.banned.codes
    left = ~np.isin(user * n_items + clicked.codes, banned)
    items = CsrLists(np.append(0, np.cumsum(left))[clicked.offsets], clicked.codes[left])
    return LaterClicks(start, end, items, int((~left).sum()), int((~filters.allowed[items.codes]).sum()))


@dataclass(frozen=True)
class RecallReport:
    """recall: of each source and the union, the mean over users of found / clicked. found: clicks that were found.
    alone: clicks that only this source found."""

    k: int
    later: LaterClicks
    users: int
    recall: dict[str, Interval]
    found: dict[str, int]
    alone: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {
            "k": self.k,
            "from": format_time(self.later.start),
            "until": format_time(self.later.end),
            "users": self.users,
            "clicks": len(self.later.items.codes),
            "left_out": self.later.n_banned,
            "not_available": self.later.n_not_allowed,
            "by_source": {
                name: {"recall": jsonable(interval), "found": self.found[name], "alone": self.alone.get(name)}
                for name, interval in self.recall.items()
            },
        }


@dataclass
class RecallTally:
    """Adds up blocks of users. names: of the sources, in order."""

    later: LaterClicks
    names: Sequence[str]
    k: int
    _hits: list[Int64] = field(default_factory=list)
    _alone: list[Int64] = field(default_factory=list)

    def add(self, first: int, lists: Sequence[ScoredLists], merged: CsrLists) -> None:
        """The candidates of the users from number `first` on. lists: of each source. merged: those that were kept."""
        clicked = CsrLists(self.later.items.offsets[first : first + len(merged) + 1], self.later.items.codes)
        offsets = clicked.offsets - clicked.offsets[0]
        codes = clicked.codes[clicked.offsets[0] : clicked.offsets[-1]]
        by_list = [_found(codes, offsets, one.item, one.offsets) for one in lists]
        by_list.append(_found(codes, offsets, merged.codes, merged.offsets))
        self._hits.append(np.stack([segment_sums(found, offsets) for found in by_list], axis=1))
        n_sources = np.sum(by_list[:-1], axis=0)
        self._alone.append(np.array([int((found & (n_sources == 1)).sum()) for found in by_list[:-1]]))

    def report(self, *, resamples: int) -> RecallReport:
        """Recall over all users with a click, once all blocks are added."""
        hits, n_clicked = np.concatenate(self._hits), self.later.items.lengths()
        users = np.flatnonzero(n_clicked)
        shares: Float64 = hits[users] / n_clicked[users, None]
        intervals = mean_intervals(shares, np.arange(len(users)), resamples=resamples, seed=_SEED)
        names = (*self.names, UNION)
        return RecallReport(
            self.k,
            self.later,
            len(users),
            dict(zip(names, intervals, strict=True)),
            dict(zip(names, hits.sum(axis=0).tolist(), strict=True)),
            dict(zip(self.names, np.sum(self._alone, axis=0).tolist(), strict=True)),
        )


def _found(clicked: Int32, offsets: Int64, item: Int32, item_offsets: Int64) -> Bool:
    """(n,) whether each clicked item is in its user's list. clicked, item: codes in rows of the same users."""
    n = int(max(clicked.max(initial=0), item.max(initial=0))) + 1
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    owner = np.repeat(np.arange(len(item_offsets) - 1), np.diff(item_offsets))
    return np.isin(user * n + clicked, owner * n + item)
