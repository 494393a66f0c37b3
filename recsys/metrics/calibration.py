"""Scores as click probabilities: how well a monotone mapping of the scores predicts clicks on lists it has not seen.

The older half of the lists fits the mapping, an isotonic regression of clicked on the score over all rows (Zadrozny
and Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002); the newer half is
cut into bins of equal size by the probability predicted, and each bin's share of clicked rows is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from features.arrays import Float64
from features.log import Impressions
from recsys.metrics.bootstrap import Interval, count_clusters, mean_intervals

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Rows with about the same probability. predicted: its mean. clicked: the share that was, with its interval."""

    predicted: float
    clicked: Interval
    n_rows: int


@dataclass(frozen=True)
class Calibration:
    """Bins by rising probability. error: mean of |predicted - clicked| over rows (expected calibration error).

    n_fitted: lists that made the mapping. n_lists, n_users, n_rows: that it was looked up on. sampled: how many of
    these lists are made up. base_rate: share of their rows that was clicked.
    """

    bins: tuple[Bin, ...]
    error: float
    base_rate: float
    n_fitted: int
    n_lists: int
    n_users: int
    n_rows: int
    sampled: int


def calibrate(
    scores: npt.NDArray[np.floating], impressions: Impressions, *, resamples: int, seed: int
) -> Calibration | None:
    """The calibration of `scores`, (n_rows,), over all lists with rows; rows without a score are left out.

    None where either half has no clicked or no unclicked row, so that there is nothing to fit or to look up.
    """
    requests = impressions.requests
    owner, scored = requests.request_of_row(), np.isfinite(scores)
    clicked = impressions.label > 0
    newer_lists = np.zeros(len(requests), np.bool_)
    newer_lists[np.argsort(requests.time, kind="stable")[len(requests) // 2 :]] = True
    newer = newer_lists[owner]
    fits, checks = np.flatnonzero(scored & ~newer), np.flatnonzero(scored & newer)
    if any(len(np.unique(clicked[rows])) < 2 for rows in (fits, checks)):
        return None
    mapping = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    mapping.fit(np.asarray(scores[fits], np.float64), clicked[fits].astype(np.float64))
    predicted: Float64 = mapping.predict(np.asarray(scores[checks], np.float64))
    hit, user = clicked[checks].astype(np.float64), requests.user[owner[checks]]
    alone = np.where(user < 0, -1 - owner[checks], user)  # the rows of a list without a user are one cluster
    cluster = np.unique(alone, return_inverse=True)[1]
    bins = _bins(predicted, hit, cluster, resamples=resamples, seed=seed)
    evaluated = np.unique(owner[checks])
    return Calibration(
        bins=bins,
        error=sum(bin_.n_rows * abs(bin_.predicted - bin_.clicked.mean) for bin_ in bins) / len(checks),
        base_rate=float(hit.mean()),
        n_fitted=len(np.unique(owner[fits])),
        n_lists=len(evaluated),
        n_users=count_clusters(requests.user[evaluated]),
        n_rows=len(checks),
        sampled=int(impressions.sampled[evaluated].sum()),
    )


def _bins(
    predicted: Float64, hit: Float64, cluster: npt.NDArray[np.integer], *, resamples: int, seed: int
) -> tuple[Bin, ...]:
    """At most `BINS` bins of about equal size; rows of one probability are never parted."""
    order = np.argsort(predicted, kind="stable")
    bounds = predicted[order[np.arange(1, BINS) * len(order) // BINS]]
    bin_of_row = np.searchsorted(np.unique(bounds), predicted, side="right")
    member = bin_of_row[:, None] == np.unique(bin_of_row)
    columns = np.where(member, hit[:, None], np.nan)
    intervals = mean_intervals(columns, cluster, resamples=resamples, seed=seed)
    return tuple(
        Bin(float(predicted[rows].mean()), interval, int(rows.sum()))
        for rows, interval in zip(member.T, intervals, strict=True)
    )
