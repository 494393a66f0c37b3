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
"""How many buckets before the newest one a cell's is, by the newest one's cell."""

Records = npt.NDArray[Any]


@dataclass(frozen=True)
class CounterLayout:
    """The layout of the records of one key. whats: what is counted. rings: (index in whats, window) of each ring."""

    by: Key
    whats: tuple[str, ...]
    rings: tuple[tuple[int, int], ...] = ()

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Layout of a record, little endian."""
        n = len(self.whats)
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
        """Add deltas to records in place. counted: (n_event_types, n_whats) which event types each `what` counts.
        timed: (n_event_types,) of which the time is known.
        """
        for index in range(len(self.whats)):
            part = deltas.take(counted[deltas.event_type, index])
            np.add.at(records["total"][:, index], part.row, part.count)
            part = part.take(timed[part.event_type])
            np.add.at(records["timed"][:, index], part.row, part.count)
            new = part.take(part.count > 0)
            np.minimum.at(records["first"][:, index], new.row, new.time)
            np.maximum.at(records["last"][:, index], new.row, new.time)
            for ring, (of, window) in enumerate(self.rings):
                if of == index:
                    _add_to_ring(records, ring, part, window)

    def convert(self, source: CounterLayout, records: Records) -> Records:
        """Records of a layout that counts at least as much in this layout, (n,)."""
        result = np.zeros(len(records), self.dtype)
        for index, what in enumerate(self.whats):
            for name in ("total", "timed", "first", "last"):
                result[name][:, index] = records[name][:, source.whats.index(what)]
        for ring, (index, window) in enumerate(self.rings):
            same = source.rings.index((source.whats.index(self.whats[index]), window))
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

    def total(self, records: Records, what: str) -> Int64:
        """The count of all time of each record, (n,)."""
        return np.asarray(records["timed" if what == DATED_CLICK else "total"][:, self.index(what)])

    def ring(self, what: str, window: int) -> int:
        """The index of a window of a `what` among the rings."""
        return self.rings.index((self.index(what), window))

    def window_counts(self, records: Records, as_of: int) -> Int64:
        """The count in the window of each ring as of a time after every event in the records, (n_rings, n)."""
        if not self.rings:
            return np.zeros((0, len(records)), np.int64)
        edges = [as_of // cell_width(window) - CELLS_PER_WINDOW for _, window in self.rings]
        youngest = np.clip(records["stamp"] - np.array(edges, np.int64), -1, RING).astype(np.int8)
        inside = _AGES[records["stamp"] % RING] <= youngest[..., None]
        return np.asarray(np.sum(records["cells"] * inside, axis=2, dtype=np.int64).T)

    def counted(self, whats: Sequence[frozenset[str]]) -> Bool:
        """(n_event_types, n_whats) which of the layout's whats each event type counts for. whats: of each type."""
        return np.array([[what in names for what in self.whats] for names in whats], bool).reshape(
            len(whats), len(self.whats)
        )

    def index(self, what: str) -> int:
        """The index of a `what` in the layout."""
        return self.whats.index(event_table_of(what))


def counter_layouts(reads: Sequence[Aggregate]) -> tuple[CounterLayout, ...]:
    """The layouts that answer `reads`, in a fixed order; the item's also has whatever is counted by category, so that
    an item's counts can be moved to another category. Counts by user and item have no records: see
    `features.online.click_ledger`.
    """
    wanted: dict[Key, set[tuple[str, int | None]]] = {}
    for read in reads:
        if read.key == USER_ITEM:
            continue
        keys = [read.key] if category_of(read.key) is None or "user" in read.key else [read.key, ITEM]
        for by in keys:
            window = read.window if isinstance(read, Count) else None
            wanted.setdefault(by, set()).add((event_table_of(read.event_type), window))
    layouts = []
    for by in sorted(wanted):
        whats = tuple(sorted({what for what, _ in wanted[by]}))
        rings = sorted((whats.index(what), window) for what, window in wanted[by] if window is not None)
        layouts.append(CounterLayout(by, whats, tuple(rings)))
    return tuple(layouts)


def count_deltas(deltas: DeltaArrays, read: Count, counted: Bool, timed: Bool, as_of: int, n: int) -> Int64:
    """What deltas that no record holds yet add to the counts of n keys, (n,); all are before `as_of`.

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
