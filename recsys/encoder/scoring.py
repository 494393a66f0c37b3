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

from features.arrays import CsrLists, Float32, Float64, Int32, Int64, offsets_of
from features.compiled import compiled
from features.exact import exp, tanh, to_grid
from features.history import Histories
from features.log import Requests, chunk_bounds, slice_requests
from recsys.errors import ModelError

TEXT_COLUMNS = ("text_score", "text_similarity_last", "text_similarity_best", "text_similarity_mean")
"""Names of the columns that `score_candidates` gives, in order."""

MAX_HISTORY = 50
_BESIDE = 3
"""Products of a candidate beside those with the history: the prior, the direction, the history's sum."""
_BLOCK_ROWS = 4096
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
    n, c = len(history_vectors), len(candidate_vectors)
    codes = np.arange(n + c, dtype=np.int32)
    return text_features(
        head,
        np.concatenate([history_vectors, candidate_vectors]),
        Requests(np.zeros(1, np.int32), np.zeros(1, np.int64), np.array([0, c]), codes[n:]),
        Histories(CsrLists(np.array([0, n]), codes[:n]), np.zeros(n, np.int64)),
        None if query_vector is None else query_vector[None],
    )


def item_logits(head: HeadWeights, vectors: Float32) -> Float64:
    """What an item's own vector adds to its attention logit, (n,); NaN for a row of NaN. vectors: (n, d), as those of
    a history. It depends on the item alone."""
    hidden = tanh(vectors.astype(np.float64) @ head.attention_in.astype(np.float64) + head.attention_bias)
    return np.asarray((hidden * head.attention_out).sum(axis=1))


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
    directions, direction_of = _directions(head, query_vectors, len(requests))
    columns = np.full((requests.n_rows, len(TEXT_COLUMNS)), np.nan, np.float32)
    for first, end in chunk_bounds(requests.offsets, _BLOCK_ROWS):
        chunk = slice_requests(requests, first, end)
        rows = slice(int(requests.offsets[first]), int(requests.offsets[end]))
        scores = _Block(vectors, chunk, histories.take_range(first, end).items)
        scores.fill(head, logits, (directions, direction_of[first:end]), columns[rows])
    return columns


def _directions(head: HeadWeights, query_vectors: Float32 | None, n_requests: int) -> tuple[Float64, Int64]:
    """What is multiplied with a candidate beside the history, (n, d): what all users like, and the query; and which
    row of it each request has."""
    directions, direction_of = [head.popularity], np.zeros(n_requests, np.int64)
    if query_vectors is not None:
        for request in np.flatnonzero(~np.isnan(query_vectors[:, 0])).tolist():
            direction_of[request] = len(directions)
            directions.append(to_grid(head.popularity + head.query_scale * query_vectors[request]))
    return np.array(directions, np.float64), direction_of


class _Block:
    """A few requests that are scored together. Their products and attention logits stand one request after the other.
    history: the codes of each request's history."""

    def __init__(self, vectors: Float32, requests: Requests, history: CsrLists) -> None:
        codes = np.empty(len(history.codes), np.int32)
        offsets = np.zeros(len(requests) + 1, np.int64)
        _known_history(vectors, history.offsets, history.codes, MAX_HISTORY, offsets, codes)
        self._vectors = vectors
        self._candidates = requests.offsets, requests.item
        self._history = offsets, codes[: offsets[-1]]
        self._starts = offsets_of(requests.lengths() * (offsets[1:] - offsets[:-1] + _BESIDE))

    def fill(self, head: HeadWeights, logits: Float64, directions: tuple[Float64, Int64], columns: Float32) -> None:
        """Fill the columns of all rows with text, (n_rows, 4). directions: of `_directions`."""
        products = np.empty(self._starts[-1])
        weights = np.empty(self._starts[-1] - (_BESIDE - 1) * len(columns))
        lengths = np.empty(len(self._starts) - 1)
        parts = self._starts, self._history, self._candidates
        of_head = head.prior.astype(np.float64), head.recency.astype(np.float64)
        scalars = float(head.similarity_weight), float(head.prior_logit)
        _fill_products(self._vectors, logits, parts, directions, of_head, scalars, products, weights, lengths)
        _fill_columns(
            self._vectors, parts, products, exp(weights), lengths, float(head.scale), float(head.bias), columns
        )


@compiled
def _known_history(
    vectors: Float32, offsets: Int64, codes: Int32, most: int, known_offsets: Int64, known: Int32
) -> None:
    """The latest `most` items of each history that have text."""
    n = 0
    for request in range(len(offsets) - 1):
        first = offsets[request + 1]
        n_known = 0
        while first > offsets[request] and n_known < most:
            first -= 1
            n_known += not np.isnan(vectors[codes[first], 0])
        for entry in range(first, offsets[request + 1]):
            if not np.isnan(vectors[codes[entry], 0]):
                known[n] = codes[entry]
                n += 1
        known_offsets[request + 1] = n


@compiled
def _fill_products(
    vectors: Float32,
    item_logits: Float64,
    parts: tuple[Int64, tuple[Int64, Int32], tuple[Int64, Int32]],
    directions: tuple[Float64, Int64],
    of_head: tuple[Float64, Float64],
    scalars: tuple[float, float],
    products: Float64,
    logits: Float64,
    lengths: Float64,
) -> None:
    """The products of each candidate with the history's items, the prior, the request's direction and the history's
    sum, (c, h + 3) for each request; attention logits for the history and, last, the prior, less the largest of them,
    (c, h + 1); and the length of the history's sum, 1 where it is 0. parts: where the products of each request begin,
    then offsets and codes of histories and candidates. of_head: the prior and the recency. scalars: the similarity's
    weight and the prior's logit."""
    starts, (history_offsets, history), (offsets, item) = parts
    (prior, recency), (similarity_weight, prior_logit) = of_head, scalars
    dim, longest, most = vectors.shape[1], 0, 0
    for request in range(len(offsets) - 1):
        longest = max(longest, offsets[request + 1] - offsets[request])
        most = max(most, history_offsets[request + 1] - history_offsets[request])
    candidates, others = np.empty((longest, dim)), np.empty((most + 3, dim))
    for request in range(len(offsets) - 1):
        first, n_rows = offsets[request], offsets[request + 1] - offsets[request]
        clicked = history[history_offsets[request] : history_offsets[request + 1]]
        n = len(clicked)
        others[n + 2] = 0.0
        for place in range(n):
            for k in range(dim):
                others[place, k] = vectors[clicked[place], k]
                others[n + 2, k] += others[place, k]
        others[n], others[n + 1] = prior, directions[0][directions[1][request]]
        squares = 0.0
        for k in range(dim):
            squares += others[n + 2, k] * others[n + 2, k]
        lengths[request] = np.sqrt(squares) if squares > 0.0 else 1.0
        for row in range(n_rows):
            code = item[first + row]
            if np.isnan(vectors[code, 0]):
                candidates[row] = 0.0
            else:
                for k in range(dim):
                    candidates[row, k] = vectors[code, k]
        block = products[starts[request] : starts[request + 1]].reshape(n_rows, n + 3)
        np.dot(candidates[:n_rows], others[: n + 3].T, block)
        start = starts[request] - 2 * first
        of_rows = logits[start : start + n_rows * (n + 1)].reshape(n_rows, n + 1)
        for row in range(n_rows):
            largest = prior_logit
            for place in range(n + 3):
                block[row, place] += 0.0  # a sum of zeros has the sign that the kernel gives it
            for place in range(n):
                by_item = item_logits[clicked[place]] + recency[n - 1 - place]
                of_rows[row, place] = by_item + similarity_weight * block[row, place]
                largest = max(largest, of_rows[row, place])
            of_rows[row, n] = prior_logit
            if largest > -np.inf:
                for place in range(n + 1):
                    of_rows[row, place] -= largest


@compiled
def _fill_columns(
    vectors: Float32,
    parts: tuple[Int64, tuple[Int64, Int32], tuple[Int64, Int32]],
    products: Float64,
    weights: Float64,
    lengths: Float64,
    scale: float,
    bias: float,
    columns: Float32,
) -> None:
    """The columns of candidates with text. weights: of attention, for the logits of `_fill_products`; overwritten."""
    starts, (history_offsets, _), (offsets, item) = parts
    for request in range(len(offsets) - 1):
        first, n_rows = offsets[request], offsets[request + 1] - offsets[request]
        n = history_offsets[request + 1] - history_offsets[request]
        block = products[starts[request] : starts[request + 1]].reshape(n_rows, n + 3)
        start = starts[request] - 2 * first
        of_rows = weights[start : start + n_rows * (n + 1)].reshape(n_rows, n + 1)
        for row in range(n_rows):
            if np.isnan(vectors[item[first + row], 0]):
                continue
            total, best = max(_pairwise_sum(of_rows[row]), 1e-30), -np.inf
            for place in range(n + 1):
                of_rows[row, place] *= block[row, place]
                if place < n:
                    best = max(best, block[row, place])
            interest = _pairwise_sum(of_rows[row]) / total
            columns[first + row, 0] = scale * interest + block[row, n + 1] + bias
            if n:
                columns[first + row, 1], columns[first + row, 2] = block[row, n - 1], best
                columns[first + row, 3] = block[row, n + 2] / lengths[request]


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
