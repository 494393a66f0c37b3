"""Alignment of text to collaborative factors, so that items without clicks have factors too.

A ridge regression from text vectors to unit factors, each item weighted by its clicks, has a closed form (the idea of
MARec, Monteil et al., RecSys 2024). An item's aligned vector is its own factors and the predicted ones, blended: the
more clicks, the more its own count. The regression is solved once and stored, with the clicked items' vectors; what
reads them computes on the grid of `features.exact`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import CsrLists, Float32, Float64, Int64
from features.exact import to_grid
from features.kernels.history_cosine import history_cosines
from features.log import Requests

_RIDGE = 0.1
"""Of the mean second moment of a text dimension. It bounds the norm of a column of the weights by sqrt(10 d) / 2, which
keeps the sums of `_predict` exact for any width d of vectors up to 2^22."""
_BLOCK = 4096


@dataclass(frozen=True)
class Alignment:
    """vectors: (n, k) of items by code, NaN rows for those without clicks. weights: (d, k), from a text vector to an
    item's predicted factors. Both on the grid."""

    vectors: Float32
    weights: Float32

    def similarity(self, requests: Requests, history: CsrLists, text_vectors: Float32) -> Float64:
        """Cosine of each candidate's aligned vector with the mean of the history's, (n_rows,); NaN where either is
        missing. history: a row of codes for each request. text_vectors: (n, d), NaN rows without text."""
        n_items, n_history = len(self.vectors), len(history.codes)
        codes = np.concatenate([history.codes, requests.item])
        if not (np.isnan(self.vectors[codes, 0]) & ~np.isnan(text_vectors[codes, 0])).any():  # nothing to predict
            return history_cosines(self.vectors, history, requests)
        codes = codes.astype(np.int64) % n_items
        used, inverse = np.unique(codes, return_inverse=True)
        position = inverse.astype(np.int32)
        return history_cosines(
            self._vectors_of(used, text_vectors),
            CsrLists(history.offsets, position[:n_history]),
            replace(requests, item=position[n_history:]),
        )

    def predict(self, text_vectors: Float32) -> Float32:
        """Factors that follow from text alone, (n, k) on the grid; NaN rows without text. text_vectors: (n, d)."""
        return _predict(text_vectors, self.weights)

    def _vectors_of(self, codes: Int64, text_vectors: Float32) -> Float32:
        """Aligned vectors of some items, (len(codes), k); predicted ones where an item has no clicks."""
        vectors = self.vectors[codes]
        without = np.flatnonzero(np.isnan(vectors[:, 0]))
        for start in range(0, len(without), _BLOCK):
            block = without[start : start + _BLOCK]
            vectors[block] = self.predict(text_vectors[codes[block]])
        return vectors


def align(factors: Float32, clicks: Int64, text_vectors: Float32, *, half_clicks: float) -> Alignment:
    """The alignment of n clicked items. factors: (n, k). clicks: (n,) users who clicked each. text_vectors: (n, d) on
    the grid, NaN rows without text. half_clicks: at so many, own and predicted factors count the same."""
    own = factors.astype(np.float64)
    length = np.sqrt((own * own).sum(axis=1, keepdims=True))
    np.divide(own, length, out=own, where=length > 0)
    has_text = np.flatnonzero(~np.isnan(text_vectors).any(axis=1))
    weights = _ridge(text_vectors[has_text].astype(np.float64), own[has_text], clicks[has_text].astype(np.float64))
    share = (clicks[has_text] / (clicks[has_text] + half_clicks))[:, None]
    own[has_text] *= share
    for start in range(0, len(has_text), _BLOCK):
        block = slice(start, start + _BLOCK)
        own[has_text[block]] += (1 - share[block]) * _predict(text_vectors[has_text[block]], weights)
    return Alignment(to_grid(own), weights)


def _ridge(text: Float64, factors: Float64, clicks: Float64) -> Float32:
    """(d, k) weights of the regression, on the grid; zeros where no item has text."""
    weighted = text * clicks[:, None]
    gram = weighted.T @ text
    ridge = _RIDGE * np.trace(gram) / len(gram)
    if not ridge > 0:
        return np.zeros((len(gram), factors.shape[1]), np.float32)
    gram[np.diag_indices(len(gram))] += ridge
    return to_grid(np.linalg.solve(gram, weighted.T @ factors))


def _predict(text: Float32, weights: Float32) -> Float32:
    """(n, k) factors on the grid; NaN without text. The products are exact, so that no kernel changes a bit."""
    predicted = text.astype(np.float64) @ weights.astype(np.float64)
    predicted += 0.0  # a sum of zeros has the sign that the kernel gives it
    return to_grid(predicted)
