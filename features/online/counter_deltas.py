"""Changes of counters: one as a value, many as arrays that `features.online.counter_records` adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.arrays import Int64


class CounterDelta(NamedTuple):
    """An event to be counted. time: microseconds. event_type: its number. user: None for an anonymous one."""

    time: int
    event_type: int
    user: str | None
    item: str


CountedDelta = tuple[CounterDelta, int]
"""A delta, and how often."""


@dataclass(frozen=True)
class DeltaArrays:
    """Changes of n records. row: (n,) which record. event_type: (n,) numbers. time: (n,) microseconds. count: (n,) how
    many events, negative to take them away.
    """

    row: Int64
    event_type: Int64
    time: Int64
    count: Int64

    def take(self, index: npt.NDArray[np.bool_] | Int64) -> DeltaArrays:
        """The changes of a mask or of positions."""
        return DeltaArrays(self.row[index], self.event_type[index], self.time[index], self.count[index])


def delta_arrays(rows: Sequence[tuple[int, CounterDelta, int]]) -> DeltaArrays:
    """Arrays of (row, delta, count)."""
    return DeltaArrays(
        np.array([row for row, _, _ in rows], np.int64),
        np.array([delta.event_type for _, delta, _ in rows], np.int64),
        np.array([delta.time for _, delta, _ in rows], np.int64),
        np.array([count for _, _, count in rows], np.int64),
    )


NO_DELTAS = delta_arrays(())
