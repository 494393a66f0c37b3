"""Scores that were computed once: every machine, kernel and number of threads gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from golden_scores import ROWS, Golden, random_head, random_vectors, read_expected, read_golden
from threadpoolctl import threadpool_limits

from features.arrays import Float32
from recsys.collaborative.offline import OfflineSnapshots
from recsys.encoder.scoring import score_candidates

pytestmark = pytest.mark.kernels


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read_golden()


def bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(f"u{values.itemsize}")


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_columns_and_scores_have_the_bits_that_were_written(golden: Golden, threads: int) -> None:
    expected_matrix, expected_scores = read_expected()
    with threadpool_limits(threads, "blas"):
        matrix = golden.matrix_of(golden.requests)
        scores = golden.scores(matrix)
    assert len(scores) >= ROWS
    differ = np.flatnonzero((bits(matrix) != bits(expected_matrix)).any(axis=0))
    assert [golden.settings.columns[column] for column in differ] == []
    assert np.array_equal(bits(scores), bits(expected_scores))


def test_the_written_scores_have_every_kind_of_column() -> None:
    matrix, scores = read_expected()
    columns = read_golden().settings.columns
    constant = [name for name, values in zip(columns, matrix.T, strict=True) if np.isnan(values).all()]
    assert not {"text_score", "lexical_similarity", "factor_similarity", "audience_similarity", "co_click_mean"} & {
        *constant
    }
    assert len(np.unique(scores)) > ROWS / 2


def test_neighbours_and_audiences_are_made_with_the_same_bits(golden: Golden) -> None:
    collaborative = golden.settings.collaborative
    assert collaborative is not None
    stored = golden.source.built
    made = OfflineSnapshots(golden.index, golden.texts.vectors, collaborative).snapshot(golden.source.as_of)
    assert np.array_equal(made.neighbours.item, stored.neighbours.item)
    assert np.array_equal(bits(made.neighbours.similarity), bits(stored.neighbours.similarity))
    assert np.array_equal(made.audience, stored.audience, equal_nan=True)
    resemblance = [np.nan_to_num(factors) @ np.nan_to_num(factors).T for factors in (made.factors, stored.factors)]
    assert resemblance[0] == pytest.approx(resemblance[1], abs=1e-3)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_row_does_not_depend_on_the_other_rows_of_its_request(golden: Golden, threads: int) -> None:
    head, history, candidates = random_head(3), random_vectors(51, 4)[:-1], random_vectors(101, 5)[:-1]
    with threadpool_limits(threads, "blas"):
        whole = score_candidates(head, history, candidates)
        alone: Float32 = np.concatenate([score_candidates(head, history, candidates[i : i + 1]) for i in range(100)])
    assert np.array_equal(bits(whole), bits(alone))
