"""Confidence intervals of means by a percentile bootstrap over clusters, which are users here.

Lists of one user are alike, so whole users are drawn, with replacement, and all lists of a drawn user count each time
(Efron and Tibshirani, An introduction to the bootstrap, 1993, sections 8 and 13). All columns of one call share their
resamples: a difference of two methods, given as a column of per-list differences, is compared in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Bool, Float64, Int64

LEVEL = 0.95
"""Share of resampled means that lie in an interval, half of the rest on either side."""

_CHUNK_CELLS = 1 << 22  # cluster weights in memory at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% interval. All are NaN where there is no value; low and high alone where one cluster has all
    the values, since a single user says nothing about how users differ."""

    mean: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """The figures as metrics of a run: NAME, NAME.low and NAME.high, NaN as it is."""
        return {name: self.mean, f"{name}.low": self.low, f"{name}.high": self.high}


def mean_interval(values: Float64, cluster: npt.NDArray[np.integer], *, resamples: int, seed: int) -> Interval:
    """Mean of `values` with its interval; for a paired comparison pass the differences.

    values: (n,), NaN is left out. cluster: (n,) whose value it is; each negative one is a cluster of its own, for
    unknown users. resamples: how often the clusters are drawn again.
    """
    return mean_intervals(np.asarray(values)[:, None], cluster, resamples=resamples, seed=seed)[0]


def mean_intervals(
    values: Float64, cluster: npt.NDArray[np.integer], *, resamples: int, seed: int
) -> tuple[Interval, ...]:
    """Means of k columns, all over the same resamples. values: (n, k); the rest as in `mean_interval`.

    Raises ValueError where shapes do not fit together.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or cluster.shape != values.shape[:1]:
        raise ValueError(f"expected values (n, k) and cluster (n,), got {values.shape} and {cluster.shape}")
    present = ~np.isnan(values)
    sums, counts = _cluster_totals(np.where(present, values, 0.0), present, cluster)
    n_columns = values.shape[1]
    n_values = counts.sum(axis=0)
    mean = np.divide(sums.sum(axis=0), n_values, out=np.full(n_columns, np.nan), where=n_values > 0)
    low, high = np.full((2, n_columns), np.nan)
    spread = (counts > 0).sum(axis=0) > 1
    if spread.any():
        means = _resampled_means(sums[:, spread], counts[:, spread], resamples=resamples, seed=seed)
        tail = (1 - LEVEL) / 2
        low[spread], high[spread] = np.nanquantile(means, [tail, 1 - tail], axis=0)
    return tuple(Interval(*map(float, column)) for column in zip(mean, low, high, strict=True))


def count_clusters(cluster: npt.NDArray[np.integer]) -> int:
    """How many clusters there are; each negative code is one of its own."""
    shared = cluster >= 0
    return len(np.unique(cluster[shared])) + int((~shared).sum())


def _cluster_totals(values: Float64, present: Bool, cluster: npt.NDArray[np.integer]) -> tuple[Float64, Float64]:
    """Sum and number of the values of each cluster that has any, both (n_clusters, k)."""
    has_value = np.flatnonzero(present.any(axis=1))
    code = cluster[has_value].astype(np.int64)
    if not len(has_value):
        empty = np.zeros((0, values.shape[1]))
        return empty, empty
    unknown = np.flatnonzero(code < 0)
    code[unknown] = code.max() + 1 + np.arange(len(unknown))
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    rows = has_value[order]
    return np.add.reduceat(values[rows], starts), np.add.reduceat(present[rows], starts, dtype=np.float64)


def _resampled_means(sums: Float64, counts: Float64, *, resamples: int, seed: int) -> Float64:
    """Means of the columns in each resample, (resamples, k); NaN where none of the drawn clusters has a value."""
    random = np.random.default_rng(seed)
    totals = np.hstack([sums, counts])
    n_clusters, n_columns = sums.shape
    drawn = np.empty((resamples, 2 * n_columns))
    step = max(1, _CHUNK_CELLS // n_clusters)
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        drawn[first : first + size] = _draw(random, size, n_clusters) @ totals
    total, count = drawn[:, :n_columns], drawn[:, n_columns:]
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _draw(random: np.random.Generator, resamples: int, n_clusters: int) -> Float64:
    """How often each cluster is drawn in each resample, (resamples, n_clusters); every row sums to n_clusters."""
    picks: Int64 = random.integers(0, n_clusters, size=(resamples, n_clusters))
    picks += np.arange(resamples)[:, None] * n_clusters
    weights = np.bincount(picks.ravel(), minlength=resamples * n_clusters)
    return weights.reshape(resamples, n_clusters).astype(np.float64)
