"""The arithmetic of measures over counts and times: both readers' integers go through the same compiled loops.

A measure says what it is as a `Formula`; the formulas of a whole catalogue are computed in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.arrays import NO_TIME, Float32, Float64, Int32, Int64
from features.compiled import compiled
from features.definitions.aggregates import Aggregate, FeatureReader, category_of

COUNT, RATE, SHARE, LIFT, SINCE, INTERVAL, ELAPSED_INTERVALS = range(7)
_MOST_READS = 4


@dataclass(frozen=True)
class Formula:
    """What a measure computes from some aggregates.

    COUNT: events. RATE: (clicks + w * prior) / (impressions + w), where prior is all clicks / all impressions; NaN
    where there are none of these. SHARE: events in the category / all of the user's. LIFT: ((in the category + w *
    overall) / (all of the user's + w)) / overall, where overall is all users' events in the category / all events; NaN
    where it is 0 or missing. SINCE: the request's time less the time read, in units of w microseconds; NaN where there
    is none. INTERVAL: the mean time between events, (last - first) / (events - 1) in units of w microseconds; NaN for
    fewer than two. ELAPSED_INTERVALS: the time since the last event over that mean; NaN for fewer than two, or where
    all are at one time.

    reads: in that order; of the last two kinds events, their first and their last time. number: w. Counts by category
    are means over the candidate's values in COUNT, SHARE and LIFT, NaN for none, and sums in the others.
    """

    kind: int
    reads: tuple[Aggregate, ...]
    number: float = 0.0


class Formulas:
    """Some formulas, computed together. reads: the distinct aggregates of all."""

    def __init__(self, formulas: Sequence[Formula]) -> None:
        self.reads = tuple(dict.fromkeys(read for formula in formulas for read in formula.reads))
        self._columns = tuple(dict.fromkeys(filter(None, (category_of(read.key) for read in self.reads))))
        position = {read: index for index, read in enumerate(self.reads)}
        self._kinds = np.array([formula.kind for formula in formulas], np.int64)
        self._numbers = np.array([formula.number for formula in formulas], np.float64)
        self._operands = np.zeros((len(formulas), _MOST_READS), np.int64)
        self._divisors = np.full((len(formulas), _MOST_READS), -1, np.int64)
        for index, formula in enumerate(formulas):
            for place, read in enumerate(formula.reads):
                self._operands[index, place] = position[read]
                column = category_of(read.key)
                if column is not None and formula.kind in (COUNT, SHARE, LIFT):
                    self._divisors[index, place] = self._columns.index(column)

    def __len__(self) -> int:
        return len(self._kinds)

    @cached_property
    def empty(self) -> Float64:
        """In place of the numbers of values where no count is by category, (0, 0)."""
        return np.empty((0, 0))

    def fill(self, reader: FeatureReader, row_time: Int64, rows: slice, columns: Float32 | Float64) -> None:
        """Compute some candidate rows of a reader into `columns`, (n_formulas, n). row_time: of all its rows."""
        n_values = self.empty
        if self._columns:
            n_values = np.stack([reader.n_values(column)[rows] for column in self._columns])
        operands = self._kinds, self._operands, self._divisors, self._numbers
        _fill(operands, reader.answers(self.reads, rows), n_values, row_time[rows], NO_TIME, columns)


def elapsed(now: Int64, since: Int64, unit: float) -> Float64:
    """Time from `since` to `now`, both in microseconds, (n,), in a unit of so many; NaN where `since` is NO_TIME."""
    passed = np.full(len(since), np.nan)
    _fill_elapsed(now, since, NO_TIME, unit, passed)
    return passed


@compiled
def ratio(numerator: Float64 | Int64, denominator: Float64 | Int64) -> Float64:
    """Quotient, (n,), NaN where the denominator is 0 or either is NaN."""
    quotient = np.full(len(numerator), np.nan)
    for row in range(len(numerator)):
        if denominator[row] != 0:
            quotient[row] = numerator[row] / denominator[row]
    return quotient


@compiled
def _fill_elapsed(now: Int64, since: Int64, never: int, unit: float, passed: Float32 | Float64) -> None:
    for row in range(len(since)):
        if since[row] != never:
            passed[row] = np.float64(now[row] - since[row]) / unit


@compiled
def _fill_intervals(
    now: Int64,
    of_events: tuple[Int64, Int64, Int64],
    never: int,
    unit: float,
    elapsed_ones: bool,
    column: Float32 | Float64,
) -> None:
    """INTERVAL of each row, or ELAPSED_INTERVALS. of_events: how many there are, their first and their last time."""
    events, first, last = of_events
    for row in range(len(now)):
        column[row] = np.nan
        if events[row] < 2 or last[row] == never:
            continue
        interval = np.float64(last[row] - first[row]) / (events[row] - 1)
        if not elapsed_ones:
            column[row] = interval / unit
        elif interval > 0.0:
            column[row] = np.float64(now[row] - last[row]) / interval


@compiled
def _fill(
    formulas: tuple[Int64, Int64, Int64, Float64],
    answers: Int64,
    n_values: Float64,
    now: Int64,
    never: int,
    columns: Float32 | Float64,
) -> None:
    """`Formulas.fill`. formulas: kind, reads, divisors and number of each. answers: (n_reads, n_rows). n_values: of
    each categorical column, (n_columns, n_rows). now: (n_rows,)."""
    kinds, operands, divisors, numbers = formulas
    values = np.empty((operands.shape[1], len(now)))
    for index in range(len(kinds)):
        kind, number, column = kinds[index], numbers[index], columns[index]
        if kind == SINCE:
            column[:] = np.nan
            _fill_elapsed(now, answers[operands[index, 0]], never, number, column)
            continue
        if kind >= INTERVAL:
            reads = operands[index]
            of_events = answers[reads[0]], answers[reads[1]], answers[reads[2]]
            _fill_intervals(now, of_events, never, number, kind == ELAPSED_INTERVALS, column)
            continue
        for place in range(4 if kind in (RATE, LIFT) else 2 if kind == SHARE else 1):
            read, divisor = answers[operands[index, place]], divisors[index, place]
            for row in range(len(now)):
                values[place, row] = read[row]
                if divisor >= 0:
                    values[place, row] = values[place, row] / n_values[divisor, row]
        for row in range(len(now)):
            first, second, all_first, all_second = values[0, row], values[1, row], values[2, row], values[3, row]
            value = first
            if kind == SHARE:
                value = first / second
            elif kind == RATE:
                value = (first + number * (all_first / all_second)) / (second + number)
            elif kind == LIFT:
                overall = all_first / all_second
                value = ((first + number * overall) / (second + number)) / overall
            column[row] = value if np.isfinite(value) else np.nan


@compiled
def smallest_of_values(offsets: Int64, codes: Int32, item: Int32, of_value: Float64) -> Float64:
    """The smallest number among the category values of each candidate's item, (n,), NaN where it has none or all are
    infinite. offsets, codes: the values of each item, -1 being the last one. of_value: the number of each value."""
    smallest = np.full(len(item), np.nan)
    n_items = len(offsets) - 1
    for row in range(len(item)):
        code = item[row] % n_items
        least = np.inf
        for entry in range(offsets[code], offsets[code + 1]):
            least = min(least, of_value[codes[entry]])
        if least < np.inf:
            smallest[row] = least
    return smallest
