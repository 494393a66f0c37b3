"""The most similar items of each item: by who clicked both, and by how near to each other they were clicked.

co-click: cosine of the sets of users who clicked two items (item-based neighbours, Sarwar et al., WWW 2001).
sequence: over users who clicked both, 1 / the number of positions between the two clicks (sequential rules, Kamehkhosh
et al., 2017, without their direction), divided as the cosine is.

The same clicks give the same neighbours, to the last bit, on every CPU: counts and weights are whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from features.arrays import Float32, Float64, Int32, Int64, offsets_of
from features.exact import to_grid
from features.log import chunk_bounds

_BLOCK = 2048
_PAIRS = 1 << 22
_ADJACENT = 2**16
"""The weight of two clicks in a row."""


@dataclass(frozen=True)
class Neighbours:
    """The most similar items of n items. offsets: (n + 1,). item: (m,) codes, ascending within a row. similarity: (m,)
    above 0."""

    offsets: Int64
    item: Int32
    similarity: Float32

    def to_global_codes(self, items: Int32, n: int) -> Neighbours:
        """The same for items whose codes are 0 to n - 1. items: the new code of each, ascending."""
        lengths = np.zeros(n, np.int64)
        lengths[items] = np.diff(self.offsets)
        return Neighbours(offsets_of(lengths), items[self.item], self.similarity)


def co_click_neighbours(by_user: csr_matrix, by_item: csr_matrix, *, shrinkage: float, most: int) -> Neighbours:
    """The `most` items most similar to each by the users who clicked both. by_user: (n_users, n_items) of ones, indices
    sorted. by_item: its transpose. shrinkage: added to the cosine's denominator."""
    starts = range(0, by_user.shape[1], _BLOCK)
    return _nearest((by_item[start : start + _BLOCK] @ by_user for start in starts), _sizes(by_item), shrinkage, most)


def sequence_neighbours(
    order: Int32, by_user: csr_matrix, by_item: csr_matrix, *, window: int, shrinkage: float, most: int
) -> Neighbours:
    """The `most` items most similar to each by how near to each other users clicked them, on the grid of
    `features.exact`. order: (n_clicks,) the items of each row of `by_user` in the order of the clicks. window:
    positions between two clicks that still count. Others: as `co_click_neighbours`.
    """
    nearby = _nearby_clicks(order, by_user, by_item, window)
    found = _nearest(nearby, _sizes(by_item), shrinkage, most)
    similarity = to_grid(found.similarity)
    kept = similarity > 0
    offsets = np.append(0, np.cumsum(kept))[found.offsets]
    return Neighbours(offsets, found.item[kept], similarity[kept])


def _nearby_clicks(order: Int32, by_user: csr_matrix, by_item: csr_matrix, window: int) -> Iterator[csr_matrix]:
    """Of runs of items, the sum of the weights of their clicks and any other item's, (n_run, n_items) each.

    The weight of two clicks of a user g positions apart is a whole number, 2^16 / g. A run has a bounded number of
    pairs, or one item.
    """
    n_items = by_item.shape[0]
    user = np.repeat(np.arange(by_user.shape[0]), np.diff(by_user.indptr))
    by_code = np.argsort(order, kind="stable")
    gaps = [sign * gap for gap in range(1, window + 1) for sign in (1, -1)]
    for first, end in chunk_bounds(by_item.indptr.astype(np.int64) * len(gaps), _PAIRS):
        clicks = by_code[by_item.indptr[first] : by_item.indptr[end]]
        rows, others, weights = [], [], []
        for gap in gaps:
            other = clicks + gap
            inside = (other >= 0) & (other < len(order))
            inside[inside] = user[other[inside]] == user[clicks[inside]]
            rows.append(order[clicks[inside]] - first)
            others.append(order[other[inside]])
            weights.append(np.full(len(rows[-1]), _ADJACENT // abs(gap), np.float64))
        entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(others)))
        together = csr_matrix(entries, shape=(end - first, n_items))
        together.sum_duplicates()  # which older versions of SciPy leave to the caller
        together.data /= _ADJACENT
        yield together


def _nearest(blocks: Iterable[csr_matrix], size: Float64, shrinkage: float, most: int) -> Neighbours:
    """The most similar items of each. blocks: runs of rows of the items by items matrix, of which memory holds one.
    size: (n_items,) norm of each item."""
    n_items, start = len(size), 0
    lengths = [np.zeros(1, np.int64)]
    items, similarities = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for together in blocks:
        row = np.repeat(np.arange(start, start + together.shape[0]), np.diff(together.indptr))
        similarity = (together.data / (size[row] * size[together.indices] + shrinkage)).astype(np.float32)
        similarity[row == together.indices] = 0
        nearest = _most_similar(together.indptr, together.indices, similarity, most)
        row, item = row[nearest], together.indices[nearest]
        order = np.argsort(row * n_items + item)
        lengths.append(np.bincount(row - start, minlength=together.shape[0]))
        items.append(item[order].astype(np.int32))
        similarities.append(similarity[nearest][order])
        start += together.shape[0]
    return Neighbours(np.cumsum(np.concatenate(lengths)), np.concatenate(items), np.concatenate(similarities))


def _most_similar(starts: Int32, item: Int32, similarity: Float32, most: int) -> Int64:
    """Positions of the `most` largest similarities above 0 of each row, of equal ones the smallest items."""
    key = ((~similarity.view(np.int32)).astype(np.int64) << 32) | item  # positive floats sort as their bits do
    is_nearest = similarity > 0
    for row in np.flatnonzero(np.diff(starts) > most).tolist():
        entries = slice(starts[row], starts[row + 1])
        is_nearest[entries][np.argpartition(key[entries], most)[most:]] = False
    return np.flatnonzero(is_nearest)


def _sizes(by_item: csr_matrix) -> Float64:
    """(n_items,) square root of the number of users who clicked each."""
    return np.asarray(np.sqrt(np.diff(by_item.indptr).astype(np.float64)))
