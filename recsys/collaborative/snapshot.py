"""A collaborative snapshot: three tables of items, built from the clicks before one time.

co-click: cosine of the sets of users who clicked two items (item-based neighbours, Sarwar et al., WWW 2001).
factors: a truncated SVD of the users by items matrix of clicks (Cremonesi et al., RecSys 2010, PureSVD).
audience: the mean text vector of the users who clicked the item, a user's being the mean of what they clicked.

The same clicks give the same neighbours and audiences, to the last bit, on every CPU: counts are whole numbers, and
text vectors lie on the grid of `features.exact`, where sums are exact in any order. Factors depend on the CPU's kernels
and, if BLAS has several, on its number of threads: the commands give it one. They are computed once and stored, and
what reads them computes on the grid again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd

from features.arrays import CsrLists, Float32, Float64, Int32, Int64, offsets_of
from features.exact import to_grid

_BLOCK = 2048
_SEED = 0


class TableSettings(BaseModel):
    """How snapshots are built and when; part of a ranker version. Other fields: as `config.CollaborativeConfig`.

    The aliases are the names of older versions; stores name their snapshots by them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    first_build: int = Field(alias="origin")
    """A time as of which a snapshot is built, microseconds since the epoch."""
    build_interval: int = Field(alias="period")
    """From one build to the next, microseconds."""
    user_items: int
    neighbours: int
    shrinkage: float
    factors: int

    def build_times(self, times: Int64) -> Int64:
        """The newest build at or before each time, (n,) microseconds: its snapshot holds the clicks before it."""
        return self.first_build + (times - self.first_build) // self.build_interval * self.build_interval


@dataclass(frozen=True)
class Neighbours:
    """The most similar items of n items. offsets: (n + 1,). item: (m,) codes, ascending within a row. similarity: (m,)
    above 0."""

    offsets: Int64
    item: Int32
    similarity: Float32

    @cached_property
    def _keys(self) -> Int64:
        """(m,) row * n + item of each entry, ascending."""
        n = len(self.offsets) - 1
        return np.repeat(np.arange(n), np.diff(self.offsets)) * n + self.item

    def of_pairs(self, row: Int64, item: Int64) -> Float64:
        """Similarity of pairs of items, (m,); 0 where `item` is none of the row's. Codes from 0 to n - 1."""
        keys = row * (len(self.offsets) - 1) + item
        index = np.searchsorted(self._keys, keys)
        present = index < len(self._keys)
        present[present] = self._keys[index[present]] == keys[present]
        similarity = np.zeros(len(keys))
        similarity[present] = self.similarity[index[present]]
        return similarity


@dataclass(frozen=True)
class CollaborativeSnapshot:
    """The three tables by code of n items. factors: (n, k) and audience: (n, d), float32, NaN rows where no click says
    anything."""

    neighbours: Neighbours
    factors: Float32
    audience: Float32

    def to_global_codes(self, items: Int32, n: int) -> CollaborativeSnapshot:
        """The same for items whose codes are 0 to n - 1. items: (len(self),) the new code of each, ascending."""
        neighbours = self.neighbours
        lengths = np.zeros(n, np.int64)
        lengths[items] = np.diff(neighbours.offsets)
        offsets = offsets_of(lengths)
        return CollaborativeSnapshot(
            Neighbours(offsets, items[neighbours.item], neighbours.similarity),
            _spread_rows(self.factors, items, n),
            _spread_rows(self.audience, items, n),
        )


def build_tables(clicked: CsrLists, text_vectors: Float32, settings: TableSettings) -> CollaborativeSnapshot:
    """The snapshot of some users' clicks on n items.

    clicked: for each user, in the order of their ids, the codes of the distinct items clicked before its time, from 0
    to n - 1, each of which some user clicked. text_vectors: (n, d), NaN rows for items without text.
    """
    n_items = len(text_vectors)
    with_clicks = clicked.take(np.flatnonzero(clicked.lengths() > 0))
    by_user = csr_matrix(
        (np.ones(len(with_clicks.codes)), with_clicks.codes, with_clicks.offsets), shape=(len(with_clicks), n_items)
    )
    by_user.sort_indices()
    by_item = by_user.T.tocsr()
    factors = _factors(by_user, settings.factors)
    return CollaborativeSnapshot(
        _neighbours(by_user, by_item, settings), factors, _audiences(by_user, by_item, text_vectors)
    )


def _neighbours(by_user: csr_matrix, by_item: csr_matrix, settings: TableSettings) -> Neighbours:
    """The most similar items of each, block by block: memory holds one block of the items by items matrix."""
    n_items = by_user.shape[1]
    size = np.sqrt(np.diff(by_item.indptr).astype(np.float64))
    offsets = np.zeros(n_items + 1, np.int64)
    items, similarities = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for start in range(0, n_items, _BLOCK):
        together = by_item[start : start + _BLOCK] @ by_user
        row = np.repeat(np.arange(start, start + together.shape[0]), np.diff(together.indptr))
        common = size[row] * size[together.indices] + settings.shrinkage
        similarity = (together.data / common).astype(np.float32)
        similarity[row == together.indices] = 0
        nearest = _most_similar(together.indptr, together.indices, similarity, settings.neighbours)
        row, item = row[nearest], together.indices[nearest]
        order = np.argsort(row * n_items + item)
        offsets[start + 1 : start + _BLOCK + 1] = np.bincount(row - start, minlength=together.shape[0])
        items.append(item[order].astype(np.int32))
        similarities.append(similarity[nearest][order])
    return Neighbours(np.cumsum(offsets), np.concatenate(items), np.concatenate(similarities))


def _most_similar(starts: Int32, item: Int32, similarity: Float32, most: int) -> Int64:
    """Positions of the `most` largest similarities above 0 of each row, of equal ones the smallest items."""
    key = ((~similarity.view(np.int32)).astype(np.int64) << 32) | item  # positive floats sort as their bits do
    is_nearest = similarity > 0
    for row in np.flatnonzero(np.diff(starts) > most).tolist():
        entries = slice(starts[row], starts[row + 1])
        is_nearest[entries][np.argpartition(key[entries], most)[most:]] = False
    return np.flatnonzero(is_nearest)


def _factors(by_user: csr_matrix, width: int) -> Float32:
    """(n_items, width) rows of the right singular vectors times their singular values, each user's clicks at length 1;
    zeros beyond the rank."""
    n_users, n_items = by_user.shape
    factors = np.zeros((n_items, width), np.float32)
    rank = min(width, n_users, n_items)
    if rank:
        weighted = by_user.multiply(1.0 / np.sqrt(np.diff(by_user.indptr))[:, None]).tocsr()
        _, values, vectors = randomized_svd(weighted, rank, n_iter=4, random_state=_SEED, flip_sign=False)
        factors[:, :rank] = vectors.T * values
    return factors


def _audiences(by_user: csr_matrix, by_item: csr_matrix, text_vectors: Float32) -> Float32:
    """(n_items, d) mean of the unit text vectors of those who clicked the item; NaN where none of them has one.

    text_vectors: (n_items, d), on the grid of `features.exact`, as users' unit vectors are here: both sums are exact.
    """
    has_text = np.asarray(~np.isnan(text_vectors).any(axis=1))
    users = by_user @ np.where(has_text[:, None], text_vectors, 0.0).astype(np.float64)
    length = np.sqrt((users * users).sum(axis=1))
    has_vector = length > 0
    users[has_vector] /= length[has_vector, None]
    users = to_grid(users).astype(np.float64)
    clickers = by_item @ has_vector.astype(np.float64)
    means = np.full((len(clickers), users.shape[1]), np.nan)
    np.divide(by_item @ users, clickers[:, None], out=means, where=clickers[:, None] > 0)
    return means.astype(np.float32)


def _spread_rows(rows: Float32, items: Int32, n: int) -> Float32:
    spread = np.full((n, rows.shape[1]), np.nan, np.float32)
    spread[items] = rows
    return spread
