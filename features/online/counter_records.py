"""Counters as fixed binary records: totals, first and last time, and for each window a ring buffer of 25 buckets.

One layout for each key that features count by. A record answers any count as of a time after all of its events: cell b
of a window holds the events of bucket b, floor(time / (window / 24)), under b modulo 25; what a newer bucket overwrites
lies outside the window of every later time. Records do not depend on the order in which events came.

With a horizon a record has no totals and no first time of all. A count of all time is that of a ring as long as the
horizon. The cells of this ring keep the first time in each: what is read is the earliest of those inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import NO_TIME, Bool, Int32, Int64
from features.clock import CELLS_PER_WINDOW, cell_width, oldest_read
from features.compiled import compiled
from features.definitions.aggregates import (
    ITEM,
    USER_ITEM,
    Aggregate,
    Count,
    First,
    Key,
    category_of,
    event_table_of,
    within,
)
from features.online.counter_deltas import DeltaArrays

RING = CELLS_PER_WINDOW + 1
NEVER_FIRST = int(np.iinfo(np.int64).max)
_NO_STAMP = -(2**62)
FIELDS = ("total", "timed", "first", "last", "stamp", "cells", "firsts")
"""Of a record, in order."""
Records = npt.NDArray[Any]


@dataclass(frozen=True)
class CounterLayout:
    """The layout of the records of one key. event_types: the types counted. rings: (index in event_types,
    window) of each ring. horizon: microseconds that any read looks back, None for no limit. first_rings: the rings
    whose cells keep first times."""

    key: Key
    event_types: tuple[str, ...]
    rings: tuple[tuple[int, int], ...] = ()
    horizon: int | None = None
    first_rings: tuple[int, ...] = ()

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Layout of a record, little endian."""
        n = len(self.event_types)
        return np.dtype(
            [
                ("total", "<i8", (n,)),
                ("timed", "<i8", (n,)),
                ("first", "<i8", (n,)),
                ("last", "<i8", (n,)),
                ("stamp", "<i8", (len(self.rings),)),
                ("cells", "<i4", (len(self.rings), RING)),
                ("firsts", "<i8", (len(self.first_rings), RING)),
            ]
        )

    @cached_property
    def empty(self) -> bytes:
        """The record of a key without events."""
        record = np.zeros(1, self.dtype)
        record["first"], record["last"], record["stamp"], record["firsts"] = (
            NEVER_FIRST,
            NO_TIME,
            _NO_STAMP,
            NEVER_FIRST,
        )
        return record.tobytes()

    def decode(self, values: Sequence[bytes | None]) -> Records:
        """Records, (n,); an empty one for None."""
        return np.frombuffer(b"".join([value or self.empty for value in values]), self.dtype).copy()

    def encode(self, records: Records) -> list[bytes]:
        """The bytes of each record."""
        data, size = records.tobytes(), self.dtype.itemsize
        return [data[start : start + size] for start in range(0, len(data), size)]

    def add(self, records: Records, deltas: DeltaArrays, counted: Bool, timed: Bool) -> None:
        """Add deltas to records in place. counted: (n_types, n_layout_types) which event types each of the layout's
        event_types counts. timed: (n_types,) of which the time is known.
        """
        fields = [np.ascontiguousarray(records[name]) for name in FIELDS]
        total, timed_total, first, last, stamp, cells, firsts = fields
        _add_deltas(
            (total, timed_total, first, last),
            (stamp, firsts),
            cells,
            (deltas.row, deltas.event_type, deltas.time, deltas.count),
            counted,
            timed,
            np.array(self.rings, np.int64).reshape(-1, 2),
            self.widths,
            np.array(self.first_rings, np.int64),
            self.horizon is None,
        )
        for name, values in zip(FIELDS, fields, strict=True):
            records[name] = values

    @cached_property
    def widths(self) -> Int64:
        """Microseconds of a cell of each ring, (n_rings,)."""
        return np.array([cell_width(window) for _, window in self.rings], np.int64)

    def without_expired(self, records: Records, as_of: int) -> Records:
        """Records of a layout with a horizon, (n,), without what lies beyond it as of a time; one without anything else
        is that of a key without events."""
        result = records.copy()
        oldest = oldest_read(as_of, self.horizon)
        first_buckets = oldest // self.widths
        expired = _buckets(result["stamp"]) < first_buckets[:, None]
        result["cells"][expired] = 0
        result["firsts"][expired[:, list(self.first_rings)]] = NEVER_FIRST
        result["stamp"][result["stamp"] < first_buckets] = _NO_STAMP
        result["last"][result["last"] < oldest] = NO_TIME
        return result

    def counts_all_time(self, event_type: str) -> bool:
        """Whether records answer how many events of a type there ever were, or were within the horizon."""
        if event_type not in self.event_types:
            return False
        return self.horizon is None or (self.index(event_type), self.horizon) in self.rings

    def convert(self, source: CounterLayout, records: Records) -> Records:
        """Records of a layout that counts at least as much in this layout, (n,)."""
        result = np.zeros(len(records), self.dtype)
        for index, event_type in enumerate(self.event_types):
            for name in ("total", "timed", "first", "last"):
                result[name][:, index] = records[name][:, source.event_types.index(event_type)]
        for ring, (index, window) in enumerate(self.rings):
            same = source.rings.index((source.event_types.index(self.event_types[index]), window))
            for name in ("stamp", "cells"):
                result[name][:, ring] = records[name][:, same]
        for place, ring in enumerate(self.first_rings):
            index, window = self.rings[ring]
            same = source.rings.index((source.event_types.index(self.event_types[index]), window))
            result["firsts"][:, place] = records["firsts"][:, source.first_rings.index(same)]
        return result

    def sum_records(self, records: Records) -> Records:
        """One record, (1,), of everything that any of `records` counts."""
        result = self.decode([None])
        result["total"][0], result["timed"][0] = records["total"].sum(axis=0), records["timed"].sum(axis=0)
        result["first"][0] = records["first"].min(axis=0, initial=NEVER_FIRST)
        result["last"][0] = records["last"].max(axis=0, initial=NO_TIME)
        result["stamp"][0] = records["stamp"].max(axis=0, initial=_NO_STAMP)
        for ring in range(len(self.rings)):
            same = _buckets(records["stamp"][:, ring]) == _buckets(result["stamp"][:, ring])
            result["cells"][0, ring] = np.where(same, records["cells"][:, ring], 0).sum(axis=0)
            if ring in self.first_rings:
                place = self.first_rings.index(ring)
                firsts = np.where(same, records["firsts"][:, place], NEVER_FIRST)
                result["firsts"][0, place] = firsts.min(axis=0, initial=NEVER_FIRST)
        return result

    def ring(self, event_type: str, window: int) -> int:
        """The index in `rings` of a window of an event type."""
        return self.rings.index((self.index(event_type), window))

    def counted(self, counts_as: Sequence[frozenset[str]]) -> Bool:
        """(n_types, n_layout_types) which of the layout's event types each type counts as. counts_as: of each type."""
        return np.array(
            [[event_type in names for event_type in self.event_types] for names in counts_as], bool
        ).reshape(len(counts_as), len(self.event_types))

    def index(self, event_type: str) -> int:
        """The index of an event type in the layout."""
        return self.event_types.index(event_table_of(event_type))


def counter_layouts(reads: Sequence[Aggregate], horizon: int | None = None) -> tuple[CounterLayout, ...]:
    """The layouts that answer `reads`, in a fixed order; the item's also has whatever is counted by category, so that
    an item's counts can be moved to another category. Counts by user and item have no records: see
    `features.online.click_ledger`. horizon: as of a layout.
    """
    reads_by_key: dict[Key, list[Aggregate]] = {}
    for read in reads:
        if read.key == USER_ITEM:
            continue
        keys = [read.key] if category_of(read.key) is None or "user" in read.key else [read.key, ITEM]
        for key in keys:
            reads_by_key.setdefault(key, []).append(read)
    return tuple(layout_of(key, reads_by_key[key], horizon) for key in sorted(reads_by_key))


def layout_of(key: Key, reads: Sequence[Aggregate], horizon: int | None = None) -> CounterLayout:
    """The layout of one key that answers `reads`."""
    event_types = tuple(sorted({event_table_of(read.event_type) for read in reads}))
    windows = {
        (event_types.index(event_table_of(read.event_type)), read.window)
        for read in (within(read, horizon) for read in reads)
        if isinstance(read, Count) and read.window is not None
    }
    if horizon is None:
        return CounterLayout(key, event_types, tuple(sorted(windows)))
    firsts = {
        (event_types.index(event_table_of(read.event_type)), horizon) for read in reads if isinstance(read, First)
    }
    rings = tuple(sorted(windows | firsts))
    return CounterLayout(key, event_types, rings, horizon, tuple(rings.index(ring) for ring in sorted(firsts)))


@compiled
def _add_deltas(
    times_and_totals: tuple[Int64, Int64, Int64, Int64],
    stamps_and_firsts: tuple[Int64, Int64],
    cells: Int32,
    deltas: tuple[Int64, Int64, Int64, Int64],
    counted: Bool,
    timed: Bool,
    rings: Int64,
    widths: Int64,
    first_rings: Int64,
    all_time: bool,
) -> None:
    """`CounterLayout.add`. Arrays as in a record, (n, …), changed in place. deltas: record, event type, time and count
    of each. rings: (n_rings, 2) layout type and window. widths: microseconds of a cell of each ring. first_rings: as of
    a layout. all_time: whether there is no horizon."""
    total, timed_total, first, last = times_and_totals
    stamps, firsts = stamps_and_firsts
    rows, types, times, counts = deltas
    n_cells = cells.shape[2]
    for delta in range(len(rows)):  # rings move to their newest bucket before anything is added to them
        row, time = rows[delta], times[delta]
        if counts[delta] <= 0 or not timed[types[delta]]:
            continue
        for ring in range(len(rings)):
            if counted[types[delta], rings[ring, 0]]:
                bucket, stamp = time // widths[ring], stamps[row, ring]
                for stale in range(max(stamp + 1, bucket - n_cells + 1), bucket + 1):
                    cells[row, ring, stale % n_cells] = 0
                    for place in range(len(first_rings)):
                        if first_rings[place] == ring:
                            firsts[row, place, stale % n_cells] = NEVER_FIRST
                stamps[row, ring] = max(stamp, bucket)
    for delta in range(len(rows)):
        row, time, count = rows[delta], times[delta], counts[delta]
        for index in range(counted.shape[1]):
            if not counted[types[delta], index]:
                continue
            if all_time:
                total[row, index] += count
            if not timed[types[delta]]:
                continue
            if all_time:
                timed_total[row, index] += count
            if count > 0:
                if all_time:
                    first[row, index] = min(first[row, index], time)
                last[row, index] = max(last[row, index], time)
            for ring in range(len(rings)):
                bucket = time // widths[ring]
                if rings[ring, 0] != index or bucket <= stamps[row, ring] - n_cells:
                    continue
                cells[row, ring, bucket % n_cells] += count
                for place in range(len(first_rings)):
                    if first_rings[place] == ring and count > 0:
                        cell = bucket % n_cells
                        firsts[row, place, cell] = min(firsts[row, place, cell], time)


def _buckets(stamps: Int64) -> Int64:
    """(..., 25) the bucket that each cell of a ring holds, given the newest one."""
    stamps = stamps[..., None]
    return np.asarray(stamps - (stamps - np.arange(RING)) % RING)
