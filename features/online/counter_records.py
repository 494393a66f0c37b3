"""Counters as fixed binary records: totals, first and last time, and for each window a ring of 25 cells.

One table for each key that features count by. A record answers any count at a moment that has seen all of its events:
cell b of a window holds the events of bucket b, floor(time / (window / 24)), under b modulo 25; what a newer bucket
overwrites lies outside the window of every later moment. Records do not depend on the order in which events came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import NO_TIME, Bool, Int32, Int64
from features.definitions.aggregates import (
    CELLS_PER_WINDOW,
    CLICK,
    DATED_CLICK,
    ITEM,
    USER_ITEM,
    Aggregate,
    Count,
    Key,
    category_of,
    cell_width,
    window_edge,
)

RING = CELLS_PER_WINDOW + 1
NEVER_FIRST = int(np.iinfo(np.int64).max)
_NO_STAMP = -(2**62)
_AGES = ((np.arange(RING)[:, None] - np.arange(RING)) % RING).astype(np.int8)
"""How many buckets before the newest one a cell's is, by the newest one's cell."""

Records = npt.NDArray[Any]


@dataclass(frozen=True)
class Changes:
    """Events to add to records, or to take away. row: (n,) which record. kind: (n,) event type. time: microseconds.
    dated: (n,) False for type history. count: (n,) how many, negative to take away.
    """

    row: Int64
    kind: Int32
    time: Int64
    dated: Bool
    count: Int64

    def where(self, kept: Bool) -> Changes:
        """The changes of a mask."""
        return Changes(self.row[kept], self.kind[kept], self.time[kept], self.dated[kept], self.count[kept])


@dataclass(frozen=True)
class CounterLayout:
    """The layout of the records of one key. whats: what is counted. rings: (place in whats, window) of each ring."""

    by: Key
    whats: tuple[str, ...]
    rings: tuple[tuple[int, int], ...]

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Layout of a record, little endian."""
        n = len(self.whats)
        return np.dtype(
            [
                ("total", "<i8", (n,)),
                ("dated", "<i8", (n,)),
                ("first", "<i8", (n,)),
                ("last", "<i8", (n,)),
                ("stamp", "<i8", (len(self.rings),)),
                ("cells", "<i4", (len(self.rings), RING)),
            ]
        )

    @cached_property
    def empty(self) -> bytes:
        """The record of a key of which nothing happened."""
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

    def add(self, records: Records, changes: Changes, counted: Bool) -> None:
        """Add changes to records in place. counted: (n_kinds, n_whats) which kinds of event each `what` counts."""
        for place in range(len(self.whats)):
            part = changes.where(counted[changes.kind, place])
            np.add.at(records["total"][:, place], part.row, part.count)
            part = part.where(part.dated)
            np.add.at(records["dated"][:, place], part.row, part.count)
            new = part.where(part.count > 0)
            np.minimum.at(records["first"][:, place], new.row, new.time)
            np.maximum.at(records["last"][:, place], new.row, new.time)
            for ring, (of, window) in enumerate(self.rings):
                if of == place:
                    _add_to_ring(records, ring, part, window)

    def of(self, source: CounterLayout, records: Records) -> Records:
        """The same records in this table's layout, (n,), from one that counts at least as much."""
        result = np.zeros(len(records), self.dtype)
        for place, what in enumerate(self.whats):
            for name in ("total", "dated", "first", "last"):
                result[name][:, place] = records[name][:, source.whats.index(what)]
        for ring, (place, window) in enumerate(self.rings):
            same = source.rings.index((source.whats.index(self.whats[place]), window))
            for name in ("stamp", "cells"):
                result[name][:, ring] = records[name][:, same]
        return result

    def merged(self, records: Records) -> Records:
        """One record, (1,), of everything that any of `records` counts."""
        result = self.decode([None])
        result["total"][0], result["dated"][0] = records["total"].sum(axis=0), records["dated"].sum(axis=0)
        result["first"][0] = records["first"].min(axis=0, initial=NEVER_FIRST)
        result["last"][0] = records["last"].max(axis=0, initial=NO_TIME)
        result["stamp"][0] = records["stamp"].max(axis=0, initial=_NO_STAMP)
        for ring in range(len(self.rings)):
            same = _buckets(records["stamp"][:, ring]) == _buckets(result["stamp"][:, ring])
            result["cells"][0, ring] = np.where(same, records["cells"][:, ring], 0).sum(axis=0)
        return result

    def total(self, records: Records, what: str) -> Int64:
        """The count of all time of each record, (n,)."""
        return np.asarray(records["dated" if what == DATED_CLICK else "total"][:, self.place(what)])

    def ring(self, what: str, window: int) -> int:
        """The place of a window of a `what` among the rings."""
        return self.rings.index((self.place(what), window))

    def window_counts(self, records: Records, moment: int) -> Int64:
        """What lies in the window of each ring at a moment later than every event in the records, (n_rings, n)."""
        if not self.rings:
            return np.zeros((0, len(records)), np.int64)
        edges = [moment // cell_width(window) - CELLS_PER_WINDOW for _, window in self.rings]
        youngest = np.clip(records["stamp"] - np.array(edges, np.int64), -1, RING).astype(np.int8)
        inside = _AGES[records["stamp"] % RING] <= youngest[..., None]
        return np.asarray(np.sum(records["cells"] * inside, axis=2, dtype=np.int64).T)

    def last(self, records: Records, what: str) -> Int64:
        """Time of the latest dated event of each record, (n,), NO_TIME for none."""
        return np.asarray(records["last"][:, self.place(what)])

    def first(self, records: Records, what: str) -> Int64:
        """Time of the first dated event of each record, (n,), NEVER_FIRST for none."""
        return np.asarray(records["first"][:, self.place(what)])

    def counted(self, kinds: Sequence[frozenset[str]]) -> Bool:
        """(n_kinds, n_whats) which of the whats each kind of event counts for."""
        return np.array([[what in names for what in self.whats] for names in kinds], bool).reshape(
            len(kinds), len(self.whats)
        )

    def place(self, what: str) -> int:
        """Where a `what` stands in the table."""
        return self.whats.index(CLICK if what == DATED_CLICK else what)


def tables_for(reads: Sequence[Aggregate]) -> tuple[CounterLayout, ...]:
    """The tables that answer `reads`, in a fixed order; the item's also has whatever is counted by category, so that
    an item's counts can be moved to another category. Counts by user and item are no table: see
    `features.online.click_ledger`.
    """
    wanted: dict[Key, set[tuple[str, int | None]]] = {}
    for read in reads:
        if read.key == USER_ITEM:
            continue
        what = CLICK if read.event_type == DATED_CLICK else read.event_type
        keys = [read.key] if category_of(read.key) is None or "user" in read.key else [read.key, ITEM]
        for by in keys:
            wanted.setdefault(by, set()).add((what, read.window if isinstance(read, Count) else None))
    tables = []
    for by in sorted(wanted):
        whats = tuple(sorted({what for what, _ in wanted[by]}))
        rings = sorted((whats.index(what), window) for what, window in wanted[by] if window is not None)
        tables.append(CounterLayout(by, whats, tuple(rings)))
    return tuple(tables)


def count_changes(changes: Changes, read: Count, counted: Bool, moment: int, n: int) -> Int64:
    """What changes that a record does not hold yet add to its count, (n,); all are before the moment."""
    if not len(changes.row):
        return np.zeros(n, np.int64)
    kept = counted[changes.kind]
    if read.event_type == DATED_CLICK or read.window is not None:
        kept = kept & changes.dated
    if read.window is not None:
        kept = kept & (changes.time >= window_edge(np.array(moment), read.window))
    counts = np.zeros(n, np.int64)
    np.add.at(counts, changes.row[kept], changes.count[kept])
    return counts


def _add_to_ring(records: Records, ring: int, changes: Changes, window: int) -> None:
    bucket = changes.time // cell_width(window)
    old = records["stamp"][:, ring].copy()
    new = old.copy()
    added = changes.count > 0
    np.maximum.at(new, changes.row[added], bucket[added])
    moved = np.flatnonzero(new != old)
    stale = _buckets(old[moved]) != _buckets(new[moved])
    records["cells"][moved, ring] = np.where(stale, 0, records["cells"][moved, ring])
    records["stamp"][:, ring] = new
    inside = bucket > new[changes.row] - RING
    np.add.at(records["cells"][:, ring], (changes.row[inside], bucket[inside] % RING), changes.count[inside])


def _buckets(stamps: Int64) -> Int64:
    """(..., 25) the bucket that each cell of a ring holds, given the newest one."""
    stamps = stamps[..., None]
    return np.asarray(stamps - (stamps - np.arange(RING)) % RING)
