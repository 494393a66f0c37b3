"""Which items of a user's history lie nearest to an item: what "because you read" names.

By the cosine of the text vectors; where the item, or the whole history, has no text, by co-click similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from features.arrays import Bool, Float32, Float64, Int32
from recsys.collaborative.neighbours import Neighbours

NAMED = 3
"""History items named for each item."""


class NearItem(NamedTuple):
    """An item of the history. code: of the request's catalog. similarity: above 0. by: what it is of."""

    code: int
    similarity: float
    by: Literal["text", "co_click"]


def nearest_history(
    vectors: Float32, neighbours: Neighbours | None, history: Sequence[int], items: Int32
) -> list[list[NearItem]]:
    """For each item the nearest of the history, at most `NAMED`, nearest first, of equal ones the latest click first.
    The item itself and those of similarity 0 or less are left out.

    vectors: (n_items + 1, d) of texts by item code, NaN rows without text. neighbours: by item code, of the history's
    items; None without collaborative columns. history: codes, oldest first. items: (n,) codes.
    """
    latest_first = np.array(list(dict.fromkeys(reversed(history))), np.int64)
    by_text = _cosines(vectors[items], vectors[latest_first])
    has_text: Bool = np.asarray((~np.isnan(by_text)).any(axis=1))
    similarity = np.where(has_text[:, None], by_text, _co_clicks(neighbours, latest_first, items))
    similarity[np.isnan(similarity) | (latest_first[None] == items[:, None])] = 0.0
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :NAMED]
    return [
        [
            NearItem(int(latest_first[i]), float(of_item[i]), "text" if is_text else "co_click")
            for i in nearest
            if of_item[i] > 0
        ]
        for of_item, nearest, is_text in zip(similarity, order, has_text.tolist(), strict=True)
    ]


def _cosines(vectors: Float32, of_history: Float32) -> Float64:
    """(n, n_history); NaN where either has no vector."""
    if not vectors.shape[1]:
        return np.full((len(vectors), len(of_history)), np.nan)
    left, right = vectors.astype(np.float64), of_history.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)
    lengths[lengths == 0] = np.nan
    cosines: Float64 = np.einsum("id,jd->ij", left, right) / lengths
    return np.clip(cosines, -1.0, 1.0)


def _co_clicks(neighbours: Neighbours | None, history: np.ndarray, items: Int32) -> Float64:
    """(n, n_history); 0 for items that nobody clicked both of, or that are not among the nearest stored."""
    found = np.zeros((len(items), len(history)))
    if neighbours is None:
        return found
    for i, code in enumerate(history.tolist()):
        row = slice(neighbours.offsets[code], neighbours.offsets[code + 1])
        similar, similarity = neighbours.item[row], neighbours.similarity[row]
        if len(similar):
            at = np.minimum(np.searchsorted(similar, items), len(similar) - 1)
            found[:, i] = np.where(similar[at] == items, similarity[at], 0.0)
    return found
