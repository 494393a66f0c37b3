"""AUC of many columns at once against the metric of one, and its treatment of missing values."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.audit.auc import list_aucs, log_p_bound
from recsys.metrics.ranking import list_metrics


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(0, 10_000))
def test_it_is_the_metric_of_each_column(lengths: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    matrix = generator.integers(0, 4, (offsets[-1], 3)).astype(np.float32)
    label = generator.integers(0, 3, offsets[-1])
    expected = np.column_stack([list_metrics(matrix[:, i], label, offsets).auc for i in range(3)])
    np.testing.assert_allclose(list_aucs(matrix, label, offsets).auc, expected, atol=1e-5)


def test_a_pair_with_a_missing_value_counts_half() -> None:
    matrix = np.array([[1.0], [np.nan], [0.0]], np.float32)
    assert list_aucs(matrix, np.array([1, 0, 0]), np.array([0, 3])).auc.tolist() == [[0.75]]
    assert list_aucs(matrix, np.array([0, 1, 0]), np.array([0, 3])).auc.tolist() == [[0.5]]


@pytest.mark.parametrize("n_clicked", [1, 2, 3])
def test_the_variance_is_that_over_all_ways_to_put_the_clicks(n_clicked: int) -> None:
    values = np.array([[5.0], [np.nan], [2.0], [2.0], [1.0], [7.0]], np.float32)
    offsets = np.array([0, 6])
    aucs, variances = [], []
    for clicked in itertools.combinations(range(6), n_clicked):
        found = list_aucs(values, np.isin(np.arange(6), clicked).astype(int), offsets)
        aucs.append(found.auc[0, 0])
        variances.append(found.variance[0, 0])
    assert np.mean(aucs) == pytest.approx(0.5)
    assert variances == pytest.approx([np.var(aucs)] * len(variances), rel=1e-6)


def test_chance_is_bounded_for_columns_that_hardly_ever_differ() -> None:
    generator = np.random.default_rng(0)
    offsets = np.arange(0, 60 * 20 + 1, 20)
    rare = (generator.random((1200, 400)) < 0.01).astype(np.float32)
    label = (np.arange(1200) % 20 == 0).astype(int)
    chance = np.exp(log_p_bound(list_aucs(rare, label, offsets)))
    assert (chance < 0.05).mean() <= 0.05
    leaking = np.column_stack([label, generator.random(1200)]).astype(np.float32)
    assert (log_p_bound(list_aucs(leaking, label, offsets)) < np.log(1e-6)).tolist() == [True, False]
