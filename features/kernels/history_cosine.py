"""Cosines of candidates with the mean vector of a history, each row's arithmetic independent of every other row."""

from __future__ import annotations

import numpy as np

from features.arrays import CsrLists, Float32, Float64, Int32, Int64
from features.compiled import compiled
from features.log import Requests


def history_cosines(
    vectors: Float32, history: CsrLists, requests: Requests, *, of_history: Float32 | None = None
) -> Float64:
    """Cosine of each candidate's vector with the mean of its request's history vectors, (n_rows,).

    vectors: (n_items + 1, d), NaN rows for items without one, which a history skips. history: one row of item codes
    for each request. of_history: vectors of the history's items where they differ from those of candidates. NaN
    where the candidate or the whole history has no vector, or one of them has length 0.
    """
    read = vectors if of_history is None else of_history
    cosines = np.full(requests.n_rows, np.nan)
    _fill_cosines(vectors, read, history.offsets, history.codes, requests.offsets, requests.item, cosines)
    return cosines


@compiled
def _fill_cosines(
    vectors: Float32,
    of_history: Float32,
    history_offsets: Int64,
    history: Int32,
    offsets: Int64,
    item: Int32,
    cosines: Float64,
) -> None:
    """`history_cosines`, with sums added up oldest first and dimension by dimension."""
    mean = np.empty(vectors.shape[1])
    for request in range(len(offsets) - 1):
        n = 0
        mean[:] = 0.0
        for entry in range(history_offsets[request], history_offsets[request + 1]):
            vector = of_history[history[entry]]
            is_missing = False
            for k in range(len(mean)):
                is_missing |= np.isnan(vector[k])
            if not is_missing:
                n += 1
                for k in range(len(mean)):
                    mean[k] += vector[k]
        if n == 0:
            continue
        of_mean = 0.0
        for k in range(len(mean)):
            mean[k] /= n
            of_mean += mean[k] * mean[k]
        for row in range(offsets[request], offsets[request + 1]):
            vector = vectors[item[row]]
            product, of_candidate = 0.0, 0.0
            for k in range(len(mean)):
                value = np.float64(vector[k])
                product += value * mean[k]
                of_candidate += value * value
            length = np.sqrt(of_candidate) * np.sqrt(of_mean)
            if length != 0:
                cosines[row] = product / length
