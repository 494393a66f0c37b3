"""Coverage, novelty and diversity of a method's first ranks.

Reads scores, not labels: these figures describe the ranked lists, not their accuracy. Ties are ordered as
an answer orders them, by item (`recsys.metrics.rank_order`); a candidate without a score comes last.

Sources: catalogue coverage, Ge, Delgado-Battenfeld and Jannach, Beyond accuracy, RecSys 2010; novelty as mean
self-information, Zhou et al., PNAS 107 (2010); intra-list diversity, Ziegler et al., WWW 2005.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from features.arrays import Float32, Float64, Int64, offsets_of
from features.definitions.aggregates import CLICK, GLOBAL, ITEM, Count, FeatureReader
from features.log import Categorical
from recsys.metrics.bootstrap import Interval, mean_intervals
from recsys.metrics.impression_attributes import CATEGORY
from recsys.metrics.rank_order import ordered

DEPTH = 10
"""First ranks that are measured."""


@dataclass(frozen=True)
class BeyondAccuracy:
    """Figures of one method's first 10 ranks over all lists.

    coverage: share of the distinct candidates that stand in some list's first 10, 0 to 1. novelty: mean of
    -log2 of an item's share of the clicks before its list's time, in bits; an item counts one click more than it
    has, so that one without clicks is finite. category_diversity: mean over the pairs of a list of 1 - cosine of their
    categories: with one category an item, the share of pairs that differ. text_diversity: the same of their text
    vectors, which depends on the encoder too. Both are NaN where items have none.
    """

    coverage: float
    novelty: Interval
    category_diversity: Interval
    text_diversity: Interval


def beyond_accuracy(
    methods: Mapping[str, Float32 | Float64],
    reader: FeatureReader,
    vectors: Float32 | None,
    *,
    resamples: int,
    seed: int,
) -> dict[str, BeyondAccuracy]:
    """The figures of every method. methods: name to scores, (n_rows,), of the reader's requests.

    vectors: (n_items + 1, d) text vectors by item code, NaN rows without text; None leaves text_diversity out.
    resamples, seed: of the intervals over users, as in `recsys.metrics.bootstrap`.
    """
    requests = reader.requests
    information = _information(reader)
    by_category = _category_directions(reader.catalog.categories.get(CATEGORY))
    by_text = _text_directions(vectors)
    n_candidates = len(np.unique(requests.item))
    figures = {}
    for method, scores in methods.items():
        rows, offsets = first_ranks(scores, requests.item, requests.offsets)
        items = requests.item[rows]
        columns = (
            _segment_means(information[rows], offsets),
            _diversity(items, offsets, by_category),
            _diversity(items, offsets, by_text),
        )
        intervals = mean_intervals(np.column_stack(columns), requests.user, resamples=resamples, seed=seed)
        coverage = len(np.unique(items)) / n_candidates if n_candidates else np.nan
        figures[method] = BeyondAccuracy(coverage, *intervals)
    return figures


def first_ranks(
    scores: npt.NDArray[np.floating], item: npt.NDArray[np.integer], offsets: Int64, *, depth: int = DEPTH
) -> tuple[Int64, Int64]:
    """Rows of each list's first ranks, best first, and the offsets of the lists among them, (n + 1,)."""
    rows, ranks = ordered(np.asarray(scores, np.float64), item.astype(np.int64), offsets)
    return rows[ranks <= depth], offsets_of(np.minimum(np.diff(offsets), depth))


def _information(reader: FeatureReader) -> Float64:
    """Self-information of each candidate row in bits, (n_rows,)."""
    clicks = reader.count(Count(CLICK, ITEM)) + 1.0
    total = reader.count(Count(CLICK, GLOBAL)) + float(len(reader.catalog))
    bits: Float64 = -np.log2(clicks / total)
    return bits


def _segment_means(values: Float64, offsets: Int64) -> Float64:
    running = np.concatenate([[0.0], np.cumsum(values)])
    sums, lengths = running[offsets[1:]] - running[offsets[:-1]], np.diff(offsets)
    return np.asarray(np.divide(sums, lengths, out=np.full(len(lengths), np.nan), where=lengths > 0))


def _diversity(items: npt.NDArray[np.integer], offsets: Int64, directions: csr_matrix | Float32 | None) -> Float64:
    """1 - mean cosine over the pairs of each list's items, (n,); NaN with fewer than two items that have a direction.

    directions: (n_items + 1, d) rows of length 1, or 0 for an item that has none and is left out of its lists. The sum
    over all ordered pairs of one list, an item with itself included, is the squared length of the sum of its rows.
    """
    n = len(offsets) - 1
    if directions is None:
        return np.full(n, np.nan)
    n_items = directions.shape[0]
    members = csr_matrix((np.ones(len(items), np.float32), items % n_items, offsets), shape=(n, n_items))
    size = np.asarray(members @ _squared_lengths(directions), np.float64).round()
    together = _squared_lengths(members @ directions) - size
    pairs = size * (size - 1)
    cosine: Float64 = np.divide(together, pairs, out=np.full(n, np.nan), where=pairs > 0)
    return 1.0 - cosine


def _squared_lengths(rows: csr_matrix | Float32) -> Float64:
    if isinstance(rows, np.ndarray):
        return np.asarray(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return np.asarray(rows.multiply(rows).sum(axis=1), np.float64).ravel()


def _category_directions(categories: Categorical | None) -> csr_matrix | None:
    """Rows of length 1 over the values that an item has, (n_items + 1, n_values)."""
    if categories is None:
        return None
    codes = categories.codes
    weight = 1.0 / np.sqrt(np.maximum(codes.lengths(), 1))
    data = np.repeat(weight, codes.lengths())
    return csr_matrix((data, codes.codes, codes.offsets), shape=(len(codes), len(categories.values)))


def _text_directions(vectors: Float32 | None) -> Float32 | None:
    if vectors is None:
        return None
    vectors = np.nan_to_num(vectors)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0))
