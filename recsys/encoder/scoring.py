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

from features.arrays import Float32, Float64
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
    head: HeadWeights, history_vectors: Float32, candidate_vectors: Float32, query_vector: Float32 | None = None
) -> Float32:
    """Text score and cosine to the last, best and mean history item of each candidate, (c, 4); see `TEXT_COLUMNS`.

    history_vectors: (h, d) unit vectors on the grid of `features.exact`, oldest first, of which the latest 50 with text
    count; candidate_vectors: (c, d) and query_vector: (d,) or None, likewise. A row of NaN stands for an item without
    text: left out of the history, and NaN in all columns as a candidate. The three similarities are NaN where the
    history is empty.
    """
    history = history_vectors[~np.isnan(history_vectors[:, 0])][-MAX_HISTORY:].astype(np.float64)
    without_text = np.isnan(candidate_vectors[:, 0])
    candidates = candidate_vectors.astype(np.float64)
    if without_text.any():
        candidates[without_text] = 0.0
    n = len(history)
    direction = head.popularity
    if query_vector is not None:
        direction = to_grid(head.popularity + head.query_scale * query_vector)
    history_sum = np.add.reduce(history, axis=0)
    products = candidates @ np.vstack([history, head.prior, direction, history_sum]).T
    products += 0.0  # a sum of zeros has the sign that the kernel gives it
    interest = attention_score(head, history, np.ascontiguousarray(products[:, : n + 1]))
    columns = np.full((len(candidates), len(TEXT_COLUMNS)), np.nan, np.float32)
    columns[:, 0] = head.scale.astype(np.float64) * interest + products[:, n + 1] + head.bias
    if n:
        columns[:, 1] = products[:, n - 1]
        columns[:, 2] = products[:, :n].max(axis=1)
        columns[:, 3] = products[:, n + 2] / (_norm(history_sum) or 1.0)
    if without_text.any():
        columns[without_text] = np.nan
    return columns


def attention_score(head: HeadWeights, history: Float64, similarity: Float64) -> Float64:
    """Each candidate's similarity to the history, (c,), weighted by its own attention.

    history: (h, d) unit vectors, oldest first, without NaN. similarity: (c, h + 1), C-contiguous, with them and, last,
    the prior.
    """
    n = len(history)
    by_item = np.empty(n + 1)
    hidden = tanh(history @ head.attention_in.astype(np.float64) + head.attention_bias)
    by_item[:n] = (hidden * head.attention_out).sum(axis=1) + head.recency[:n][::-1]
    by_item[n] = head.prior_logit
    logits = by_item + head.similarity_weight.astype(np.float64) * similarity
    logits[:, n] = head.prior_logit
    largest = logits.max(axis=1, keepdims=True)
    weights = exp(logits - np.where(np.isneginf(largest), 0.0, largest))
    total = np.maximum(weights.sum(axis=1), 1e-30)
    return np.asarray((weights * similarity).sum(axis=1) / total)


def text_features(
    head: HeadWeights,
    vectors: Float32,
    requests: Requests,
    histories: Histories,
    query_vectors: Float32 | None = None,
) -> Float32:
    """`score_candidates` of every request's candidates, (n_rows, 4).

    vectors: (n_items + 1, d), NaN rows where an item has no text; code -1 reaches the last row, which is NaN.
    query_vectors: (n_requests, d), NaN rows for requests without a query; None where no request has one.
    """
    features = np.empty((requests.n_rows, len(TEXT_COLUMNS)), np.float32)
    for i in range(len(requests)):
        rows = slice(requests.offsets[i], requests.offsets[i + 1])
        query = None if query_vectors is None or np.isnan(query_vectors[i, 0]) else query_vectors[i]
        features[rows] = score_candidates(head, vectors[histories.items.row(i)], vectors[requests.item[rows]], query)
    return features


def _norm(vector: Float64) -> float:
    """Length of a sum of at most 50 grid vectors: its square is below 2^13, so the sum of squares is exact too."""
    return float(np.sqrt((vector * vector).sum()))
