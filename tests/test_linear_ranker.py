"""A ranker that is a weighted sum of columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ModelError
from recsys.ranker.linear_ranker import LinearRanker, load_linear_ranker
from recsys.ranker.shap import largest_effects

RANKER = LinearRanker({"clicks": 1.0, "words": -0.5})
MATRIX = np.array([[1.0, 2.0], [0.5, np.nan], [np.nan, np.nan]], np.float32)


def test_columns_add_up_by_their_weights_and_a_missing_value_counts_nothing() -> None:
    assert RANKER.scores(MATRIX).tolist() == [0.0, 0.5, 0.0]
    assert RANKER.contributions(MATRIX).tolist() == [[1.0, -1.0], [0.5, 0.0], [0.0, 0.0]]
    assert (RANKER.n_trees, RANKER.gains()) == (0, {"clicks": 1.0, "words": 0.5})


def test_an_explanation_has_the_columns_with_an_effect() -> None:
    first, second, third = largest_effects(RANKER.columns, MATRIX, RANKER.contributions(MATRIX))
    assert {entry["column"]: entry["contribution"] for entry in first} == {"clicks": 1.0, "words": -1.0}
    assert [entry["column"] for entry in second] == ["clicks"]
    assert third == []


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    RANKER.save(tmp_path)
    assert load_linear_ranker(tmp_path / "weights.json", RANKER.columns) == RANKER


def test_other_columns_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"reads 2 columns, got a matrix of shape \(3, 1\)"):
        RANKER.scores(MATRIX[:, :1])
    RANKER.save(tmp_path)
    with pytest.raises(ModelError, match=r"reads the columns \('clicks', 'words'\), expected \('words',\)"):
        load_linear_ranker(tmp_path / "weights.json", ("words",))
    (tmp_path / "weights.json").write_text('{"weights": {"clicks": "many"}}')
    with pytest.raises(ModelError, match="holds no weights of columns"):
        load_linear_ranker(tmp_path / "weights.json", ("clicks",))
