"""Fast TreeSHAP values are LightGBM's, and Shapley values by definition."""

from __future__ import annotations

import logging
import re
from itertools import combinations
from math import factorial

import lightgbm
import numpy as np
import pytest

from recsys.ranker.tree_shap import TOLERANCE, TreeShap

KINDS = {"none": {"use_missing": False}, "nan": {}, "zero": {"zero_as_missing": True}}
SPECIAL = (0.0, -0.0, 1e-36, -1e-35, np.nan, np.inf, -np.inf, 1e12, -3.0, -0.5, 2.5, 31.0, 32.0, 71.0)
"""Zeros of all sorts, infinities, and categories that training did not see."""


def trained(columns: int, *, seed: int, trees: int = 12, leaves: int = 15, **settings: object) -> lightgbm.Booster:
    """A booster on random rows: column 0 has 70 categories, a tenth of the values are missing, a tenth 0."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(600, columns))
    rows[:, 0] = random.integers(0, 70, len(rows))
    target = rows[:, 1] * rows[:, 2] + 3 * (rows[:, 0] % 3 == 0) + random.normal(size=len(rows))
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[random.random(rows.shape) < 0.1] = 0.0
    parameters = {"objective": "regression", "num_leaves": leaves, "min_data_in_leaf": 5, "num_threads": 1}
    parameters |= {"verbosity": -1, "min_data_per_group": 5, "seed": seed, **settings}
    data = lightgbm.Dataset(rows, label=target, categorical_feature=[0], params={"verbosity": -1})
    booster = lightgbm.train(parameters, data, num_boost_round=trees)
    return lightgbm.Booster(model_str=booster.model_to_string())


def asked(columns: int, n: int = 70) -> np.ndarray:
    random = np.random.default_rng(5)
    rows = random.normal(size=(n, columns))
    rows[:, 0] = random.integers(-2, 80, n)
    special = random.random(rows.shape) < 0.3
    rows[special] = random.choice(SPECIAL, int(special.sum()))
    return rows.astype(np.float32)


@pytest.mark.parametrize("missing", KINDS)
@pytest.mark.parametrize("leaves", [2, 15, 63])
def test_values_are_those_of_lightgbm_for_every_kind_of_split(missing: str, leaves: int) -> None:
    booster = trained(6, seed=leaves, leaves=leaves, **KINDS[missing])
    rows, shap = asked(6), TreeShap(booster)
    assert shap.is_fast
    expected = booster.predict(rows, pred_contrib=True, num_threads=1)[:, :-1]
    np.testing.assert_allclose(shap.contributions(rows, threads=1), expected, atol=TOLERANCE, rtol=0)
    assert shap.contributions(rows[:0], threads=1).shape == (0, 6)


def test_a_row_has_the_same_bits_in_any_company() -> None:
    shap, rows = TreeShap(trained(5, seed=1)), asked(5)
    together = shap.contributions(rows, threads=1)
    alone = [shap.contributions(rows[i : i + 1], threads=1)[0] for i in range(len(rows))]
    assert together.tobytes() == np.array(alone).tobytes()


def test_trees_that_split_on_nothing_contribute_nothing() -> None:
    shap = TreeShap(trained(3, seed=2, min_data_in_leaf=590))
    assert shap.is_fast and not shap.contributions(asked(3), threads=1).any()


def test_other_boosters_are_left_to_lightgbm(caplog: pytest.LogCaptureFixture) -> None:
    booster = trained(4, seed=3, boosting="rf", bagging_freq=1, bagging_fraction=0.5)
    with caplog.at_level(logging.WARNING):
        shap = TreeShap(booster)
    assert not shap.is_fast and "LightGBM explains the scores" in caplog.text
    rows = asked(4)
    expected = booster.predict(rows, pred_contrib=True, num_threads=1)[:, :-1]
    assert shap.contributions(rows, threads=1).tobytes() == np.ascontiguousarray(expected).tobytes()


def test_trees_without_counts_are_left_to_lightgbm(caplog: pytest.LogCaptureFixture) -> None:
    text = trained(4, seed=4, trees=2).model_to_string()
    without = re.sub(
        r"(?<=^internal_count=)[\d ]+", lambda counts: re.sub(r"\d", "0", counts[0]), text, flags=re.MULTILINE
    )
    with caplog.at_level(logging.WARNING):
        assert not TreeShap(lightgbm.Booster(model_str=without)).is_fast
    assert "its trees are not what is expected: ZeroDivisionError" in caplog.text


def expected_score(node: dict, row: np.ndarray, known: set[int]) -> float:
    """The score where some columns are known: at other splits the mean of both ways by training rows."""
    if "leaf_value" in node:
        return float(node["leaf_value"])
    left, right = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        goes_left = row[node["split_feature"]] <= node["threshold"]
        return expected_score(left if goes_left else right, row, known)
    counts = [child.get("leaf_count", child.get("internal_count")) for child in (left, right)]
    values = [expected_score(child, row, known) for child in (left, right)]
    return float(np.average(values, weights=counts))


def test_three_planted_columns_have_their_shapley_values_by_definition() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 3))
    target = np.where(rows[:, 0] > 0, rows[:, 1] * 2, -rows[:, 2]) + rows[:, 0]
    parameters = {"objective": "regression", "num_leaves": 12, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, label=target), num_boost_round=4)
    trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    found = TreeShap(booster).contributions(rows[:6].astype(np.float32), threads=1)
    for row, values in zip(rows[:6].astype(np.float32), found, strict=True):
        for column in range(3):
            others = sorted({0, 1, 2} - {column})
            value = 0.0
            for size in range(3):
                weight = factorial(size) * factorial(2 - size) / factorial(3)
                for chosen in combinations(others, size):
                    gains = (
                        expected_score(t, row, {*chosen, column}) - expected_score(t, row, {*chosen}) for t in trees
                    )
                    value += weight * sum(gains)
            assert values[column] == pytest.approx(value, abs=1e-9)
