"""Why an item has its score: what each of the ranker's columns added to it.

SHAP values of the trees as LightGBM computes them (Lundberg et al. 2020, Nature Machine Intelligence 2): the
contributions of all columns and a constant add up to the score.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from features.log import Float32
from recsys.ranker.lightgbm_ranker import Ranker

SHOWN = 8
"""Columns told for each item, those of the largest effect."""


def contributions(ranker: Ranker, matrix: Float32) -> list[list[dict[str, Any]]]:
    """For each row of the matrix, (n_rows, n_columns), its columns of the largest effect, largest first.

    A missing value is None; columns without effect are left out.
    """
    effects = np.asarray(ranker.booster.predict(matrix, pred_contrib=True, num_threads=1))[:, :-1]
    return [_row(ranker.columns, values, effect) for values, effect in zip(matrix, effects, strict=True)]


def _row(columns: tuple[str, ...], values: Float32, effects: np.ndarray) -> list[dict[str, Any]]:
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
