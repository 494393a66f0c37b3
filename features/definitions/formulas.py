"""The arithmetic of measures, a loop over candidate rows each; both readers' integers go through the same code."""

from __future__ import annotations

import numpy as np

from features.arrays import Float64, Int32, Int64
from features.kernels.compiled import compiled


@compiled
def ratio(numerator: Float64 | Int64, denominator: Float64 | Int64) -> Float64:
    """Quotient, (n,), NaN where the denominator is 0 or either is NaN."""
    quotient = np.full(len(numerator), np.nan)
    for row in range(len(numerator)):
        if denominator[row] != 0:
            quotient[row] = numerator[row] / denominator[row]
    return quotient


@compiled
def smoothed_rate(
    clicks: Int64, impressions: Int64, all_clicks: Int64, all_impressions: Int64, weight: float
) -> Float64:
    """(clicks + weight * prior) / (impressions + weight), (n,), where prior is all_clicks / all_impressions; NaN where
    there are none of these."""
    rate = np.full(len(clicks), np.nan)
    for row in range(len(clicks)):
        if all_impressions[row] != 0:
            prior = all_clicks[row] / all_impressions[row]
            rate[row] = (clicks[row] + weight * prior) / (impressions[row] + weight)
    return rate


@compiled
def smoothed_lift(
    in_category: Float64, of_user: Int64, all_in_category: Float64, of_all: Int64, weight: float
) -> Float64:
    """((in_category + weight * overall) / (of_user + weight)) / overall, (n,), where overall is all_in_category /
    of_all; NaN where it is 0 or missing."""
    lift = np.full(len(of_user), np.nan)
    for row in range(len(of_user)):
        if of_all[row] != 0:
            overall = all_in_category[row] / of_all[row]
            if overall != 0:
                lift[row] = ((in_category[row] + weight * overall) / (of_user[row] + weight)) / overall
    return lift


@compiled
def elapsed(now: Int64, since: Int64, never: int, unit: float) -> Float64:
    """Time from `since` to `now`, both in microseconds, (n,), in a unit of so many; NaN where `since` is `never`."""
    passed = np.full(len(since), np.nan)
    for row in range(len(since)):
        if since[row] != never:
            passed[row] = np.float64(now[row] - since[row]) / unit
    return passed


@compiled
def smallest_of_values(offsets: Int64, codes: Int32, item: Int32, of_value: Float64) -> Float64:
    """The smallest number among the category values of each candidate's item, (n,), NaN where it has none or all are
    infinite. offsets, codes: the values of each item, -1 being the last one. of_value: the number of each value."""
    smallest = np.full(len(item), np.nan)
    n_items = len(offsets) - 1
    for row in range(len(item)):
        code = item[row] % n_items
        least = np.inf
        for entry in range(offsets[code], offsets[code + 1]):
            least = min(least, of_value[codes[entry]])
        if least < np.inf:
            smallest[row] = least
    return smallest
