"""The AUC of many columns in each list, and a bound on its deviation from 0.5 for random clicks.

A pair with a missing value counts half, as a tie does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Float32, Float64, Int64
from features.matrix.within_list import percentile_and_zscore


@dataclass(frozen=True)
class ListAucs:
    """auc: of every column in every list, (n, n_columns); NaN for a list without both a clicked and an unclicked row.

    variance: of the same if the list's clicks were put on random candidates of it, when its mean is 0.5.
    """

    auc: Float64
    variance: Float64


def list_aucs(matrix: Float32, label: npt.NDArray[np.integer], offsets: Int64) -> ListAucs:
    """AUCs of columns; values are finite or NaN.

    matrix: (n_rows, n_columns), NaN is missing. label: (n_rows,), above 0 is clicked. offsets: (n + 1,), list i is rows
    offsets[i]:offsets[i + 1], one at least.

    Method: r, of a row, is half of how many candidates of its list it beats less how many beat it. Over the clicked
    rows these add up to the Mann-Whitney statistic less its mean, since what clicked rows win from each other they lose
    too; and a sum of m values out of n whose mean is 0, drawn without replacement, has variance m (n - m) / (n - 1)
    times their mean square.

    >>> list_aucs(np.float32([[3, 1], [2, 1]]), np.array([1, 0]), np.array([0, 2])).auc.tolist()
    [[1.0, 0.5]]
    """
    length = np.diff(offsets)
    standing = _standing(matrix, offsets)
    clicked = label > 0
    n_clicked = np.add.reduceat(clicked, offsets[:-1], dtype=np.int64)
    pairs = (n_clicked * (length - n_clicked)).astype(np.float64)
    pairs[pairs == 0] = np.nan
    squares = np.add.reduceat(standing.astype(np.float64) ** 2, offsets[:-1], axis=0) / length[:, None]
    standing[~clicked] = 0.0
    won = np.add.reduceat(standing, offsets[:-1], axis=0, dtype=np.float64)
    spare = np.maximum(length - 1, 1)
    return ListAucs(0.5 + won / pairs[:, None], squares / (pairs * spare)[:, None])


def log_p_bound(aucs: ListAucs) -> Float64:
    """Natural logarithm of a bound on the probability that random clicks deviate as far from 0.5 in the mean,
    (n_columns,).

    Freedman's inequality (On tail probabilities for martingales, Annals of Probability 3, 1975, theorem 1.6), of both
    sides: lists may depend on the clicks of earlier ones, and no AUC is further than a half from its mean.
    """
    counted = ~np.isnan(aucs.auc).any(axis=1)
    strayed = np.abs((aucs.auc[counted] - 0.5).sum(axis=0))
    variance = aucs.variance[counted].sum(axis=0)
    scale = np.maximum(variance + strayed / 6, 1e-12)
    return np.asarray(np.log(2.0) - strayed**2 / (2 * scale))


def _standing(matrix: Float32, offsets: Int64) -> Float32:
    """Half of how many candidates of its list each value beats less how many beat it, (n_rows, n_columns)."""
    percentile = np.ascontiguousarray(percentile_and_zscore(np.ascontiguousarray(matrix.T), offsets)[0].T)
    valid = np.add.reduceat(~np.isnan(matrix), offsets[:-1], axis=0, dtype=np.float32)
    standing = np.repeat(valid, np.diff(offsets), axis=0) * (percentile - np.float32(0.5))
    return np.asarray(np.nan_to_num(standing, copy=False), np.float32)
