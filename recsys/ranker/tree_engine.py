"""The engine that evaluates a booster's trees: pylignum where it is installed and exact, else LightGBM itself.

pylignum promises LightGBM's bits at a fraction of the time (https://misterekkk.github.io/lignum/). The promise is
checked for each booster before its first score is given: on rows made of the trees' own thresholds, the numbers beside
them, missing values and categories that no tree knows. Infinite values, which it treats in another way, go to LightGBM.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightgbm
import numpy as np

from features.arrays import Float32, Float64

log = logging.getLogger(__name__)

_CHECKED_ROWS = 512
_EDGES = (0.0, -0.0, 1e-35, -1e-35, -1.0, 1e30, -1e30, np.nan)
_CATEGORIES = 64
"""Whole numbers from 0 that stand for categories in the checked rows, beside the thresholds."""
_SPLITS = re.compile(r"^split_feature=([^\n]*)\n.*?^threshold=([^\n]*)$", re.MULTILINE | re.DOTALL)


class TreeEngine:
    """Scores of one booster. is_fast: whether pylignum gives them."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster
        self._model = _exact_model(booster)

    @property
    def is_fast(self) -> bool:
        """Whether pylignum gives the scores."""
        return self._model is not None

    def scores(self, matrix: Float32, *, threads: int) -> Float64:
        """The booster's score of each row, (n_rows,); the same bits from either engine. threads: 0 for all cores."""
        values = np.ascontiguousarray(matrix, np.float64)
        if self._model is None or np.isinf(values).any():
            return np.asarray(self._booster.predict(values, num_threads=threads))
        return np.asarray(self._model.predict(values, raw_score=True, n_jobs=threads or -1))


def _exact_model(booster: lightgbm.Booster) -> Any:
    """pylignum's model of a booster; None where it is not installed, or cannot read it, or differs from it."""
    try:
        import lignum
    except ImportError:
        return None
    text = booster.model_to_string()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.txt"
        path.write_text(text, encoding="utf-8")
        try:
            model = lignum.load(str(path), format="lightgbm")
        except (RuntimeError, ValueError) as error:
            log.warning("LightGBM evaluates the trees: pylignum cannot read them: %s", error)
            return None
    rows = rows_at_thresholds(text, booster.num_feature())
    expected = np.asarray(booster.predict(rows, num_threads=1, raw_score=True))
    found = np.asarray(model.predict(rows, raw_score=True, n_jobs=1))
    if expected.tobytes() != found.tobytes():
        wrong = int(np.count_nonzero(expected != found))
        log.warning("LightGBM evaluates the trees: pylignum differs from it in %d of %d rows", wrong, len(rows))
        return None
    return model


def rows_at_thresholds(text: str, n_columns: int) -> Float64:
    """Rows whose values lie on the thresholds of a booster and beside them, (n_rows, n_columns). text: the booster."""
    pools: list[list[float]] = [[] for _ in range(n_columns)]
    for columns, thresholds in _SPLITS.findall(text):
        for column, threshold in zip(columns.split(), thresholds.split(), strict=True):
            pools[int(column)].append(float(threshold))
    random = np.random.default_rng(0)
    rows = np.empty((_CHECKED_ROWS, n_columns))
    for column, pool in enumerate(pools):
        rows[:, column] = random.choice(_values_beside(pool), _CHECKED_ROWS)
    return rows


def _values_beside(thresholds: Sequence[float]) -> Float64:
    at = np.unique(np.array(thresholds, np.float64))
    with np.errstate(over="ignore"):  # a split into missing and all others has the largest number as its threshold
        beside = [np.nextafter(at, np.inf), np.nextafter(at, -np.inf), at.astype(np.float32).astype(np.float64)]
    values = np.concatenate([at, *beside, _EDGES, np.arange(_CATEGORIES)])
    return np.asarray(values[~np.isinf(values)])
