"""Counters as fixed binary records: totals, first and last time, and for each window a ring buffer of 25 buckets.

One layout for each key that features count by. A record answers any count as of a time after all of its events: cell b
of a window holds the events of bucket b, floor(time / (window / 24)), under b modulo 25; what a newer bucket overwrites
lies outside the window of every later time. Records do not depend on the order in which events came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import NO_TIME, Bool, Int64
from features.definitions.aggregates import (
    CELLS_PER_WINDOW,
    DATED_CLICK,
    ITEM,
    USER_ITEM,
    Aggregate,
    Count,
    Key,
    category_of,
    cell_width,
    event_table_of,
    window_edge,
)
from features.online.counter_deltas import DeltaArrays

RING = CELLS_PER_WINDOW + 1
NEVER_FIRST = int(np.iinfo(np.int64).max)
_NO_STAMP = -(2**62)
_AGES = ((np.arange(RING)[:, None] - np.arange(RING)) % RING).astype(np.int8)
"""The age in buckets of each cell, by the cell of the newest bucket."""

Records = npt.NDArray[Any]


@dataclass(frozen=True)
class CounterLayout:
    """The layout of the records of one key. event_types: the types counted. rings: (index in event_types,
    window) of each ring."""

    key: Key
    event_types: tuple[str, ...]
    rings: tuple[tuple[int, int], ...] = ()

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
            ]
        )

    @cached_property
    def empty(self) -> bytes:
        """The record of a key without events."""
        record = np.zeros(1, self.dtype)
        record["first"], record["last"], record["stamp"] = NEVER_FIRST, NO_TIME, _NO_STAMP
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
        for index in range(len(self.event_types)):
            selected = deltas.take(counted[deltas.event_type, index])
            np.add.at(records["total"][:, index], selected.row, selected.count)
            selected = selected.take(timed[selected.event_type])
            np.add.at(records["timed"][:, index], selected.row, selected.count)
            new = selected.take(selected.count > 0)
            np.minimum.at(records["first"][:, index], new.row, new.time)
            np.maximum.at(records["last"][:, index], new.row, new.time)
            for ring, (type_index, window) in enumerate(self.rings):
                if type_index == index:
                    _add_to_ring(records, ring, selected, window)

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
        return result

    def total(self, records: Records, event_type: str) -> Int64:
        """The count of all time of each record, (n,)."""
        return np.asarray(records["timed" if event_type == DATED_CLICK else "total"][:, self.index(event_type)])

    def ring(self, event_type: str, window: int) -> int:
        """The index in `rings` of a window of an event type."""
        return self.rings.index((self.index(event_type), window))

    def window_counts(self, records: Records, as_of: int) -> Int64:
        """The count in the window of each ring as of a time after every event in the records, (n_rings, n)."""
        if not self.rings:
            return np.zeros((0, len(records)), np.int64)
        first_buckets = [as_of // cell_width(window) - CELLS_PER_WINDOW for _, window in self.rings]
        youngest = np.clip(records["stamp"] - np.array(first_buckets, np.int64), -1, RING).astype(np.int8)
        inside = _AGES[records["stamp"] % RING] <= youngest[..., None]
        return np.asarray(np.sum(records["cells"] * inside, axis=2, dtype=np.int64).T)

    def counted(self, counts_as: Sequence[frozenset[str]]) -> Bool:
        """(n_types, n_layout_types) which of the layout's event types each type counts as. counts_as: of each type."""
        return np.array(
            [[event_type in names for event_type in self.event_types] for names in counts_as], bool
        ).reshape(len(counts_as), len(self.event_types))

    def index(self, event_type: str) -> int:
        """The index of an event type in the layout."""
        return self.event_types.index(event_table_of(event_type))


def counter_layouts(reads: Sequence[Aggregate]) -> tuple[CounterLayout, ...]:
    """The layouts that answer `reads`, in a fixed order; the item's also has whatever is counted by category, so that
    an item's counts can be moved to another category. Counts by user and item have no records: see
    `features.online.click_ledger`.
    """
    reads_by_key: dict[Key, set[tuple[str, int | None]]] = {}
    for read in reads:
        if read.key == USER_ITEM:
            continue
        keys = [read.key] if category_of(read.key) is None or "user" in read.key else [read.key, ITEM]
        for key in keys:
            window = read.window if isinstance(read, Count) else None
            reads_by_key.setdefault(key, set()).add((event_table_of(read.event_type), window))
    layouts = []
    for key in sorted(reads_by_key):
        event_types = tuple(sorted({event_type for event_type, _ in reads_by_key[key]}))
        rings = sorted(
            (event_types.index(event_type), window) for event_type, window in reads_by_key[key] if window is not None
        )
        layouts.append(CounterLayout(key, event_types, tuple(rings)))
    return tuple(layouts)


def count_deltas(deltas: DeltaArrays, read: Count, counted: Bool, timed: Bool, as_of: int, n: int) -> Int64:
    """The counts, (n,), that deltas not yet in a record add to n keys; all are before `as_of`.

    counted, timed: (n_event_types,) which event types the read counts, and of which the time is known.
    """
    if not len(deltas.row):
        return np.zeros(n, np.int64)
    matches = counted[deltas.event_type]
    if read.event_type == DATED_CLICK or read.window is not None:
        matches = matches & timed[deltas.event_type]
    if read.window is not None:
        matches = matches & (deltas.time >= window_edge(np.array(as_of), read.window))
    counts = np.zeros(n, np.int64)
    np.add.at(counts, deltas.row[matches], deltas.count[matches])
    return counts


def _add_to_ring(records: Records, ring: int, deltas: DeltaArrays, window: int) -> None:
    bucket = deltas.time // cell_width(window)
    old = records["stamp"][:, ring].copy()
    new = old.copy()
    added = deltas.count > 0
    np.maximum.at(new, deltas.row[added], bucket[added])
    changed = np.flatnonzero(new != old)
    stale = _buckets(old[changed]) != _buckets(new[changed])
    records["cells"][changed, ring] = np.where(stale, 0, records["cells"][changed, ring])
    records["stamp"][:, ring] = new
    inside = bucket > new[deltas.row] - RING
    np.add.at(records["cells"][:, ring], (deltas.row[inside], bucket[inside] % RING), deltas.count[inside])


def _buckets(stamps: Int64) -> Int64:
    """(..., 25) the bucket that each cell of a ring holds, given the newest one."""
    stamps = stamps[..., None]
    return np.asarray(stamps - (stamps - np.arange(RING)) % RING)
