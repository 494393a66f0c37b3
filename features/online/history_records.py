"""Histories as stored bytes: the latest clicked items of a user in order of (time, item), each with its latest time.

An entry is the time, the length of the item's id, and the id. Many histories are extended in one pass over their bytes:
the order of ids in UTF-8 is that of their text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from struct import Struct

import numpy as np
import numpy.typing as npt

from features.arrays import NO_TIME, Int64
from features.compiled import compiled

_ENTRY = Struct("<qH")
Bytes = npt.NDArray[np.uint8]


def pack_click(item: str, time: int) -> bytes:
    """The entry of a click; a history is its entries, one after another."""
    data = item.encode()
    return _ENTRY.pack(time, len(data)) + data


def unpack_history(value: bytes | None, *, oldest: int = NO_TIME) -> list[tuple[str, int]]:
    """The (item, time) pairs of a stored history, from the time `oldest` on; none for None."""
    history, start = [], 0
    while value is not None and start < len(value):
        time, length = _ENTRY.unpack_from(value, start)
        start += _ENTRY.size
        if time >= oldest:
            history.append((value[start : start + length].decode(), time))
        start += length
    return history


def latest(history: Iterable[tuple[str, int]], clicks: Iterable[tuple[str, int]], length: int) -> list[tuple[str, int]]:
    """The `length` latest of two histories together: (item, time), each item once, in order of (time, item)."""
    times = dict(history)
    for item, time in clicks:
        times[item] = max(time, times.get(item, time))
    return sorted(times.items(), key=lambda entry: (entry[1], entry[0]))[-length:]


def extended(
    histories: Sequence[bytes | None], clicks: Sequence[bytes], length: int, *, oldest: int = NO_TIME
) -> list[bytes]:
    """`latest` of each stored history and further clicks, which are packed alike but in any order. oldest: clicks
    before this time are left out."""
    parts = [part for pair in zip(histories, clicks, strict=True) for part in (pair[0] or b"", pair[1])]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    data = np.frombuffer(b"".join(parts), np.uint8)
    written = np.empty(len(data), np.uint8)
    written_ends = np.empty(len(clicks), np.int64)
    _extend(data, ends, (length, oldest), written, written_ends)
    result = written.tobytes()
    starts = [0, *written_ends.tolist()]
    return [result[start:end] for start, end in pairwise(starts)]


@compiled
def _extend(data: Bytes, ends: Int64, limits: tuple[int, int], written: Bytes, written_ends: Int64) -> None:
    """`extended`. limits: length and oldest time. ends: (2 n,) where each history, and then the clicks of its user, end
    in `data`. written, written_ends: (n,) the extended histories, and where each ends."""
    length, oldest = limits
    places, times = np.empty(length + 1, np.int64), np.empty(length + 1, np.int64)
    start, out = 0, 0
    for user in range(len(written_ends)):
        n = 0
        while start < ends[2 * user]:
            places[n], times[n] = start, _time(data, start)
            n += times[n] >= oldest
            start += 10 + _size(data, start)
        while start < ends[2 * user + 1]:
            time, known = _time(data, start), 0
            while known < n and _compare(data, places[known], start):
                known += 1
            if time >= oldest and (known == n or times[known] < time):
                place = known  # of the item's older click, which goes, or of one beyond the last
                while place < n - 1:
                    places[place], times[place] = places[place + 1], times[place + 1]
                    place += 1
                while place and (
                    times[place - 1] > time
                    or (times[place - 1] == time and _compare(data, places[place - 1], start) > 0)
                ):
                    places[place], times[place] = places[place - 1], times[place - 1]
                    place -= 1
                places[place], times[place] = start, time
                n += known == n
                if n > length:
                    for entry in range(length):
                        places[entry], times[entry] = places[entry + 1], times[entry + 1]
                    n = length
            start += 10 + _size(data, start)
        for entry in range(n):
            for byte in range(places[entry], places[entry] + 10 + _size(data, places[entry])):
                written[out] = data[byte]
                out += 1
        written_ends[user] = out


@compiled
def _time(data: Bytes, place: int) -> int:
    """The time of the entry at a place."""
    time = np.uint64(0)
    for byte in range(8):
        time |= np.uint64(data[place + byte]) << np.uint64(8 * byte)
    return np.int64(time)  # type: ignore[return-value]


@compiled
def _size(data: Bytes, place: int) -> int:
    """The length of the id of the entry at a place."""
    return np.int64(data[place + 8]) + 256 * np.int64(data[place + 9])  # type: ignore[return-value]


@compiled
def _compare(data: Bytes, one: int, other: int) -> int:
    """Below 0, 0 or above 0 as the id of an entry comes before that of another, equals it or comes after it."""
    size, other_size = _size(data, one), _size(data, other)
    for byte in range(min(size, other_size)):
        difference = np.int64(data[one + 10 + byte]) - np.int64(data[other + 10 + byte])
        if difference:
            return difference  # type: ignore[return-value]
    return size - other_size
