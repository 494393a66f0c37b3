"""Ranking metrics of each list: AUC, MRR and nDCG over lists of any lengths, without a loop over lists.

Reads a score and a label for each candidate row; returns one value per list and metric. A list without both a clicked
(label > 0) and an unclicked candidate says nothing about an order: its metrics are NaN.

Ties: candidates of one list with equal scores stand in a random order, and a metric is its expectation over these
orders. AUC counts a tied pair half; nDCG gives each of the tied candidates the mean gain of all of them (McSherry and
Najork, Computing information retrieval performance measures efficiently in the presence of tied scores, ECIR 2008,
section 3; scikit-learn's `ndcg_score` does the same); MRR sums 1/rank over the ranks that the first click may have.

Missing scores: a NaN score becomes the mean of the list's finite scores, so that a candidate which a method cannot
judge is put neither first nor last; it is 0 where no score is finite, so that a list without scores is one tie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Float64, Int64
from features.log import both_labels

METRICS = ("auc", "mrr", "ndcg_at_5", "ndcg_at_10")
"""Names of the metrics, in the order of every table. They are the fields of `ListMetrics`."""

_BLOCK_CELLS = 1 << 18  # bounds the memory; larger blocks were measured to be no faster


@dataclass(frozen=True)
class ListMetrics:
    """Metrics of n lists, each (n,) between 0 and 1; NaN where a list lacks a clicked or an unclicked candidate."""

    auc: Float64
    mrr: Float64
    ndcg_at_5: Float64
    ndcg_at_10: Float64

    def __len__(self) -> int:
        return len(self.auc)

    def columns(self) -> Float64:
        """The same as one array, (n, 4), in the order of `METRICS`."""
        return np.column_stack([getattr(self, name) for name in METRICS])


def list_metrics(scores: npt.NDArray[np.floating], label: npt.NDArray[np.number], offsets: Int64) -> ListMetrics:
    """Metrics of every list; see the module for ties and missing scores.

    scores: (n_rows,), higher is better, NaN where not scored. label: (n_rows,) graded relevance from 0; AUC and MRR
    take label > 0 as clicked, the gain in nDCG is 2^label - 1. offsets: (n + 1,), list i is rows
    offsets[i]:offsets[i + 1].

    Raises ValueError where lengths do not fit together or a label is negative.

    >>> list_metrics(np.array([3.0, 2.0, 2.0]), np.array([0, 1, 0]), np.array([0, 3])).auc
    array([0.25])
    """
    _check(scores, label, offsets)
    lengths = np.diff(offsets)
    tested = np.flatnonzero(both_labels(label, offsets))
    metrics = np.full((len(lengths), len(METRICS)), np.nan)
    by_length = tested[np.argsort(lengths[tested], kind="stable")]
    # Lists of one length form a matrix. The distinct lengths are at most the square root of 2 * n_rows.
    for same_length in np.split(by_length, np.flatnonzero(np.diff(lengths[by_length])) + 1):
        if not len(same_length):
            continue
        length = int(lengths[same_length[0]])
        for block in np.array_split(same_length, -(-len(same_length) * length // _BLOCK_CELLS)):
            rows = offsets[block][:, None] + np.arange(length)
            metrics[block] = _block_metrics(scores[rows], label[rows])
    return ListMetrics(*metrics.T.copy())


def _check(scores: npt.NDArray[np.floating], label: npt.NDArray[np.number], offsets: Int64) -> None:
    if len(offsets) == 0 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets: expected (n + 1,) row numbers that start at 0 and never fall, got {offsets!r}")
    for name, values in (("scores", scores), ("label", label)):
        if values.shape != (offsets[-1],):
            raise ValueError(f"{name}: expected shape ({offsets[-1]},), the last offset, got {values.shape}")
    if len(label) and not label.min() >= 0:
        raise ValueError(f"label: expected relevance from 0 upward, got {label.min()}")


def _block_metrics(scores: npt.NDArray[np.floating], label: npt.NDArray[np.number]) -> Float64:
    """Metrics of m lists of one length: scores and label are (m, length), the result is (m, 4)."""
    m, length = scores.shape
    scores = _fill_missing(scores)
    order = np.argsort(-scores, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    label = np.take_along_axis(label, order, axis=1)

    # Groups of tied candidates, best first; `start` and `size` are ranks from 0 within the list.
    opens = np.ones((m, length), bool)
    opens[:, 1:] = scores[:, 1:] != scores[:, :-1]
    groups = np.flatnonzero(opens)
    size = np.diff(groups, append=m * length)
    start = groups % length
    first_group = np.flatnonzero(start == 0)
    clicks = np.add.reduceat((label > 0).ravel(), groups, dtype=np.int64)

    gain = np.exp2(label, dtype=np.float64) - 1.0
    mean_gain = np.add.reduceat(gain.ravel(), groups) / size
    best_gain = -np.sort(np.partition(-gain, 9, axis=1)[:, :10] if length > 10 else -gain, axis=1)
    columns = [
        _auc(clicks, start, size, first_group, length),
        _mrr(clicks, start, size, first_group),
        *(_ndcg(mean_gain, best_gain, start, size, first_group, depth=depth, length=length) for depth in (5, 10)),
    ]
    return np.column_stack(columns)


def _fill_missing(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Scores with NaN replaced by the list's mean finite score; equal scores keep their exact value as mean."""
    missing = np.isnan(scores)
    if not missing.any():
        return scores
    scores = scores.astype(np.float64)
    finite = np.isfinite(scores)
    has_score = finite.any(axis=1)
    mean = np.where(finite, scores, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
    low = np.where(finite, scores, np.inf).min(axis=1)
    high = np.where(finite, scores, -np.inf).max(axis=1)
    mean[has_score] = np.clip(mean[has_score], low[has_score], high[has_score])
    return np.where(missing, mean[:, None], scores)


def _auc(clicks: Int64, start: Int64, size: Int64, first_group: Int64, length: int) -> Float64:
    """Area under the ROC curve from the clicked candidates' mean ranks (Mann-Whitney), (m,)."""
    rank_from_below = length - start - (size - 1) / 2
    rank_sum = np.add.reduceat(clicks * rank_from_below, first_group)
    n = np.add.reduceat(clicks, first_group)
    auc: Float64 = (rank_sum - n * (n + 1) / 2) / (n * (length - n))
    return auc


def _mrr(clicks: Int64, start: Int64, size: Int64, first_group: Int64) -> Float64:
    """Expectation of 1 / rank of the first click, (m,).

    The first click lies in the best group that holds clicks. Of its `size` candidates c are clicked: the first of them
    stands beyond position j of the group with probability prod over i < j of (size - c - i) / (size - i).
    """
    clicked = np.flatnonzero(clicks)
    group = clicked[np.searchsorted(clicked, first_group)]
    start, size, clicks = start[group], size[group], clicks[group]
    mrr = 1.0 / (start + 1)
    tied = np.flatnonzero((size > 1) & (clicks < size))
    if len(tied):
        start, size, clicks = start[tied, None], size[tied, None], clicks[tied, None]
        position = np.arange(int((size - clicks).max()) + 1)
        beyond = np.cumprod(np.maximum(size - clicks - position, 0) / np.maximum(size - position, 1), axis=1)
        probability = -np.diff(beyond, axis=1, prepend=1.0)
        mrr[tied] = (probability / (start + position + 1)).sum(axis=1)
    return mrr


def _ndcg(
    mean_gain: Float64, best_gain: Float64, start: Int64, size: Int64, first_group: Int64, *, depth: int, length: int
) -> Float64:
    """Normalised discounted cumulative gain of the first `depth` ranks, discount 1 / log2(rank + 1), (m,)."""
    discount = 1.0 / np.log2(np.arange(length) + 2.0)
    discount[depth:] = 0.0
    up_to = np.concatenate([[0.0], np.cumsum(discount)])
    dcg = np.add.reduceat(mean_gain * (up_to[start + size] - up_to[start]), first_group)
    ideal: Float64 = best_gain @ discount[: best_gain.shape[1]]
    return dcg / ideal
