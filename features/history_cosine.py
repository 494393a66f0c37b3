"""Cosines of candidates with the mean vector of a history, each row's arithmetic independent of every other row."""

from __future__ import annotations

import numpy as np

from features.arrays import Bool, CsrLists, Float32, Float64
from features.log import Requests

_BLOCK = 4096


def history_cosines(
    vectors: Float32, history: CsrLists, requests: Requests, *, of_history: Float32 | None = None
) -> Float64:
    """Cosine of each candidate's vector with the mean of its request's history vectors, (n_rows,).

    vectors: (n_items + 1, d), NaN rows for items without one, which a history skips. history: one row of item codes
    for each request. of_history: vectors of the history's items where they differ from those of candidates. NaN
    where the candidate or the whole history has no vector, or one of them has length 0.
    """
    has_vector = _has_vector(vectors)
    means = _history_means(vectors if of_history is None else of_history, history)
    request = requests.request_of_row()
    cosines = np.full(requests.n_rows, np.nan)
    rows = np.flatnonzero(has_vector[requests.item] & ~np.isnan(means[request, :1]).any(axis=1))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        cosines[block] = _cosines(vectors[requests.item[block]].astype(np.float64), means[request[block]])
    return cosines


def _history_means(vectors: Float32, history: CsrLists) -> Float64:
    """(n, d) mean vector of each history, added up oldest first; NaN for a history without vectors."""
    means = np.full((len(history), vectors.shape[1]), np.nan)
    request = np.repeat(np.arange(len(history)), history.lengths())
    has_vector = _has_vector(vectors)[history.codes]
    codes, request = history.codes[has_vector], request[has_vector]
    starts = np.flatnonzero(np.diff(request, prepend=-1))
    ends = np.append(starts[1:], len(codes))
    for low in range(0, len(starts), _BLOCK // 32):
        block = slice(low, low + _BLOCK // 32)
        first, last = starts[block][0], ends[block][-1]
        sums = np.add.reduceat(vectors[codes[first:last]].astype(np.float64), starts[block] - first, axis=0)
        means[request[starts[block]]] = sums / (ends[block] - starts[block])[:, None]
    return means


def _cosines(left: Float64, right: Float64) -> Float64:
    """Cosine of each pair of rows, (n,); NaN where either has length 0."""
    product = np.sum(left * right, axis=1)
    length = np.sqrt(np.sum(left * left, axis=1)) * np.sqrt(np.sum(right * right, axis=1))
    cosines = np.full(len(product), np.nan)
    np.divide(product, length, out=cosines, where=length != 0)
    return cosines


def _has_vector(vectors: Float32) -> Bool:
    """(n,) True for rows without NaN."""
    return np.asarray(~np.isnan(vectors).any(axis=1))
