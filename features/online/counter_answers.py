"""What a request reads of counter records: every count, first and last time of some keys, computed in one pass.

The answers of a layout are a matrix with a row for each of: total of each event type, dated total of each, count in the
window of each ring, first and last time of each event type. Those of all layouts stand one above the other. With a
horizon the totals mean nothing, and no first or last time lies beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.arrays import NO_TIME, Bool, CsrLists, Int32, Int64
from features.clock import CELLS_PER_WINDOW, oldest_read
from features.compiled import compiled
from features.definitions.aggregates import DATED_CLICK, Aggregate, Count, First, Key, within
from features.online.counter_deltas import NO_DELTAS, DeltaArrays
from features.online.counter_records import NEVER_FIRST, RING, CounterLayout


@dataclass(frozen=True)
class CounterAnswers:
    """How the answers of a layout are computed. counted: (n_types, n_layout_types) which of the layout's event types
    each event type counts as. timed: (n_types,) of which the time is known."""

    layout: CounterLayout
    counted: Bool
    timed: Bool

    @cached_property
    def _ring_types(self) -> Int64:
        return np.array([index for index, _ in self.layout.rings], np.int64)

    @cached_property
    def _first_rings(self) -> Int64:
        return np.array(self.layout.first_rings, np.int64)

    @property
    def n_answers(self) -> int:
        """How many rows the answers have."""
        return 4 * len(self.layout.event_types) + len(self.layout.rings)

    def row(self, read: Aggregate) -> int:
        """Which row of the answers a read has."""
        layout = self.layout
        read = within(read, layout.horizon)
        index, n_types = layout.index(read.event_type), len(layout.event_types)
        if isinstance(read, Count):
            if read.window is None:
                return index + n_types if read.event_type == DATED_CLICK else index
            return 2 * n_types + layout.ring(read.event_type, read.window)
        return 2 * n_types + len(layout.rings) + index + (0 if isinstance(read, First) else n_types)

    @cached_property
    def of_no_events(self) -> Int64:
        """The answers of a key without events, (n_answers, 1)."""
        return self.of_keys([None], NO_DELTAS, 0)

    def of_keys(self, values: Sequence[bytes | None], deltas: DeltaArrays, as_of: int) -> Int64:
        """The answers of n keys as of a time after every event in them, (n_answers, n). values: their records. deltas:
        not in the records yet, by position of the key."""
        layout = self.layout
        n_types, n_rings = len(layout.event_types), len(layout.rings)
        answers = np.empty((self.n_answers, len(values)), np.int64)
        if not n_types or not values:
            return answers
        first_buckets = as_of // layout.widths - CELLS_PER_WINDOW
        oldest = oldest_read(as_of, layout.horizon)
        words = np.frombuffer(b"".join([value or layout.empty for value in values]), np.int32)
        _fill_answers(
            words.reshape(len(values), layout.dtype.itemsize // 4),
            (n_types, n_rings, RING),
            first_buckets,
            self._ring_types,
            self._first_rings,
            (oldest, NEVER_FIRST, NO_TIME),
            answers,
        )
        if len(deltas.row):
            _add_deltas(
                (deltas.row, deltas.event_type, deltas.time, deltas.count),
                self.counted,
                self.timed,
                self._ring_types,
                first_buckets * layout.widths,
                oldest,
                answers,
            )
        return answers

    def combine(self, answers: Int64, values: CsrLists, item: Int32, combined: Int64) -> None:
        """Fill the answers of n candidates from those of category values, (n_answers, n): over each candidate's values
        sums of counts, the earliest first time and the latest last one. values: of each item. item: (n,) codes."""
        n_types = len(self.layout.event_types)
        _combine(answers, (values.offsets, values.codes), item, n_types, (NEVER_FIRST, NO_TIME), combined)


class AnswerRows:
    """Where the answers of each key stand in one matrix. n_rows: of the matrix."""

    def __init__(self, answers: Mapping[Key, CounterAnswers]) -> None:
        ends = np.cumsum([of_key.n_answers for of_key in answers.values()]).tolist()
        self.n_rows = ends[-1]
        self._answers = answers
        self._starts = dict(zip(answers, [0, *ends[:-1]], strict=True))
        self._last: tuple[Sequence[Aggregate], Int64, Bool] = ((), np.empty(0, np.int64), np.empty(0, np.bool_))

    def of(self, key: Key) -> slice:
        """The rows of a key."""
        start = self._starts[key]
        return slice(start, start + self._answers[key].n_answers)

    def take(self, answers: Int64, reads: Sequence[Aggregate]) -> Int64:
        """The answers of some reads, (n_reads, n); NO_TIME for no event. Where the same tuple of reads comes again, its
        rows are known."""
        known, rows, is_first = self._last
        if known is not reads:
            rows = np.array([self._starts[read.key] + self._answers[read.key].row(read) for read in reads], np.int64)
            is_first = np.array([isinstance(read, First) for read in reads], np.bool_)
            self._last = reads, rows, is_first
        taken = np.empty((len(reads), answers.shape[1]), np.int64)
        _take(answers, rows, is_first, (NEVER_FIRST, NO_TIME), taken)
        return taken


@compiled
def _take(answers: Int64, rows: Int64, is_first: Bool, never: tuple[int, int], taken: Int64) -> None:
    """`AnswerRows.take`. never: the first time of a record without events, and what stands for it."""
    for read in range(len(rows)):
        for column in range(answers.shape[1]):
            answer = answers[rows[read], column]
            taken[read, column] = never[1] if is_first[read] and answer == never[0] else answer


@compiled
def _long(record: Int32, place: int) -> int:
    """The 64-bit integer at a place of 32-bit words, of which the lower one comes first."""
    return (np.int64(record[place + 1]) << 32) | np.int64(np.uint32(record[place]))  # type: ignore[return-value]


@compiled
def _fill_answers(
    words: Int32,
    sizes: tuple[int, int, int],
    first_buckets: Int64,
    ring_types: Int64,
    first_rings: Int64,
    limits: tuple[int, int, int],
    answers: Int64,
) -> None:
    """`CounterAnswers.of_keys` without deltas. words: (n, n_words) the records, in the order of their dtype, as 32-bit
    words. sizes: types, rings and cells of a ring. first_buckets: of each ring's window. limits: the earliest time that
    is read, and the first and the last time where there is none."""
    n_types, n_rings, n_cells = sizes
    oldest, never_first, never_last = limits
    stamps, cells = 8 * n_types, 8 * n_types + 2 * n_rings
    firsts = cells + n_cells * n_rings
    for key in range(len(words)):
        record = words[key]
        for index in range(4 * n_types):
            answer = index if index < 2 * n_types else index + n_rings
            answers[answer, key] = _long(record, 2 * index)
        for last in range(3 * n_types + n_rings, 4 * n_types + n_rings):
            if answers[last, key] < oldest:
                answers[last, key] = never_last
        for ring in range(n_rings):
            place, first = stamps + 2 * ring, cells + n_cells * ring
            stamp = _long(record, place)
            count = np.int64(0)
            youngest, newest = stamp - first_buckets[ring], stamp % n_cells
            if youngest >= 0:
                for cell in range(n_cells):
                    if (newest - cell) % n_cells <= youngest:
                        count += record[first + cell]
            answers[2 * n_types + ring, key] = count
        for number in range(len(first_rings)):
            ring, earliest = first_rings[number], np.int64(never_first)
            stamp, first = _long(record, stamps + 2 * ring), cells + n_cells * ring
            youngest, newest = stamp - first_buckets[ring], stamp % n_cells
            if youngest >= 0:
                for cell in range(n_cells):
                    if (newest - cell) % n_cells <= youngest and record[first + cell] > 0:
                        earliest = min(earliest, np.int64(_long(record, firsts + 2 * (n_cells * number + cell))))
            answers[2 * n_types + n_rings + ring_types[ring], key] = earliest


@compiled
def _add_deltas(
    deltas: tuple[Int64, Int64, Int64, Int64],
    counted: Bool,
    timed: Bool,
    ring_types: Int64,
    edges: Int64,
    oldest: int,
    answers: Int64,
) -> None:
    """Add what is not in the records yet. deltas: key, event type, time and count of each. edges: first microsecond of
    each ring's window. oldest: the earliest time that is read."""
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
            if count > 0 and time >= oldest:
                first, last = 2 * n_types + n_rings + index, 3 * n_types + n_rings + index
                answers[first, key] = min(answers[first, key], time)
                answers[last, key] = max(answers[last, key], time)


@compiled
def _combine(
    answers: Int64, values: tuple[Int64, Int32], item: Int32, n_types: int, never: tuple[int, int], combined: Int64
) -> None:
    """`CounterAnswers.combine`. values: offsets and codes. never: the first and the last time of a candidate without
    values."""
    offsets, codes = values
    n_counts = len(answers) - 2 * n_types
    for answer in range(len(answers)):
        for row in range(len(item)):
            value = 0 if answer < n_counts else never[0] if answer < n_counts + n_types else never[1]
            for entry in range(offsets[item[row]], offsets[item[row] + 1]):
                of_value = answers[answer, codes[entry]]
                if answer < n_counts:
                    value += of_value
                elif answer < n_counts + n_types:
                    value = min(value, of_value)
                else:
                    value = max(value, of_value)
            combined[answer, row] = value
