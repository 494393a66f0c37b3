"""What a request reads of counter records: every count, first and last time of some keys, computed in one pass.

The answers of a layout are a matrix with a row for each of: total of each event type, dated total of each, count in the
window of each ring, first and last time of each event type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.arrays import NO_TIME, Bool, CsrLists, Int32, Int64
from features.definitions.aggregates import CELLS_PER_WINDOW, DATED_CLICK, Aggregate, Count, First, cell_width
from features.kernels.compiled import compiled
from features.online.counter_deltas import DeltaArrays
from features.online.counter_records import FIELDS, NEVER_FIRST, CounterLayout


@dataclass(frozen=True)
class CounterAnswers:
    """How the answers of a layout are computed. counted: (n_types, n_layout_types) which of the layout's event types
    each event type counts as. timed: (n_types,) of which the time is known."""

    layout: CounterLayout
    counted: Bool
    timed: Bool

    @cached_property
    def _widths(self) -> Int64:
        """Microseconds of a cell of each ring."""
        return np.array([cell_width(window) for _, window in self.layout.rings], np.int64)

    @cached_property
    def _ring_types(self) -> Int64:
        return np.array([index for index, _ in self.layout.rings], np.int64)

    def row(self, read: Aggregate) -> int:
        """Which row of the answers a read has."""
        layout = self.layout
        index, n_types = layout.index(read.event_type), len(layout.event_types)
        if isinstance(read, Count):
            if read.window is None:
                return index + n_types if read.event_type == DATED_CLICK else index
            return 2 * n_types + layout.ring(read.event_type, read.window)
        return 2 * n_types + len(layout.rings) + index + (0 if isinstance(read, First) else n_types)

    def of_keys(self, values: Sequence[bytes | None], deltas: DeltaArrays, as_of: int) -> Int64:
        """The answers of n keys as of a time after every event in them, (n_answers, n). values: their records. deltas:
        not in the records yet, by position of the key."""
        layout = self.layout
        n_types, n_rings = len(layout.event_types), len(layout.rings)
        answers = np.empty((4 * n_types + n_rings, len(values)), np.int64)
        if not n_types:
            return answers
        records = layout.read(values)
        total, timed, first, last, stamp, cells = (np.ascontiguousarray(records[name]) for name in FIELDS)
        first_buckets = as_of // self._widths - CELLS_PER_WINDOW
        _fill_answers((total, timed, first, last), stamp, cells, first_buckets, answers)
        _add_deltas(
            (deltas.row, deltas.event_type, deltas.time, deltas.count),
            self.counted,
            self.timed,
            self._ring_types,
            first_buckets * self._widths,
            answers,
        )
        return answers

    def of_values(self, answers: Int64, values: CsrLists) -> Int64:
        """The answers of n candidates from those of category values, (n_answers, n): over each candidate's values sums
        of counts, the earliest first time and the latest last one."""
        combined = np.empty((len(answers), len(values)), np.int64)
        n_types = len(self.layout.event_types)
        _combine(answers, values.offsets, values.codes, n_types, (NEVER_FIRST, NO_TIME), combined)
        return combined


@compiled
def _fill_answers(
    times_and_totals: tuple[Int64, Int64, Int64, Int64],
    stamps: Int64,
    cells: Int32,
    first_buckets: Int64,
    answers: Int64,
) -> None:
    """`CounterAnswers.of_keys` without deltas. Arrays as in a record, (n, …). first_buckets: of each ring's window."""
    total, timed, first, last = times_and_totals
    n, n_types = total.shape
    n_rings, n_cells = stamps.shape[1], cells.shape[2]
    for key in range(n):
        for index in range(n_types):
            answers[index, key] = total[key, index]
            answers[n_types + index, key] = timed[key, index]
            answers[2 * n_types + n_rings + index, key] = first[key, index]
            answers[3 * n_types + n_rings + index, key] = last[key, index]
        for ring in range(n_rings):
            stamp, count = stamps[key, ring], 0
            youngest, newest = stamp - first_buckets[ring], stamp % n_cells
            if youngest >= 0:
                for cell in range(n_cells):
                    if (newest - cell) % n_cells <= youngest:
                        count += cells[key, ring, cell]
            answers[2 * n_types + ring, key] = count


@compiled
def _add_deltas(
    deltas: tuple[Int64, Int64, Int64, Int64],
    counted: Bool,
    timed: Bool,
    ring_types: Int64,
    edges: Int64,
    answers: Int64,
) -> None:
    """Add what is not in the records yet. deltas: key, event type, time and count of each. edges: first microsecond of
    each ring's window."""
    n_types, n_rings = counted.shape[1], len(ring_types)
    for delta in range(len(deltas[0])):
        key, event_type, time, count = deltas[0][delta], deltas[1][delta], deltas[2][delta], deltas[3][delta]
        for index in range(n_types):
            if not counted[event_type, index]:
                continue
            answers[index, key] += count
            if not timed[event_type]:
                continue
            answers[n_types + index, key] += count
            for ring in range(n_rings):
                if ring_types[ring] == index and time >= edges[ring]:
                    answers[2 * n_types + ring, key] += count
            if count > 0:
                first, last = 2 * n_types + n_rings + index, 3 * n_types + n_rings + index
                answers[first, key] = min(answers[first, key], time)
                answers[last, key] = max(answers[last, key], time)


@compiled
def _combine(
    answers: Int64, offsets: Int64, codes: Int32, n_types: int, never: tuple[int, int], combined: Int64
) -> None:
    """`CounterAnswers.of_values`. never: the first and the last time of a candidate without values."""
    n_counts = len(answers) - 2 * n_types
    for answer in range(len(answers)):
        for row in range(len(offsets) - 1):
            value = 0 if answer < n_counts else never[0] if answer < n_counts + n_types else never[1]
            for entry in range(offsets[row], offsets[row + 1]):
                of_value = answers[answer, codes[entry]]
                if answer < n_counts:
                    value += of_value
                elif answer < n_counts + n_types:
                    value = min(value, of_value)
                else:
                    value = max(value, of_value)
            combined[answer, row] = value
