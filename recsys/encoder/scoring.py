"""Text scores of the candidates of one request, in NumPy: the one function of evaluation, batch and online.

A score must not depend, to the last bit, on which other candidates it was computed with. So every matrix product has a
shape that the history alone sets: candidates in tiles of 32 rows, padded with zeros, against the history's vectors,
its mean and what the head brings to every candidate. A row of such a product depends on that row alone, and so does
what is computed along a row from there on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from features.history import Histories
from features.log import Float32, Requests

TEXT_COLUMNS = ("text_score", "text_similarity_last", "text_similarity_best", "text_similarity_mean")
"""Names of the columns that `text_columns` gives, in order."""

MAX_HISTORY = 50
_ROWS = 32
_COLUMNS = 16


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step


@dataclass(frozen=True)
class HeadWeights:
    """What turns a history and a candidate into a score. Arrays are float32, d is the vectors' width.

    attention_in: (d, a) and attention_bias: (a,), a <= 64, attention_out: (a,), resemblance: (): the attention logit of
    item vector z for candidate c is tanh(z @ attention_in + attention_bias) @ attention_out + recency[p] + resemblance
    * (z @ c), with p = 0 for the latest item; what is attended to is z @ c. recency: (50,). prior: (d,) and
    prior_logit: (): what stands beside the history in the attention, and all there is of a user without one.
    popularity: (d,): what all users like. scale, query_scale, bias: ().
    """

    attention_in: Float32
    attention_bias: Float32
    attention_out: Float32
    recency: Float32
    prior: Float32
    prior_logit: Float32
    resemblance: Float32
    popularity: Float32
    scale: Float32
    query_scale: Float32
    bias: Float32

    def arrays(self) -> dict[str, Float32]:
        """Every weight by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def mean_history_head(dim: int) -> HeadWeights:
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
        resemblance=np.zeros((), np.float32),
        popularity=np.zeros(dim, np.float32),
        scale=np.ones((), np.float32),
        query_scale=np.ones((), np.float32),
        bias=np.zeros((), np.float32),
    )


def text_columns(
    head: HeadWeights, history_vectors: Float32, candidate_vectors: Float32, query_vector: Float32 | None = None
) -> Float32:
    """Text score and cosine to the last, best and mean history item of each candidate, (c, 4); see `TEXT_COLUMNS`.

    history_vectors: (h, d) unit vectors, oldest first, of which the latest 50 with text count; candidate_vectors:
    (c, d); query_vector: (d,) or None. A row of NaN stands for an item without text: left out of the history, and NaN
    in all columns as a candidate. The three similarities are NaN where the history is empty.
    """
    history = history_vectors[~np.isnan(history_vectors[:, 0])][-MAX_HISTORY:]
    n, n_candidates = len(history), len(candidate_vectors)
    right = np.zeros((_round_up(n + 3, _COLUMNS), candidate_vectors.shape[1]), np.float32)
    right[:n] = history
    right[n] = head.prior
    right[n + 1] = head.popularity if query_vector is None else head.popularity + head.query_scale * query_vector
    right[n + 2] = _unit(np.add.reduce(history, axis=0))
    tiles = np.zeros((_round_up(n_candidates, _ROWS), candidate_vectors.shape[1]), np.float32)
    tiles[:n_candidates] = candidate_vectors
    product = np.matmul(tiles.reshape(-1, _ROWS, tiles.shape[1]), right.T).reshape(len(tiles), len(right))[
        :n_candidates
    ]
    found = np.full((n_candidates, len(TEXT_COLUMNS)), np.nan, np.float32)
    found[:, 0] = head.scale * _interest(head, history, product[:, : n + 1]) + product[:, n + 1] + head.bias
    if n:
        found[:, 1] = product[:, n - 1]
        found[:, 2] = product[:, :n].max(axis=1)
        found[:, 3] = product[:, n + 2]
    return found


def _interest(head: HeadWeights, history: Float32, similarity: Float32) -> Float32:
    """What each candidate has of the user's interest, (c,): its similarities under its own attention.

    history: (h, d) unit vectors, oldest first, without NaN. similarity: (c, h + 1) with them and, last, the prior.
    """
    n = len(history)
    fixed = np.empty(n + 1, np.float32)
    hidden = np.tanh(history @ head.attention_in + head.attention_bias)
    fixed[:n] = (hidden * head.attention_out).sum(axis=1) + head.recency[:n][::-1]
    fixed[n] = head.prior_logit
    logits = fixed + head.resemblance * similarity
    logits[:, n] = head.prior_logit
    top = logits.max(axis=1, keepdims=True)
    share = np.exp(logits - np.where(np.isneginf(top), np.float32(0), top))
    total = np.maximum(share.sum(axis=1), np.float32(1e-30))
    interest: Float32 = (share * similarity).sum(axis=1) / total
    return interest


def text_matrix(
    head: HeadWeights,
    vectors: Float32,
    requests: Requests,
    histories: Histories,
    query_vectors: Float32 | None = None,
) -> Float32:
    """`text_columns` of every request's candidates, (n_rows, 4).

    vectors: (n_items + 1, d), NaN rows where an item has no text; code -1 reaches the last row, which is NaN.
    query_vectors: (n_requests, d), NaN rows for requests without a query; None where no request has one.
    """
    found = np.empty((requests.n_rows, len(TEXT_COLUMNS)), np.float32)
    for i in range(len(requests)):
        rows = slice(requests.offsets[i], requests.offsets[i + 1])
        query = None if query_vectors is None or np.isnan(query_vectors[i, 0]) else query_vectors[i]
        found[rows] = text_columns(head, vectors[histories.items.row(i)], vectors[requests.item[rows]], query)
    return found


def _unit(vector: Float32) -> Float32:
    """The vector at length 1; zero stays zero."""
    length = np.sqrt((vector * vector).sum())
    scaled: Float32 = vector / length if length > 0 else vector
    return scaled
