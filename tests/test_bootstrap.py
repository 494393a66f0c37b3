"""Bootstrap intervals: what is resampled, what is left out, and how often the truth is inside."""

import numpy as np
import pytest

from recsys.metrics.bootstrap import Interval, count_clusters, mean_interval, mean_intervals
from recsys.metrics.jsonable import jsonable

NAN = float("nan")


def test_the_interval_holds_the_mean_and_has_the_width_of_a_normal_one() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    found = mean_interval(values, np.arange(2000), resamples=2000, seed=0)
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_two_users_give_the_three_means_that_can_be_drawn() -> None:
    # user 0 has one list of 0, user 1 three of 1: drawn means are 0, 3/4 and 1
    found = mean_interval(np.array([0.0, 1.0, 1.0, 1.0]), np.array([0, 1, 1, 1]), resamples=500, seed=0)
    assert found == Interval(0.75, 0.0, 1.0)


def test_repeated_lists_of_a_user_widen_the_interval() -> None:
    user_mean = np.random.default_rng(2).normal(size=100)
    values, users = np.repeat(user_mean, 16), np.repeat(np.arange(100), 16)
    by_user = mean_interval(values, users, resamples=1000, seed=0)
    by_list = mean_interval(values, np.arange(1600), resamples=1000, seed=0)
    assert (by_user.high - by_user.low) / (by_list.high - by_list.low) == pytest.approx(4.0, rel=0.15)


def test_every_null_user_is_a_cluster_of_its_own() -> None:
    values = np.random.default_rng(3).random(50)
    unknown = mean_interval(values, np.full(50, -1), resamples=300, seed=4)
    assert unknown == mean_interval(values, np.arange(50), resamples=300, seed=4)
    mixed = mean_interval(values, np.r_[[7, 7], np.full(48, -1)], resamples=300, seed=4)
    assert mixed == mean_interval(values, np.r_[[0, 0], np.arange(1, 49)], resamples=300, seed=4)
    assert count_clusters(np.array([-1, 3, 3, -1, 5])) == 4


def test_a_paired_difference_is_narrower_than_either_method() -> None:
    random = np.random.default_rng(5)
    difficulty = random.normal(size=400)
    base, better = difficulty + random.normal(0, 0.1, 400), difficulty + 0.05 + random.normal(0, 0.1, 400)
    columns = np.column_stack([base, better, better - base])
    first, second, difference = mean_intervals(columns, np.arange(400), resamples=1000, seed=0)
    assert difference.mean == pytest.approx(second.mean - first.mean)
    assert difference.low > 0
    assert first.high > second.low


def test_columns_of_one_call_share_their_resamples() -> None:
    values = np.random.default_rng(6).random((80, 1))
    users = np.repeat(np.arange(20), 4)
    one, two, shifted = mean_intervals(np.hstack([values, values, values + 1]), users, resamples=200, seed=0)
    assert (one.mean, one.low, one.high) == pytest.approx((two.mean, two.low, two.high), abs=1e-12)
    assert shifted.low == pytest.approx(one.low + 1, abs=1e-12)


def test_missing_values_are_left_out() -> None:
    values = np.array([1.0, NAN, 3.0, NAN, 2.0])
    found = mean_interval(values, np.array([0, 0, 1, 2, 3]), resamples=300, seed=0)
    assert found == mean_interval(np.array([1.0, 3.0, 2.0]), np.array([0, 1, 2]), resamples=300, seed=0)
    assert found.mean == 2.0


def test_columns_with_different_gaps_keep_their_own_means() -> None:
    values = np.array([[1.0, NAN], [3.0, 5.0], [NAN, 7.0]])
    one, two = mean_intervals(values, np.arange(3), resamples=200, seed=0)
    assert (one.mean, one.low, one.high) == (2.0, 1.0, 3.0)
    assert (two.mean, two.low, two.high) == (6.0, 5.0, 7.0)


def test_one_user_alone_has_a_mean_and_no_interval() -> None:
    found = mean_interval(np.array([1.0, 2.0]), np.array([3, 3]), resamples=100, seed=0)
    assert jsonable(found) == {"mean": 1.5, "low": None, "high": None}


def test_no_values_have_neither_mean_nor_interval() -> None:
    for values, users in ((np.zeros(0), np.zeros(0, int)), (np.array([NAN, NAN]), np.array([0, 1]))):
        found = mean_interval(values, users, resamples=100, seed=0)
        assert jsonable(found) == {"mean": None, "low": None, "high": None}


def test_the_seed_decides_the_interval() -> None:
    values, users = np.random.default_rng(7).random(300), np.arange(300)
    found = [mean_interval(values, users, resamples=200, seed=seed) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_resamples_in_several_chunks_equal_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    values, users = np.random.default_rng(8).random((500, 2)), np.arange(500)
    whole = mean_intervals(values, users, resamples=300, seed=0)
    monkeypatch.setattr("recsys.metrics.bootstrap._CHUNK_CELLS", 500 * 7)
    for chunked, expected in zip(mean_intervals(values, users, resamples=300, seed=0), whole, strict=True):
        assert (chunked.low, chunked.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # 200 users of 1 to 9 lists, whose own level varies as much as their lists do; the true mean is 0
    random = np.random.default_rng(9)
    covered = 0
    for repetition in range(150):
        users = np.repeat(np.arange(200), random.integers(1, 10, 200))
        values = random.normal(size=200)[users] + random.normal(size=len(users))
        found = mean_interval(values, users, resamples=300, seed=repetition)
        covered += found.low <= 0 <= found.high
    assert 0.90 <= covered / 150 <= 0.99


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected values \(n, k\) and cluster \(n,\), got \(3, 1\) and \(2,\)"):
        mean_interval(np.zeros(3), np.zeros(2, int), resamples=100, seed=0)
