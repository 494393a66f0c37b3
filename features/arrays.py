"""Array types, lists of codes of different lengths, and sums over segments of an array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.object_]
NO_TIME: int = int(np.iinfo(np.int64).min)
"""A missing time, in place of microseconds since the epoch."""


@dataclass(frozen=True)
class CsrLists:
    """A list of codes for each of n rows: row i holds `codes[offsets[i]:offsets[i + 1]]`.

    offsets: (n + 1,) int64, from 0. codes: (offsets[-1],) int32.
    """

    offsets: Int64
    codes: Int32

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> Int32:
        """The codes of one row, (k,)."""
        return self.codes[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self) -> Int64:
        """How many codes each row holds, (n,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def take(self, rows: npt.NDArray[np.integer]) -> CsrLists:
        """The lists of `rows`, in that order; a row may repeat, and -1 is the last one."""
        starts = self.offsets[:-1][rows]
        lengths = self.offsets[1:][rows] - starts
        offsets = offsets_of(lengths)
        index = np.repeat(starts - offsets[:-1], lengths)
        index += np.arange(offsets[-1], dtype=np.int64)
        return CsrLists(offsets, self.codes[index])


def offsets_of(lengths: npt.ArrayLike) -> Int64:
    """(n + 1,) offsets of n segments of these lengths, from 0."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def segment_sums(values: npt.NDArray[np.integer | np.bool_], offsets: Int64) -> Int64:
    """Exact sum of each segment values[offsets[i]:offsets[i + 1]], (n,); 0 for an empty one."""
    running = offsets_of(values)
    return running[offsets[1:]] - running[offsets[:-1]]


def segment_latest(times: Int64, offsets: Int64) -> Int64:
    """Largest of each segment, (n,); NO_TIME, the smallest of all, for an empty one."""
    padded = np.append(times, NO_TIME)
    latest = np.maximum.reduceat(padded, offsets[:-1]) if len(offsets) > 1 else padded[:0]
    return np.where(np.diff(offsets) > 0, latest, NO_TIME)


def segment_first(times: Int64, offsets: Int64) -> Int64:
    """Smallest of each segment that is not NO_TIME, (n,); NO_TIME where there is none."""
    highest = np.iinfo(np.int64).max
    padded = np.append(np.where(times == NO_TIME, highest, times), highest)
    first = np.minimum.reduceat(padded, offsets[:-1]) if len(offsets) > 1 else padded[:0]
    return np.where((np.diff(offsets) > 0) & (first < highest), first, NO_TIME)
