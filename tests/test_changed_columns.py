"""What the audit says of columns that differ between two computations of the same rows."""

from __future__ import annotations

import numpy as np

from recsys.audit.changed_columns import changes
from recsys.audit.finding import Row


def column(*values: float) -> np.ndarray:
    return np.array([values], np.float32).T


def test_equal_columns_have_no_change_and_nan_equals_nan() -> None:
    assert changes(column(1.0, np.nan), column(1.0, np.nan)) == []


def test_a_change_names_the_row_that_differs_most() -> None:
    (change,) = changes(column(1.0, 2.0, 3.0), column(1.5, 5.0, 3.0))
    assert (change.column, change.rows, change.row) == (0, 2, 1)
    assert (change.before, change.after, change.largest) == (2.0, 5.0, 3.0)
    assert not change.like_rounding


def test_a_value_that_appears_is_the_largest_difference() -> None:
    (change,) = changes(column(1.0, np.nan), column(9.0, 4.0))
    assert (change.row, change.largest, change.like_rounding) == (1, np.inf, False)


def test_a_difference_in_the_last_bits_of_every_row_is_called_rounding() -> None:
    values = np.array([[11.6313, -0.25]], np.float32).T
    (change,) = changes(values, np.nextafter(values, np.float32(100)))
    assert change.rows == 2
    assert change.like_rounding
    (one_large,) = changes(values, values + np.array([[1e-6, 0.1]], np.float32).T)
    assert not one_large.like_rounding


def test_a_row_prints_values_that_differ_in_the_last_bit_differently() -> None:
    value = np.float32(11.6313)
    row = Row("i1", 0, before=float(value), after=float(np.nextafter(value, np.float32(12))))
    assert str(row).endswith("Z: 11.6313 became 11.6313009")
