"""Items that the users clicked who clicked what this user clicked: the method `item_knn` as a source of candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from features.arrays import CsrLists, Int32
from recsys.candidates.best_items import ScoredLists
from recsys.candidates.source import UserBlock
from recsys.collaborative.neighbours import Neighbours, co_click_neighbours


def neighbours_of_clicks(clicked: CsrLists, n_items: int, *, shrinkage: float, most: int) -> Neighbours:
    """The `most` items most similar to each by who clicked both. clicked: distinct items, a row a user. Others: as
    `recsys.collaborative.neighbours.co_click_neighbours`."""
    items, codes = np.unique(clicked.codes, return_inverse=True)
    by_user = csr_matrix(
        (np.ones(len(codes)), codes.astype(np.int32), clicked.offsets), shape=(len(clicked), len(items))
    )
    by_user.sort_indices()
    found = co_click_neighbours(by_user, by_user.T.tocsr(), shrinkage=shrinkage, most=most)
    return found.to_global_codes(items.astype(np.int32), n_items)


@dataclass(frozen=True)
class CoClickSource:
    """Items by the sum of their co-click similarities to the items of a user's history."""

    neighbours: Neighbours
    name: str = "co_click"
    adds: bool = True

    def find(self, users: UserBlock, *, most: int) -> ScoredLists:
        """The neighbours of everything in the users' histories, oldest first, whose similarities are to be added."""
        neighbours, history = self.neighbours, users.history
        entries = CsrLists(neighbours.offsets, self._entries).take(history.codes)
        item, similarity = neighbours.item[entries.codes], neighbours.similarity[entries.codes]
        return ScoredLists(entries.offsets[history.offsets], item, similarity.astype(np.float64))

    @cached_property
    def _entries(self) -> Int32:
        return np.arange(len(self.neighbours.item), dtype=np.int32)
