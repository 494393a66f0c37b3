"""Portable arithmetic: close to the true value, and what makes its bits the same everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from features.exact import GRID_STEP, exp, log, tanh, to_grid

pytestmark = pytest.mark.kernels

ANY_FLOAT32 = st.floats(-1000, 1000, width=32)


@given(npst.arrays(np.float32, npst.array_shapes(max_dims=2, max_side=8), elements=ANY_FLOAT32))
def test_the_grid_is_the_nearest_multiple_of_its_step(values: np.ndarray) -> None:
    found = to_grid(values)
    steps = found.astype(np.float64) / GRID_STEP
    assert found.dtype == np.float32
    assert found.shape == values.shape
    assert np.array_equal(steps, np.rint(steps))
    assert np.abs(found.astype(np.float64) - values).max(initial=0.0) <= GRID_STEP / 2
    assert np.array_equal(to_grid(found), found)


def test_the_grid_keeps_what_is_missing() -> None:
    assert np.isnan(to_grid(np.array([np.nan, 1.0], np.float32))).tolist() == [True, False]


@given(st.floats(-700, 700))
def test_exp_is_close_to_the_true_value(x: float) -> None:
    assert float(exp(x)) == pytest.approx(math.exp(x), rel=1e-12)


@given(st.floats(-1000, 1000))
def test_tanh_is_close_to_the_true_value(x: float) -> None:
    assert float(tanh(x)) == pytest.approx(math.tanh(x), rel=1e-12, abs=1e-12)


@given(st.floats(1e-300, 1e300))
def test_log_is_close_to_the_true_value(x: float) -> None:
    assert float(log(x)) == pytest.approx(math.log(x), rel=1e-12)


def test_values_that_have_an_exact_answer_get_it() -> None:
    assert exp([0.0, -np.inf, -709.0, 709.0]).tolist() == [1.0, 0.0, 0.0, pytest.approx(math.exp(709.0), rel=1e-12)]
    assert exp(np.inf) == exp(709.0)
    assert np.isnan(exp(np.nan))
    assert tanh([0.0, np.inf, -np.inf]).tolist() == pytest.approx([0.0, 1.0, -1.0], abs=1e-15)
    assert log([1.0, 2.0, 0.5]).tolist() == [0.0, math.log(2.0), -math.log(2.0)]


def test_each_value_is_computed_alone() -> None:
    values = np.random.default_rng(0).uniform(-20, 20, 1001)
    for function in (exp, tanh):
        assert function(values).tolist() == [float(function(value)) for value in values]
    positive = np.abs(values)
    assert log(positive).tolist() == [float(log(value)) for value in positive]
