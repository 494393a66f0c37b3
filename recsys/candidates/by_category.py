"""Items by a weight of their own, popular or new ones, in the categories that a user clicks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import CsrLists, Float64, Int64, offsets_of
from features.log import Categorical
from recsys.candidates.best_items import ScoredLists
from recsys.candidates.source import UserBlock

_CATEGORIES = 10
"""A user's most clicked categories that are read."""


@dataclass(frozen=True)
class CategorySource:
    """Items with a weight above 0 by weight times share: an item's share for a user is (c + 1) / (n + 1), with n the
    categories of the items in the user's history and c how many of them are the item's. Of the item's categories the
    best counts, and of the user's the 10 most clicked.

    weight: (n_items,). lists: codes of items in each category and, in the last row, of all; the heaviest first, equal
    weights by id. category: the categories of each item, (n_items + 1,) rows; None where items have none.
    """

    name: str
    weight: Float64
    lists: CsrLists
    category: CsrLists | None
    adds: bool = False

    def find(self, users: UserBlock, *, most: int) -> ScoredLists:
        """The heaviest items of each user's categories and of all, with all that are among the user's `most` best."""
        history = users.history
        user, row, clicks, total = self._clicked_categories(history)
        everybody = np.arange(len(history))
        user = np.concatenate([user, everybody])
        order = np.argsort(user, kind="stable")
        user, row = user[order], np.concatenate([row, np.full(len(history), len(self.lists) - 1)])[order]
        share = (np.concatenate([clicks, np.zeros(len(history), np.int64)])[order] + 1) / (total[user] + 1)
        length = np.minimum(self.lists.lengths()[row], most + users.banned.lengths()[user])
        starts = offsets_of(length)
        entry = np.repeat(self.lists.offsets[row] - starts[:-1], length) + np.arange(starts[-1])
        item = self.lists.codes[entry]
        offsets = starts[np.searchsorted(user, np.arange(len(history) + 1))]
        return ScoredLists(offsets, item, self.weight[item] * np.repeat(share, length))

    def _clicked_categories(self, history: CsrLists) -> tuple[Int64, Int64, Int64, Int64]:
        """The most clicked categories of each user: (user, category, clicks) in the order of users; and (n_users,) the
        clicks on all."""
        if self.category is None:
            nothing = np.zeros(0, np.int64)
            return nothing, nothing, nothing, np.zeros(len(history), np.int64)
        values = self.category.take(history.codes)
        owner = np.repeat(np.repeat(np.arange(len(history)), history.lengths()), values.lengths())
        pairs, clicks = np.unique(owner * len(self.lists) + values.codes, return_counts=True)
        user, category = pairs // len(self.lists), pairs % len(self.lists)
        order = np.lexsort((category, -clicks, user))
        user, category, clicks = user[order], category[order], clicks[order]
        kept = np.arange(len(user)) - np.searchsorted(user, user) < _CATEGORIES
        return user[kept], category[kept], clicks[kept], np.bincount(owner, minlength=len(history))


def category_source(name: str, weight: Float64, category: Categorical | None) -> CategorySource:
    """The source of the items with a weight above 0. weight: (n_items,). category: of the catalog, one row more."""
    codes = np.flatnonzero(weight > 0)
    heaviest = codes[np.lexsort((codes, -weight[codes]))].astype(np.int32)
    if category is None:
        return CategorySource(name, weight, CsrLists(offsets_of([len(heaviest)]), heaviest), None)
    values = category.codes.take(heaviest)
    order = np.argsort(values.codes, kind="stable")
    lengths = np.bincount(values.codes, minlength=len(category.values))
    in_categories = np.repeat(heaviest, values.lengths())[order]
    lists = CsrLists(offsets_of([*lengths, len(heaviest)]), np.concatenate([in_categories, heaviest]))
    return CategorySource(name, weight, lists, category.codes)
