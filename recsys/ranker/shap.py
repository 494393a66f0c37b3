"""Contributions of the columns to a ranker's scores: TreeSHAP values of single rows and of a sample.

Lundberg et al., From local explanations to global understanding with explainable AI for trees, Nature Machine
Intelligence 2 (2020), the values of LightGBM's `pred_contrib`: a row's contributions and the expected score add up
to its score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from features.arrays import Float32, Float64
from recsys.metrics.bootstrap import Interval, mean_intervals
from recsys.ranker.ranker import Ranker

SAMPLE_ROWS = 2000
SHOWN = 8
"""Columns reported for each item, those of the largest effect."""


@dataclass(frozen=True)
class ColumnContribution:
    """One column. size: mean of |contribution| in units of the score. direction: rank correlation of the column's value
    with its contribution over rows that have a value, -1 to 1; NaN where either is constant, and for a categorical
    column, whose codes have no order."""

    column: str
    size: Interval
    direction: float


@dataclass(frozen=True)
class ShapSummary:
    """Of every column, the largest first, over n_rows rows of n_lists lists."""

    columns: tuple[ColumnContribution, ...]
    n_rows: int
    n_lists: int


def shap_summary(
    ranker: Ranker,
    matrix: Float32,
    *,
    list_of_row: npt.NDArray[np.integer],
    cluster: npt.NDArray[np.integer],
    resamples: int,
    seed: int,
    threads: int = 0,
    rows: int = SAMPLE_ROWS,
) -> ShapSummary:
    """ShapSummary over `rows` rows of `matrix` drawn without replacement, or all where there are fewer.

    matrix: (n_rows, n_columns) in the ranker's order. list_of_row, cluster: (n_rows,) the list of each row, and its
    user for the intervals, negative for an unknown one. seed: of the sample and of the resamples.
    """
    drawn = np.random.default_rng(seed).permutation(len(matrix))[:rows]
    drawn.sort()
    values = ranker.contributions(matrix[drawn], threads=threads)
    sizes = mean_intervals(np.abs(values), cluster[drawn], resamples=resamples, seed=seed)
    categorical = ranker.categorical_splits()
    columns = [
        ColumnContribution(name, size, np.nan if i in categorical else _direction(matrix[drawn, i], values[:, i]))
        for i, (name, size) in enumerate(zip(ranker.columns, sizes, strict=True))
    ]
    columns.sort(key=lambda column: (-column.size.mean, column.column))
    return ShapSummary(tuple(columns), len(drawn), len(np.unique(list_of_row[drawn])))


def _direction(values: Float32, contribution: Float64) -> float:
    present = ~np.isnan(values)
    if present.sum() < 2 or np.ptp(values[present]) == 0 or np.ptp(contribution[present]) == 0:
        return np.nan
    return float(np.corrcoef(rankdata(values[present]), rankdata(contribution[present]))[0, 1])


def largest_effects(columns: tuple[str, ...], matrix: Float32, effects: Float64) -> list[list[dict[str, Any]]]:
    """For each row of the matrix its columns of the largest effect, largest first. effects: contributions of the
    columns, (n_rows, n_columns) as the matrix.

    A missing value is None; columns without effect are left out.
    """
    return [_of_row(columns, values, effect) for values, effect in zip(matrix, effects, strict=True)]


def _of_row(columns: tuple[str, ...], values: Float32, effects: np.ndarray) -> list[dict[str, Any]]:
    order = np.argsort(-np.abs(effects), kind="stable")[:SHOWN]
    return [
        {
            "column": columns[i],
            "value": float(values[i]) if np.isfinite(values[i]) else None,
            "contribution": float(effects[i]),
        }
        for i in order
        if effects[i]
    ]
