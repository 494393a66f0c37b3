"""Trees are evaluated by pylignum with the bits of LightGBM, or by LightGBM."""

from __future__ import annotations

import sys
from typing import Any

import lightgbm
import numpy as np
import pytest

from recsys.ranker.tree_engine import TreeEngine, rows_at_thresholds

COLUMNS = 5
CATEGORY = 4


def booster(**parameters: Any) -> lightgbm.Booster:
    """Trees over four numbers, some of them missing or 0, and a category."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(600, COLUMNS))
    matrix[random.random(matrix.shape) < 0.2] = np.nan
    matrix[:, 1] = np.where(random.random(600) < 0.5, 0.0, matrix[:, 1])
    matrix[:, CATEGORY] = random.integers(0, 12, 600)
    label = np.nan_to_num(matrix[:, 0]) + (matrix[:, CATEGORY] % 3 == 0)
    data = lightgbm.Dataset(matrix, label=label, categorical_feature=[CATEGORY])
    settings = {"objective": "regression", "num_leaves": 15, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(settings | parameters, data, num_boost_round=20)


def test_scores_have_the_bits_of_lightgbm_at_thresholds_missing_values_and_unknown_categories() -> None:
    trained = booster()
    engine = TreeEngine(trained)
    rows = np.concatenate([rows_at_thresholds(trained.model_to_string(), COLUMNS), np.full((1, COLUMNS), np.nan)])
    assert engine.is_fast
    for threads in (1, 2):
        assert engine.scores(rows.astype(np.float32), threads=threads).tobytes() == (
            trained.predict(rows.astype(np.float32)).tobytes()
        )


def test_the_checked_rows_lie_on_both_sides_of_every_threshold() -> None:
    trained = booster(num_leaves=3)
    rows = rows_at_thresholds(trained.model_to_string(), COLUMNS)
    splits = trained.trees_to_dataframe().dropna(subset=["split_feature"])
    assert len(splits)
    for name, threshold in splits.loc[splits["decision_type"] == "<=", ["split_feature", "threshold"]].to_numpy():
        column = rows[:, trained.feature_name().index(name)]
        assert (column <= float(threshold)).any() and (column > float(threshold)).any()


def test_a_split_into_missing_and_all_others_is_checked_without_infinities() -> None:
    largest = np.finfo(np.float64).max  # is the threshold that LightGBM writes for it
    rows = rows_at_thresholds(f"split_feature=0\nthreshold={largest:.17g}\n", 1)
    assert (rows == largest).any() and np.isnan(rows).any()
    assert not np.isinf(rows).any()


def test_infinite_values_are_scored_as_lightgbm_does() -> None:
    trained = booster()
    rows = np.zeros((3, COLUMNS), np.float32)
    rows[0, 0], rows[1, 1] = np.inf, -np.inf
    assert TreeEngine(trained).scores(rows, threads=1).tobytes() == trained.predict(rows).tobytes()


@pytest.mark.parametrize("why", ["trees that it cannot read", "it is not installed"])
def test_lightgbm_evaluates_the_trees_where_pylignum_cannot(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = booster(linear_tree=True) if why == "trees that it cannot read" else booster()
    if why == "it is not installed":
        monkeypatch.setitem(sys.modules, "lignum", None)
    rows = np.random.default_rng(1).normal(size=(20, COLUMNS)).astype(np.float32)
    rows[:, CATEGORY] = 3
    engine = TreeEngine(trained)
    assert not engine.is_fast
    assert engine.scores(rows, threads=1).tobytes() == trained.predict(rows.astype(np.float64)).tobytes()
