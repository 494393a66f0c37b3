"""A ranker that adds simple methods to trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.config import load_config
from recsys.errors import ModelError
from recsys.ranker.ensemble_ranker import ENSEMBLE_FILE, EnsembleRanker
from recsys.ranker.lightgbm_ranker import MatrixColumn, RankingDataset, retrain_ranker
from recsys.ranker.linear_ranker import LinearRanker
from recsys.ranker.model import load_ranker

NAMES = ("signal", "noise", "words")
N_LISTS, SIZE = 300, 8


def lists(seed: int) -> RankingDataset:
    """The click is where `signal` and `words` are large together."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(N_LISTS * SIZE, len(NAMES))).astype(np.float32)
    wanted = (matrix[:, 0] + matrix[:, 2]).reshape(N_LISTS, SIZE) + random.normal(size=(N_LISTS, SIZE))
    label = np.zeros((N_LISTS, SIZE), np.int8)
    label[np.arange(N_LISTS), wanted.argmax(axis=1)] = 1
    return RankingDataset(matrix, label.ravel(), np.arange(0, N_LISTS * SIZE + 1, SIZE))


@pytest.fixture(scope="module")
def ensemble() -> EnsembleRanker:
    data, columns = lists(0), [MatrixColumn(name) for name in NAMES[:2]]
    of_trees = data.select(NAMES, NAMES[:2])
    trees = retrain_ranker([of_trees], columns, load_config().ranker, trees=20, seed=0, threads=1)
    return EnsembleRanker.of(trees, LinearRanker({"words": 0.5, "signal": 0.25}), data, NAMES, threads=1)


def test_the_scores_are_those_of_the_trees_at_a_spread_of_one_and_the_weighted_columns(
    ensemble: EnsembleRanker,
) -> None:
    matrix = lists(0).matrix
    assert ensemble.columns == NAMES
    trees = ensemble.trees.scores(np.ascontiguousarray(matrix[:, :2]), threads=1).reshape(N_LISTS, SIZE)
    assert ensemble.scale == pytest.approx(1 / np.sqrt(trees.var(axis=1).mean()))
    expected = trees.ravel() * ensemble.scale + 0.5 * matrix[:, 2] + 0.25 * matrix[:, 0]
    np.testing.assert_allclose(ensemble.scores(matrix, threads=1), expected, atol=1e-9)
    assert ensemble.n_trees == 20


def test_contributions_add_up_to_the_scores_but_for_one_expected_score(ensemble: EnsembleRanker) -> None:
    matrix = lists(1).matrix
    rest = ensemble.scores(matrix, threads=1) - ensemble.contributions(matrix, threads=1).sum(axis=1)
    assert np.ptp(rest) == pytest.approx(0, abs=1e-9)


def test_what_is_saved_is_what_is_loaded(ensemble: EnsembleRanker, tmp_path: Path) -> None:
    ensemble.save(tmp_path)
    loaded = load_ranker(tmp_path, NAMES)
    assert isinstance(loaded, EnsembleRanker)
    matrix = lists(2).matrix
    assert loaded.scores(matrix, threads=1).tobytes() == ensemble.scores(matrix, threads=1).tobytes()
    with pytest.raises(ModelError, match=r"reads the columns \['words'\] too, expected some of"):
        load_ranker(tmp_path, NAMES[:2])
    (tmp_path / ENSEMBLE_FILE).write_text('{"weights": {"words": 1}}')
    with pytest.raises(ModelError, match="holds no scale"):
        load_ranker(tmp_path, NAMES)


def test_trees_of_one_score_leave_the_simple_part(ensemble: EnsembleRanker) -> None:
    flat = lists(3)
    flat.matrix[:] = 1.0
    made = EnsembleRanker.of(ensemble.trees, ensemble.simple, flat, NAMES, threads=1)
    assert made.scale == 0.0
