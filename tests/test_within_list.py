"""Percentile and z-score among the candidates of a request."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import percentileofscore

from features.arrays import Float32, Int64
from features.matrix.within_list import percentile_and_zscore

pytestmark = pytest.mark.kernels

numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from((0.0, -0.0, 1.0, 2.0, float("nan")))
segments = st.lists(st.lists(numbers, max_size=40), max_size=6)


def flat(rows: list[list[float]]) -> tuple[Float32, Int64]:
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    return np.array([value for row in rows for value in row], np.float32), offsets


def place(rows: list[list[float]]) -> tuple[Float32, Float32]:
    column, offsets = flat(rows)
    percentile, z_score = percentile_and_zscore(column[None], offsets)
    return percentile[0], z_score[0]


def test_ties_share_the_middle_percentile() -> None:
    percentile, z_score = place([[3.0, 1.0, 3.0, 5.0]])
    # 1 is below the two threes: (1 + 3) / 2 / 4; mean 3, standard deviation sqrt(8 / 4)
    assert percentile.tolist() == [0.5, 0.125, 0.5, 0.875]
    assert z_score.tolist() == [0.0, np.float32(-(2**0.5)), 0.0, np.float32(2**0.5)]


def test_a_list_of_one_and_a_constant_list_stand_in_the_middle() -> None:
    percentile, z_score = place([[7.5], [0.1, 0.1, 0.1], []])
    assert percentile.tolist() == [0.5] * 4
    assert z_score.tolist() == [0.0] * 4


def test_a_missing_value_has_no_place_and_takes_nobodys() -> None:
    percentile, z_score = place([[np.nan, 1.0, 2.0], [np.nan]])
    np.testing.assert_array_equal(percentile, np.float32([np.nan, 0.25, 0.75, np.nan]))
    np.testing.assert_array_equal(z_score, np.float32([np.nan, -1.0, 1.0, np.nan]))


@settings(deadline=None)
@given(segments)
def test_places_equal_scipy_and_plain_means(rows: list[list[float]]) -> None:
    percentile, z_score = place(rows)
    expected: list[float] = []
    standard: list[float] = []
    for row in rows:
        known = np.array([value for value in row if value == value], np.float32).astype(np.float64)
        spread = known.std() if len(known) and known.min() < known.max() else 0.0
        for value in row:
            expected.append(percentileofscore(known, value, kind="mean") / 100 if value == value else np.nan)
            standard.append(((value - known.mean()) / spread if spread else 0.0) if value == value else np.nan)
    np.testing.assert_allclose(percentile, np.float32(expected), rtol=1e-6)
    np.testing.assert_allclose(z_score, np.float32(standard), rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(segments, st.randoms(use_true_random=False))
def test_neither_the_order_of_candidates_nor_other_requests_change_a_bit(
    rows: list[list[float]], random: object
) -> None:
    together = np.array(place(rows))
    alone = [np.array(place([row])) for row in rows]
    assert np.concatenate([np.zeros((2, 0), np.float32), *alone], axis=1).tobytes() == together.tobytes()
    for row, values in zip(rows, alone, strict=True):
        order = list(range(len(row)))
        random.shuffle(order)  # type: ignore[attr-defined]
        shuffled = np.array(place([[row[i] for i in order]]))
        assert shuffled.tobytes() == np.ascontiguousarray(values[:, order]).tobytes()


def test_a_list_of_a_thousand_is_placed_like_one_of_twenty() -> None:
    percentile, _ = place([[float(i) for i in range(1000)], [float(i) for i in range(20)]])
    assert percentile[999] == np.float32(0.9995)
    assert percentile[1019] == np.float32(0.975)
