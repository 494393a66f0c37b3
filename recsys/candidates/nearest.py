"""Items whose texts are nearest to what a user clicked last: exact search over the item vectors, block by block.

Vectors lie on the grid of `features.exact`, so a product in float64 is exact: the nearest items, equal ones by id, are
the same on every CPU, with any block size and any number of threads. A product in float32 comes first. Its error has a
bound (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), so it can rule an item out, and only
what is left is multiplied in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.arrays import Bool, CsrLists, Float32, Float64, Int32, Int64, offsets_of
from features.exact import to_grid
from recsys.candidates.best_items import ScoredLists, scan_products, sort_each
from recsys.candidates.source import UserBlock, last_of_each
from recsys.encoder.snapshots import zeros_or_spilled

_UNIT = 2.0**-24
"""Unit roundoff of float32."""
_LONGEST = 1.002
"""Norm that no item vector exceeds."""
_MEMORY_BYTES = 512 * 2**20
"""Nearest items of items beyond that are stored on disk."""


@dataclass(frozen=True)
class ItemSearch:
    """Exact search over item vectors. vectors: (n_items, d), on the grid, of norm 1.001 at most; NaN rows without text.
    allowed: (n_items,) the items that may be found. query_rows, item_rows: how many are multiplied at a time.

    Raises ValueError where a vector is longer, since its products would not be exact.
    """

    vectors: Float32
    allowed: Bool
    query_rows: int = 256
    item_rows: int = 4096

    def __post_init__(self) -> None:
        norms = (np.sqrt((block.astype(np.float64) ** 2).sum(axis=1)) for _, block in self._blocks())
        longest = max((float(np.fmax.reduce(norm, initial=0.0)) for norm in norms), default=0.0)
        if longest > _LONGEST:
            raise ValueError(f"expected item vectors of norm 1, got one of {longest:g}; encode the items again")

    @cached_property
    def searched(self) -> Bool:
        """(n_items,) the items that may be found and have a vector."""
        return np.asarray(self.allowed & ~np.isnan(self.vectors).any(axis=1))

    def nearest(self, queries: Float32, left_out: CsrLists, *, most: int, threads: int = 1) -> tuple[Int32, Float64]:
        """The `most` items with the largest products with each query, best first: codes and products, (n, most) each;
        -1 and NaN fill the row of a query that finds fewer.

        queries: (n, d), vectors as those of items. left_out: ascending codes that a query may not find, a row a query.
        """
        item, score = np.full((len(queries), most), -1, np.int32), np.full((len(queries), most), np.nan)

        def search(first: int) -> None:
            rows = slice(first, first + self.query_rows)
            of_rows = (left_out.offsets[first : first + self.query_rows + 1], left_out.codes)
            size = np.zeros(len(queries[rows]), np.int64)
            for start, block in self._blocks():
                products = queries[rows] @ block.T
                scan_products(
                    queries[rows],
                    block,
                    start,
                    products,
                    self._slack,
                    self.searched,
                    of_rows,
                    score[rows],
                    item[rows],
                    size,
                )
            sort_each(score[rows], item[rows], size)

        starts = range(0, len(queries) if most else 0, self.query_rows)
        if threads == 1 or len(starts) == 1:
            list(map(search, starts))
            return item, score
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(search, starts))
        return item, score

    @property
    def _slack(self) -> float:
        """No float32 product of a query and an item is further from the exact one: d u / (1 - d u) times both norms."""
        dim = int(self.vectors.shape[1])
        return 1.01 * _LONGEST**2 * dim * _UNIT / (1 - dim * _UNIT)

    def _blocks(self) -> Iterator[tuple[int, Float32]]:
        for start in range(0, len(self.vectors), self.item_rows):
            yield start, self.vectors[start : start + self.item_rows]


@dataclass(frozen=True)
class NearestItems:
    """The items nearest to some items. rows: (n_items,) the row of each item that was asked for, -1 for the others.
    item, score: as `ItemSearch.nearest` gives them."""

    rows: Int64
    item: Int32
    score: Float64


def nearest_of_items(search: ItemSearch, items: Int64, *, most: int, threads: int) -> NearestItems:
    """The `most` items nearest to each of `items`, distinct codes, but for itself; none where it has no vector."""
    items = items[~np.isnan(search.vectors[items]).any(axis=1)]
    rows = np.full(len(search.vectors), -1, np.int64)
    rows[items] = np.arange(len(items))
    item = zeros_or_spilled((len(items), most), _MEMORY_BYTES, np.int32)
    score = zeros_or_spilled((len(items), most), _MEMORY_BYTES, np.float64)
    step = search.query_rows * 16
    for first in range(0, len(items), step):
        part = items[first : first + step]
        itself = CsrLists(np.arange(len(part) + 1), part.astype(np.int32))
        found = search.nearest(search.vectors[part], itself, most=most, threads=threads)
        item[first : first + step], score[first : first + step] = found
    return NearestItems(rows, item, score)


@dataclass(frozen=True)
class NearestSource:
    """The items nearest to each of a user's last items and to the mean of these, merged by the best similarity.

    near: of all items that are last ones of a user. last_items: how many of a history are read.
    """

    search: ItemSearch
    near: NearestItems
    last_items: int
    name: str = "nearest"
    adds: bool = False

    def find(self, users: UserBlock, *, most: int) -> ScoredLists:
        """What is near to each of the users' last items, and the `most` items nearest to their mean. Items without a
        vector do not count."""
        near, last = self.near, last_of_each(users.history, self.last_items)
        usable = near.rows[last.codes] >= 0
        user = np.repeat(np.arange(len(last)), last.lengths())[usable]
        codes, each = last.codes[usable], near.item.shape[1]
        n_codes = np.bincount(user, minlength=len(last))
        with_mean = np.flatnonzero(n_codes)
        offsets = offsets_of(n_codes * each + (n_codes > 0) * most)
        item, score = np.empty(offsets[-1], np.int32), np.empty(offsets[-1])
        number = np.arange(len(user)) - np.repeat(offsets_of(n_codes)[:-1], n_codes)
        of_items = (offsets[user] + number * each)[:, None] + np.arange(each)
        item[of_items], score[of_items] = near.item[near.rows[codes]], near.score[near.rows[codes]]
        if len(with_mean):
            means = _means(self.search.vectors[codes], np.searchsorted(with_mean, user), len(with_mean))
            of_mean = (offsets[with_mean + 1] - most)[:, None] + np.arange(most)
            item[of_mean], score[of_mean] = self.search.nearest(means, users.banned.take(with_mean), most=most)
        return ScoredLists(offsets, item, score)


def _means(vectors: Float32, owner: Int64, n: int) -> Float32:
    """The mean of each owner's vectors at length 1, on the grid, (n, d). Sums of at most 50 grid vectors are exact."""
    sums = np.zeros((n, vectors.shape[1]))
    np.add.at(sums, owner, vectors.astype(np.float64))
    lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
    return to_grid(np.divide(sums, lengths, out=sums, where=lengths > 0))
