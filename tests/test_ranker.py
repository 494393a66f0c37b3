"""The LightGBM re-ranker by its behaviour on planted signals."""

from pathlib import Path

import numpy as np
import pytest

from recsys.config import Ranker as Settings
from recsys.errors import ModelError, TrainingError
from recsys.ranker import Column, Lists, Ranker, load_ranker, train_ranker

COLUMNS = (Column("signal"), Column("noise"), Column("shelf", categorical=True))


def lists(n: int, seed: int) -> Lists:
    """Lists of ten candidates: the clicked one has the largest signal, and shelf 2 adds to it."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(n * 10, 3)).astype(np.float32)
    matrix[:, 2] = random.integers(0, 4, n * 10)
    worth = (matrix[:, 0] + 3.0 * (matrix[:, 2] == 2)).reshape(n, 10)
    label = (worth == worth.max(axis=1, keepdims=True)).astype(np.int8).ravel()
    return Lists(matrix, label, np.arange(n + 1, dtype=np.int64) * 10)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return train_ranker(lists(400, 0), lists(100, 1), COLUMNS, Settings(max_trees=80), seed=0, threads=1)


def test_a_planted_signal_is_ranked_first(ranker: Ranker) -> None:
    test = lists(200, 2)
    scores = ranker.scores(test.matrix, threads=1).reshape(200, 10)
    hit = scores.argmax(axis=1) == test.label.reshape(200, 10).argmax(axis=1)
    assert hit.mean() > 0.8


def test_the_columns_that_carry_the_signal_gain_most(ranker: Ranker) -> None:
    assert list(ranker.gains())[-1] == "noise"


def test_a_rows_score_does_not_depend_on_the_other_rows(ranker: Ranker) -> None:
    matrix = lists(20, 3).matrix
    order = np.random.default_rng(0).permutation(len(matrix))
    assert np.array_equal(ranker.scores(matrix)[order], ranker.scores(matrix[order]))
    assert ranker.scores(matrix[:1])[0] == ranker.scores(matrix)[0]


def test_a_saved_ranker_gives_the_same_bits(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path / "ranker.txt")
    loaded = load_ranker(tmp_path / "ranker.txt", ranker.columns)
    matrix = lists(20, 4).matrix
    assert np.array_equal(loaded.scores(matrix), ranker.scores(matrix))


def test_a_ranker_with_one_score_for_every_row_is_an_error() -> None:
    train, valid = lists(4, 0), lists(3, 1)
    with pytest.raises(TrainingError, match=r"same score after 4 training lists.*min_data_in_leaf"):
        train_ranker(train, valid, COLUMNS, Settings(min_data_in_leaf=1000), seed=0, threads=1)


def test_a_matrix_of_other_columns_is_refused(ranker: Ranker) -> None:
    with pytest.raises(ModelError, match=r"reads 3 columns, got a matrix of shape \(2, 2\)"):
        ranker.scores(np.zeros((2, 2), np.float32))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ranker.txt").write_text("not a model")
    with pytest.raises(ModelError, match=r"ranker\.txt.*not a LightGBM model"):
        load_ranker(tmp_path / "ranker.txt", ("a",))


def test_with_a_monotone_constraint_a_larger_value_never_lowers_the_score() -> None:
    columns = (Column("signal", monotone=1), Column("noise"), Column("shelf"))
    trained = train_ranker(lists(300, 0), lists(80, 1), columns, Settings(max_trees=60), seed=0, threads=1)
    rows = np.zeros((50, 3), np.float32)
    rows[:, 0] = np.linspace(-3, 3, 50)
    assert (np.diff(trained.scores(rows)) >= 0).all()
