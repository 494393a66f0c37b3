"""Lists that one method orders much better or much worse than another, with the details that explain the difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import CsrLists, Float64, Int32, Int64
from features.log import Catalog, Impressions
from recsys.metrics.rank_order import ordered
from recsys.metrics.ranking import list_metrics

EXAMPLES = 5
TOP = 5
RECENT = 5


@dataclass(frozen=True)
class ExampleItem:
    """One item of a list or history. title: "" where it has none."""

    item_id: str
    title: str
    clicked: bool = False


@dataclass(frozen=True)
class RankChange:
    """A clicked item and its rank, from 1, before and after."""

    item: ExampleItem
    before: int
    after: int


@dataclass(frozen=True)
class Example:
    """One list. before, after: ndcg_at_10 of the two methods. recent: the user's latest clicks before it, the newest
    first. top_before, top_after: the first ranks of both methods. moved: every clicked item, by its rank after."""

    impression_id: str
    time: int
    n_candidates: int
    before: float
    after: float
    recent: tuple[ExampleItem, ...]
    history_length: int
    top_before: tuple[ExampleItem, ...]
    top_after: tuple[ExampleItem, ...]
    moved: tuple[RankChange, ...]

    @property
    def change(self) -> float:
        """How much better it became."""
        return self.after - self.before


@dataclass(frozen=True)
class ListExamples:
    """The lists that changed most of n_lists tested ones. better, worse, same: how many did what at all."""

    improved: tuple[Example, ...]
    worsened: tuple[Example, ...]
    better: int
    worse: int
    same: int

    @property
    def n_lists(self) -> int:
        """Tested lists."""
        return self.better + self.worse + self.same


def list_examples(
    before: Float64,
    after: Float64,
    impressions: Impressions,
    histories: CsrLists,
    catalog: Catalog,
    *,
    most: int = EXAMPLES,
) -> ListExamples:
    """The `most` lists of distinct users that became better, and worse, by most; equal changes in the lists' order.

    before, after: (n_rows,) scores of the two methods, each ordered as an answer is: equal scores by item id.
    histories: n rows of item codes before each list, oldest first.
    """
    offsets, label = impressions.requests.offsets, impressions.label
    ndcg = [list_metrics(scores, label, offsets).ndcg_at_10 for scores in (before, after)]
    change = ndcg[1] - ndcg[0]
    ranks = [_ranks(scores, impressions) for scores in (before, after)]

    def describe(i: int) -> Example:
        rows = np.arange(offsets[i], offsets[i + 1])
        items = [_item(catalog, impressions.requests.item[row], clicked=bool(label[row] > 0)) for row in rows]
        first, last = (ranked[rows] for ranked in ranks)
        history = histories.row(i)
        clicks = sorted(np.flatnonzero(label[rows] > 0), key=lambda row: last[row])
        return Example(
            impression_id=str(impressions.ids[i]),
            time=int(impressions.requests.time[i]),
            n_candidates=len(rows),
            before=float(ndcg[0][i]),
            after=float(ndcg[1][i]),
            recent=tuple(_item(catalog, code) for code in history[::-1][:RECENT]),
            history_length=len(history),
            top_before=tuple(items[row] for row in np.argsort(first)[:TOP]),
            top_after=tuple(items[row] for row in np.argsort(last)[:TOP]),
            moved=tuple(RankChange(items[row], int(first[row]), int(last[row])) for row in clicks),
        )

    user = impressions.requests.user
    return ListExamples(
        improved=tuple(describe(i) for i in _largest(change, user, most)),
        worsened=tuple(describe(i) for i in _largest(-change, user, most)),
        better=int((change > 0).sum()),
        worse=int((change < 0).sum()),
        same=int((change == 0).sum()),
    )


def _largest(change: Float64, user: Int32, most: int) -> list[int]:
    """Lists with the largest positive changes, at most one a user; those of unknown users are all distinct."""
    chosen: list[int] = []
    seen: set[int] = set()
    for i in np.argsort(-np.nan_to_num(change, nan=-np.inf), kind="stable"):
        if len(chosen) == most or not change[i] > 0:
            break
        if int(user[i]) not in seen:
            chosen.append(int(i))
            seen |= {int(user[i])} - {-1}
    return chosen


def _ranks(scores: Float64, impressions: Impressions) -> Int64:
    """Ranks from 1 of every row within its list, (n_rows,)."""
    requests = impressions.requests
    order, rank = ordered(scores, requests.item.astype(np.int64), requests.offsets)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = rank
    return ranks


def _item(catalog: Catalog, code: np.integer | int, *, clicked: bool = False) -> ExampleItem:
    in_catalog = code >= 0
    return ExampleItem(str(catalog.ids[code]) if in_catalog else "", str(catalog.title[code]), clicked)
