"""Histograms of a column by group of users: small enough to be kept with a version, enough for a bootstrap over users.

Lists of one user are alike, so users are dealt into groups, and the bootstrap draws whole groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

from features.arrays import Float64, Int64

GROUPS = 32
BINS = 20
MISSING = "missing"
MOST_LABELS = 30
"""Labels with a bin of their own; the others share one."""


def deal_groups(cluster: npt.NDArray[np.integer]) -> Int64:
    """The group of each value, (n,), from 0: all values with one code are in one. cluster: (n,) codes of any sign."""
    return np.asarray(np.unique(cluster, return_inverse=True)[1].reshape(-1) % GROUPS, np.int64)


class Histogram(BaseModel):
    """Counts of a column by group and bin.

    edges: of a numeric column, ascending; value v is in the first bin whose edge is at least v, or in the one after the
    last edge. labels: of a column of names. One of both is empty. counts: (groups, bins), without groups that have
    none; the last bin counts missing values or, of names, all other labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...]

    @model_validator(mode="after")
    def _check_bins(self) -> Histogram:
        n_bins = len(self.labels) + 1 if self.labels else len(self.edges) + 2
        if not self.counts or {len(row) for row in self.counts} != {n_bins}:
            raise ValueError(f"expected rows of {n_bins} counts, one a bin, for each group")
        return self

    @property
    def array(self) -> Float64:
        """The counts, (groups, bins)."""
        return np.array(self.counts, np.float64)

    @property
    def n(self) -> int:
        """Values that were counted."""
        return sum(map(sum, self.counts))

    @property
    def shares(self) -> Float64:
        """Share of each bin, (bins,)."""
        total = self.array.sum(axis=0)
        return np.asarray(total / total.sum())

    def count_numbers(self, values: npt.NDArray[np.floating[Any]], group: Int64) -> Histogram:
        """Other values, (n,), NaN for missing, in the same bins. group: (n,)."""
        return Histogram(edges=self.edges, counts=_counts(_bin_of(values, self.edges), group, len(self.edges) + 2))

    def count_labels(self, values: Sequence[str], group: Int64) -> Histogram:
        """Other names in the same bins. group: (n,)."""
        place = {label: i for i, label in enumerate(self.labels)}
        bins = np.array([place.get(value, len(place)) for value in values], np.int64)
        return Histogram(labels=self.labels, counts=_counts(bins, group, len(place) + 1))

    def describe(self) -> str:
        """The middle of a numeric column, or the most frequent label, with the share that is missing or other."""
        shares = self.shares
        if self.labels:
            top = int(np.argmax(shares))
            return f"{(*self.labels, 'other')[top]} {shares[top]:.0%}"
        known = shares[:-1]
        missing = f", {MISSING} {shares[-1]:.0%}" if shares[-1] >= 0.005 else ""
        if not known.sum():
            return f"{MISSING} 100%"
        if not self.edges:
            return f"any value{missing}"
        middle = int(np.searchsorted(np.cumsum(known) / known.sum(), 0.5))
        return (f"above {self.edges[-1]:.3g}" if middle >= len(self.edges) else f"{self.edges[middle]:.3g}") + missing


def number_histogram(values: npt.NDArray[np.floating[Any]], group: Int64) -> Histogram:
    """A numeric column with edges at its own quantiles, and one bin beyond either end. Raises ValueError without a
    value. values: (n,), NaN for missing. group: (n,)."""
    known = np.asarray(values[np.isfinite(values)], np.float64)
    edges: tuple[float, ...] = ()
    if len(known):
        inner = np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf")
        below = np.nextafter(known.min(), -np.inf)
        edges = tuple(map(float, np.unique([below, *inner, known.max()])))
    return Histogram(edges=edges, counts=_counts(_bin_of(values, edges), group, len(edges) + 2))


def label_histogram(values: Sequence[str], group: Int64) -> Histogram:
    """A column of names with a bin for each of the most frequent ones. Raises ValueError without a value."""
    names, n = np.unique(np.array(values, np.str_), return_counts=True)
    labels = tuple(str(name) for name in names[np.argsort(-n, kind="stable")][:MOST_LABELS])
    empty = Histogram(labels=labels, counts=((0,) * (len(labels) + 1),)) if labels else None
    if empty is None:
        raise ValueError("expected at least one value, got none")
    return empty.count_labels(values, group)


def _bin_of(values: npt.NDArray[np.floating[Any]], edges: Sequence[float]) -> Int64:
    wide = np.asarray(values, np.float64)
    return np.where(np.isnan(wide), len(edges) + 1, np.searchsorted(np.array(edges), wide, side="left"))


def _counts(bins: Int64, group: Int64, n_bins: int) -> tuple[tuple[int, ...], ...]:
    if not len(bins):
        raise ValueError("expected at least one value, got none")
    counts = np.bincount(group * n_bins + bins, minlength=(int(group.max()) + 1) * n_bins).reshape(-1, n_bins)
    return tuple(tuple(row) for row in counts[counts.sum(axis=1) > 0].tolist())
