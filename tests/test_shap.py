"""ShapSummary of columns to a ranker's scores: they add up, have a direction, and the largest stands first."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.config import RankerConfig as Settings
from recsys.ranker.lightgbm_ranker import MatrixColumn, RankingDataset, TreeRanker, train_ranker
from recsys.ranker.shap import ShapSummary, shap_summary

N_LISTS, SIZE = 80, 6


def trained() -> tuple[TreeRanker, np.ndarray]:
    """Clicks go to the item that is cheap and, half as surely, of kind 2; `noise` says nothing."""
    random = np.random.default_rng(0)
    price, noise = random.random((2, N_LISTS * SIZE))
    kind = random.integers(0, 4, N_LISTS * SIZE)
    worth = (2 * (1 - price) + (kind == 2) + 0.1 * random.random(len(price))).reshape(N_LISTS, SIZE)
    label = (worth == worth.max(axis=1, keepdims=True)).ravel().astype(np.int8)
    matrix = np.column_stack([price, kind, noise]).astype(np.float32)
    lists = RankingDataset(matrix, label, np.arange(0, N_LISTS * SIZE + 1, SIZE, dtype=np.int64))
    columns = (MatrixColumn("price"), MatrixColumn("kind", categorical=True), MatrixColumn("noise"))
    settings = Settings(max_trees=30, min_data_in_leaf=5, num_leaves=7, feature_fraction=1.0)
    return train_ranker(lists, lists, columns, settings, seed=0, threads=1), matrix


def found(ranker: TreeRanker, matrix: np.ndarray, *, rows: int = 2000, seed: int = 0) -> ShapSummary:
    owner = np.repeat(np.arange(N_LISTS), SIZE)
    return shap_summary(
        ranker, matrix, list_of_row=owner, cluster=owner, resamples=100, seed=seed, threads=1, rows=rows
    )


def test_the_column_that_decides_comes_first_and_a_lower_price_raises_the_score() -> None:
    result = found(*trained())
    assert [one.column for one in result.columns] == ["price", "kind", "noise"]
    assert result.columns[0].direction < -0.9
    assert result.columns[0].size.low > result.columns[2].size.high


def test_sizes_are_the_mean_absolute_contributions_of_lightgbm() -> None:
    ranker, matrix = trained()
    values = ranker.booster.predict(matrix, pred_contrib=True)
    sizes = {one.column: one.size.mean for one in found(ranker, matrix).columns}
    for name, column in zip(("price", "kind", "noise"), values.T, strict=False):
        assert sizes[name] == pytest.approx(np.abs(column).mean(), abs=1e-12)
    assert values.sum(axis=1) == pytest.approx(ranker.scores(matrix), abs=1e-9)


def test_codes_of_categories_have_no_direction() -> None:
    result = found(*trained())
    assert np.isnan(next(one for one in result.columns if one.column == "kind").direction)


def test_the_sample_is_counted_and_fixed_by_its_seed() -> None:
    ranker, matrix = trained()
    one, again, other = (found(ranker, matrix, rows=50, seed=seed) for seed in (1, 1, 2))
    assert one.n_rows == 50 and one.n_lists <= 50
    assert one == again != other
    assert found(ranker, matrix).n_rows == len(matrix) and found(ranker, matrix).n_lists == N_LISTS
