"""Metrics by hand, against scikit-learn, and against all orders of tied candidates."""

from itertools import pairwise, permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from features.log import both_labels
from recsys.metrics.ranking import METRICS, list_metrics

NAN = float("nan")


def metrics_of(scores: list[float], label: list[int]) -> dict[str, float]:
    found = list_metrics(np.array(scores), np.array(label, np.int8), np.array([0, len(label)]))
    return {name: float(getattr(found, name)[0]) for name in METRICS}


def over_all_orders(scores: list[float], label: list[int]) -> dict[str, float]:
    """The definitions, averaged over every order of the candidates that the scores allow."""
    best = sorted((2**value - 1 for value in label), reverse=True)
    found = []
    for order in permutations(range(len(label))):
        if any(scores[a] < scores[b] for a, b in pairwise(order)):
            continue
        ranked = [label[i] for i in order]
        right = sum(a > 0 and b == 0 for i, a in enumerate(ranked) for b in ranked[i + 1 :])
        n = sum(value > 0 for value in label)
        row = [right / (n * (len(label) - n)), 1 / (1 + next(i for i, value in enumerate(ranked) if value > 0))]
        for depth in (5, 10):
            gained = sum((2**value - 1) / log2(i + 2) for i, value in enumerate(ranked[:depth]))
            row.append(gained / sum(gain / log2(i + 2) for i, gain in enumerate(best[:depth])))
        found.append(row)
    return dict(zip(METRICS, np.mean(found, axis=0), strict=True))


def test_a_list_worked_out_by_hand() -> None:
    # ranked: unclicked, grade 1, unclicked, grade 2
    found = metrics_of([0.9, 0.1, 0.5, 0.3], [0, 2, 1, 0])
    assert found["auc"] == 1 / 4
    assert found["mrr"] == 1 / 2
    assert found["ndcg_at_5"] == pytest.approx((1 / log2(3) + 3 / log2(5)) / (3 + 1 / log2(3)))
    assert found["ndcg_at_10"] == found["ndcg_at_5"]


def test_a_click_below_the_depth_gains_nothing() -> None:
    scores = [float(-i) for i in range(12)]
    found = metrics_of(scores, [0] * 7 + [1] + [0] * 4)
    assert found["ndcg_at_5"] == 0
    assert found["ndcg_at_10"] == pytest.approx(1 / log2(9))
    assert found["mrr"] == 1 / 8
    assert metrics_of(scores, [0] * 11 + [1])["ndcg_at_10"] == 0


def test_equal_scores_count_as_a_random_order() -> None:
    found = metrics_of([1.0, 1.0, 1.0, 1.0], [0, 1, 0, 0])
    assert found["auc"] == 0.5
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found["ndcg_at_5"] == pytest.approx(sum(1 / log2(rank + 1) for rank in range(1, 5)) / 4)


def test_a_tie_across_the_depth_keeps_only_its_share_above() -> None:
    # ranks 5 and 6 tie: half of the time the click is fifth
    assert metrics_of([9, 8, 7, 6, 1, 1], [0, 0, 0, 0, 0, 1])["ndcg_at_5"] == pytest.approx(0.5 / log2(6))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=6))
@settings(deadline=None)
def test_metrics_are_the_mean_over_all_orders_of_ties(rows: list[tuple[int, int]]) -> None:
    scores, label = [float(row[0]) for row in rows], [row[1] for row in rows]
    found = metrics_of(scores, label)
    if 0 < sum(value > 0 for value in label) < len(label):
        assert found == pytest.approx(over_all_orders(scores, label), abs=1e-12)
    else:
        assert all(np.isnan(value) for value in found.values())


lists = st.lists(
    st.lists(st.tuples(st.sampled_from([-1.5, 0.0, 0.25, 0.3, 2.0]), st.integers(0, 3)), max_size=25), max_size=8
)


@given(lists, st.sampled_from([np.float32, np.float64]))
@settings(deadline=None)
def test_auc_and_ndcg_equal_scikit_learn_on_ragged_lists(
    drawn: list[list[tuple[float, int]]], dtype: type[np.floating]
) -> None:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in drawn])]).astype(np.int64)
    scores = np.array([score for one in drawn for score, _ in one], dtype)
    label = np.array([grade for one in drawn for _, grade in one], np.int8)
    found = list_metrics(scores, label, offsets)
    both = both_labels(label, offsets)
    for i, one in enumerate(drawn):
        values = np.array([value[0] for value in one], dtype), np.array([value[1] for value in one])
        if not both[i]:
            assert np.isnan(found.columns()[i]).all()
            continue
        gain = (2.0 ** values[1] - 1)[None]
        assert found.auc[i] == pytest.approx(roc_auc_score(values[1] > 0, values[0]), abs=1e-12)
        assert found.ndcg_at_5[i] == pytest.approx(ndcg_score(gain, values[0][None], k=5), abs=1e-12)
        assert found.ndcg_at_10[i] == pytest.approx(ndcg_score(gain, values[0][None], k=10), abs=1e-12)


def test_a_candidate_without_a_score_takes_the_mean_of_its_list() -> None:
    label = [0, 1, 0, 0, 1]
    assert metrics_of([4.0, NAN, 1.0, 1.0, NAN], label) == metrics_of([4.0, 2.0, 1.0, 1.0, 2.0], label)
    # the mean of three times 0.1 is not 0.1 in floating point, yet it must tie with them
    assert metrics_of([0.1, 0.1, 0.1, NAN], [0, 0, 0, 1])["auc"] == 0.5


def test_a_list_without_any_score_is_one_tie() -> None:
    assert metrics_of([NAN, NAN, NAN], [0, 1, 0]) == metrics_of([1.0, 1.0, 1.0], [0, 1, 0])


def test_infinite_scores_rank_first_and_last_and_leave_the_mean_alone() -> None:
    scores = [np.inf, 3.0, NAN, 1.0, -np.inf]
    assert metrics_of(scores, [0, 0, 1, 0, 0]) == metrics_of([5.0, 3.0, 2.0, 1.0, 0.0], [0, 0, 1, 0, 0])


def test_a_missing_score_in_one_list_changes_no_other() -> None:
    offsets = np.array([0, 3, 6])
    label = np.array([0, 1, 0, 1, 0, 0])
    found = list_metrics(np.array([1.0, 2.0, 3.0, NAN, 5.0, 1.0]), label, offsets)
    assert found.auc[0] == 0.5
    assert found.auc[1] == 0.5


def test_lists_without_both_labels_have_no_metrics_and_stay_out_of_the_means() -> None:
    label = np.array([0, 0, 1, 1, 0, 1])
    offsets = np.array([0, 2, 4, 4, 6])
    found = list_metrics(np.arange(6.0), label, offsets)
    assert list(both_labels(label, offsets)) == [False, False, False, True]
    assert np.isnan(found.mrr[:3]).all()
    assert list(np.nanmean(found.columns(), axis=0)) == [1.0] * len(METRICS)
    assert np.isnan(found.columns()[[0, 2]]).all()


@given(st.integers(0, 2**32 - 1))
def test_shuffling_the_candidates_of_a_list_changes_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, label = random.integers(0, 5, 12).astype(np.float32), random.integers(0, 3, 12)
    order = random.permutation(12)
    offsets = np.array([0, 12])
    before, after = list_metrics(scores, label, offsets), list_metrics(scores[order], label[order], offsets)
    np.testing.assert_allclose(before.columns(), after.columns(), atol=1e-14)


def test_lists_that_fill_several_blocks_equal_lists_alone() -> None:
    random = np.random.default_rng(0)
    n, length = 3000, 200
    scores = random.integers(0, 40, n * length).astype(np.float32)
    label = (random.random(n * length) < 0.02).astype(np.int8)
    found = list_metrics(scores, label, np.arange(n + 1) * length).columns()
    for i in (0, 1311, 2999):
        rows = slice(i * length, (i + 1) * length)
        alone = list_metrics(scores[rows], label[rows], np.array([0, length])).columns()
        np.testing.assert_allclose(found[i], alone[0], atol=1e-14)


def test_no_lists_give_no_metrics() -> None:
    assert len(list_metrics(np.zeros(0), np.zeros(0, np.int8), np.array([0]))) == 0


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores: expected shape \(2,\), the last offset, got \(3,\)"):
        list_metrics(np.zeros(3), np.zeros(2, np.int8), np.array([0, 2]))
    with pytest.raises(ValueError, match="label: expected relevance from 0 upward, got -1"):
        list_metrics(np.zeros(2), np.array([0, -1]), np.array([0, 2]))
    with pytest.raises(ValueError, match="offsets: expected"):
        list_metrics(np.zeros(2), np.array([0, 1]), np.array([1, 2]))
