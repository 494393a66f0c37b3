"""Text scores of the candidates of one request, in NumPy: evaluation, batch and online scoring share it.

A score has the same bits whatever else is in the request, on every CPU, with any BLAS kernel and number of threads. All
vectors lie on the grid of `features.exact`, and products are made in float64. In each product one vector is an item's,
of norm 1.001 at most, and the other has norm 2^12 at most: 50 items added up, or an array of the head, which has 2^11
at most (`HeadWeights` checks it), or the head's popularity and a scaled query, 2^11 each. So the terms of each sum add
up to less than 2^13 in absolute value, and the sum is exact. What follows is computed with + - * /, sqrt and the
portable `exp` and `tanh`. Sums over the history run along the rows of a C-contiguous array, in an order that the number
of items alone sets.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from features.arrays import Bool, Float32, Float64
from features.compiled import compiled
from features.exact import exp, tanh, to_grid
from features.history import Histories
from features.log import Requests
from recsys.errors import ModelError

TEXT_COLUMNS = ("text_score", "text_similarity_last", "text_similarity_best", "text_similarity_mean")
"""Names of the columns that `score_candidates` gives, in order."""

MAX_HISTORY = 50
LARGEST_NORM = 2.0**11
"""Bound of the norm of each array of the head that is multiplied with an item's vector."""


@dataclass(frozen=True)
class HeadWeights:
    """What turns a history and a candidate into a score. Arrays are float32, d is the vectors' width.

    attention_in: (d, a) and attention_bias: (a,), a <= 64, attention_out: (a,), similarity_weight: (): the attention
    logit of item vector z for candidate c is tanh(z @ attention_in + attention_bias) @ attention_out + recency[p] +
    similarity_weight * (z @ c), with p = 0 for the latest item; its value is z @ c. recency: (50,). prior: (d,) and
    prior_logit: (): one more entry of every history, the only one of a user without clicks. popularity: (d,): what all
    users like. scale, query_scale, bias: ().

    What is multiplied with vectors is rounded to the grid of `features.exact`. Raises ModelError where one of these
    has a norm above 2^11 or a value that is not a number: the training diverged.
    """

    attention_in: Float32
    attention_bias: Float32
    attention_out: Float32
    recency: Float32
    prior: Float32
    prior_logit: Float32
    similarity_weight: Float32
    popularity: Float32
    scale: Float32
    query_scale: Float32
    bias: Float32

    def __post_init__(self) -> None:
        for name in ("attention_in", "prior", "popularity", "query_scale"):
            rounded = to_grid(getattr(self, name))
            columns = np.atleast_1d(rounded).astype(np.float64)
            norm = float(np.sqrt((columns * columns).sum(axis=0).max(initial=0.0)))
            if not norm <= LARGEST_NORM:
                raise ModelError(
                    f"head weights {name!r}: expected a norm of at most {LARGEST_NORM:g}, got {norm:g}: the training "
                    "diverged; lower encoder.head_learning_rate"
                )
            object.__setattr__(self, name, rounded)

    def arrays(self) -> dict[str, Float32]:
        """Every weight by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def untrained_head(dim: int) -> HeadWeights:
    """The head of an untrained encoder: the mean of the dot products with the history; 0 without a history.

    A query counts as much as the whole history.
    """
    return HeadWeights(
        attention_in=np.zeros((dim, 1), np.float32),
        attention_bias=np.zeros(1, np.float32),
        attention_out=np.zeros(1, np.float32),
        recency=np.zeros(MAX_HISTORY, np.float32),
        prior=np.zeros(dim, np.float32),
        prior_logit=np.full((), -np.inf, np.float32),
        similarity_weight=np.zeros((), np.float32),
        popularity=np.zeros(dim, np.float32),
        scale=np.ones((), np.float32),
        query_scale=np.ones((), np.float32),
        bias=np.zeros((), np.float32),
    )


def score_candidates(
    head: HeadWeights,
    history_vectors: Float32,
    candidate_vectors: Float32,
    query_vector: Float32 | None = None,
    *,
    logits: Float64 | None = None,
) -> Float32:
    """Text score and cosine to the last, best and mean history item of each candidate, (c, 4); see `TEXT_COLUMNS`.

    history_vectors: (h, d) unit vectors on the grid of `features.exact`, oldest first, of which the latest 50 with text
    count; candidate_vectors: (c, d) and query_vector: (d,) or None, likewise. A row of NaN stands for an item without
    text: left out of the history, and NaN in all columns as a candidate. The three similarities are NaN where the
    history is empty. logits: `item_logits` of the history, (h,), where they are known.
    """
    rows = np.flatnonzero(~np.isnan(history_vectors[:, 0]))[-MAX_HISTORY:]
    history = history_vectors[rows].astype(np.float64)
    logits = item_logits(head, history_vectors[rows]) if logits is None else logits[rows]
    has_text = ~np.isnan(candidate_vectors[:, 0])
    candidates = candidate_vectors.astype(np.float64)
    if not has_text.all():
        candidates[~has_text] = 0.0
    n = len(history)
    direction = head.popularity
    if query_vector is not None:
        direction = to_grid(head.popularity + head.query_scale * query_vector)
    history_sum = np.add.reduce(history, axis=0)
    products = candidates @ np.vstack([history, head.prior, direction, history_sum]).T
    products += 0.0  # a sum of zeros has the sign that the kernel gives it
    weights = np.empty((len(candidates), n + 1))
    weight, prior = float(head.similarity_weight), float(head.prior_logit)
    _fill_logits(products, logits + head.recency[:n][::-1], weight, prior, weights)
    columns = np.full((len(candidates), len(TEXT_COLUMNS)), np.nan, np.float32)
    length = _norm(history_sum) or 1.0
    _fill_columns(products, exp(weights), float(head.scale), float(head.bias), length, has_text, columns)
    return columns


def item_logits(head: HeadWeights, vectors: Float32) -> Float64:
    """What an item's own vector adds to its attention logit, (n,); NaN for a row of NaN. vectors: (n, d), as those of
    a history. It depends on the item alone."""
    hidden = tanh(vectors.astype(np.float64) @ head.attention_in.astype(np.float64) + head.attention_bias)
    return np.asarray((hidden * head.attention_out).sum(axis=1))


@compiled
def _fill_logits(
    products: Float64, by_item: Float64, similarity_weight: float, prior_logit: float, logits: Float64
) -> None:
    """Each candidate's attention logits for the history and, last, the prior, less the largest of them, (c, h + 1).
    products: as in `_fill_columns`. by_item: the part that depends on the item of the history alone, (h,)."""
    n = len(by_item)
    for row in range(len(products)):
        largest = prior_logit
        logits[row, n] = prior_logit
        for place in range(n):
            logits[row, place] = by_item[place] + similarity_weight * products[row, place]
            largest = max(largest, logits[row, place])
        if largest > -np.inf:
            for place in range(n + 1):
                logits[row, place] -= largest


@compiled
def _fill_columns(
    products: Float64, weights: Float64, scale: float, bias: float, length: float, has_text: Bool, columns: Float32
) -> None:
    """The columns of candidates with text. products: (c, h + 3) with the history's items, the prior, the popularity and
    the history's sum, whose length is `length`. weights: of attention, (c, h + 1), overwritten."""
    n = weights.shape[1] - 1
    for row in range(len(products)):
        if not has_text[row]:
            continue
        total, best = max(_pairwise_sum(weights[row]), 1e-30), -np.inf
        for place in range(n + 1):
            weights[row, place] *= products[row, place]
            if place < n:
                best = max(best, products[row, place])
        interest = _pairwise_sum(weights[row]) / total
        columns[row, 0] = scale * interest + products[row, n + 1] + bias
        if n:
            columns[row, 1], columns[row, 2] = products[row, n - 1], best
            columns[row, 3] = products[row, n + 2] / length


@compiled
def _pairwise_sum(values: Float64) -> float:
    """The sum of at most 128 numbers in the order of NumPy's pairwise summation: eight running sums, then the rest."""
    n, total = len(values), 0.0
    end = n - n % 8
    if end:
        sums = np.zeros(8)
        for place in range(0, end, 8):
            for k in range(8):
                sums[k] += values[place + k]
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    for place in range(end, n):
        total += values[place]
    return total


def text_features(
    head: HeadWeights,
    vectors: Float32,
    requests: Requests,
    histories: Histories,
    query_vectors: Float32 | None = None,
    *,
    logits: Float64 | None = None,
) -> Float32:
    """`score_candidates` of every request's candidates, (n_rows, 4).

    vectors: (n_items + 1, d), NaN rows where an item has no text; code -1 reaches the last row, which is NaN.
    query_vectors: (n_requests, d), NaN rows for requests without a query; None where no request has one. logits:
    `item_logits` of the vectors, (n_items + 1,), where they are known.
    """
    if logits is None:
        clicked = np.unique(histories.items.codes)
        logits = np.full(len(vectors), np.nan)
        logits[clicked] = item_logits(head, vectors[clicked])
    features = np.empty((requests.n_rows, len(TEXT_COLUMNS)), np.float32)
    for i in range(len(requests)):
        rows = slice(requests.offsets[i], requests.offsets[i + 1])
        query = None if query_vectors is None or np.isnan(query_vectors[i, 0]) else query_vectors[i]
        history = histories.items.row(i)
        candidates = vectors[requests.item[rows]]
        features[rows] = score_candidates(head, vectors[history], candidates, query, logits=logits[history])
    return features


def _norm(vector: Float64) -> float:
    """Length of a sum of at most 50 grid vectors: its square is below 2^13, so the sum of squares is exact too."""
    return float(np.sqrt((vector * vector).sum()))
