"""Local times as UTC and back: one rule for every way a time comes in, text, timestamps, numbers or a request.

A local time that a clock shows twice, when clocks go back, is the earlier of the two. One that no clock shows, when
clocks go forward, is read as if they had not gone forward yet: 02:30 in Berlin on 26 March 2023 is 01:30 UTC. This is
the rule of `zoneinfo` with fold=0 (PEP 495).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from features.arrays import Int64
from features.clock import DAY

EARLIEST = -62_135_596_800_000_000
LATEST = 253_402_300_799_999_999
"""Microseconds from 1970 to the first and the last time of the years 1 to 9999."""
_START = datetime(1970, 1, 1)
_FEW = 4
"""So many times are looked up one by one: days are of no use yet."""
_OffsetAt = Callable[[timedelta], timedelta | None]
"""How far the local clock is ahead of UTC, at a time since 1970."""


def utc_of_local(local: Int64, timezone: str) -> Int64:
    """Microseconds since 1970 UTC of microseconds since 1970 on the local clock, (n,).

    timezone: an IANA name. Times outside the years 1 to 9999 come back unchanged.
    """
    if timezone == "UTC" or not len(local):
        return local
    zone = ZoneInfo(timezone)
    offsets = _offsets(local, lambda since: (_START + since).replace(tzinfo=zone).utcoffset())
    return local - np.where((local >= EARLIEST) & (local <= LATEST), offsets, 0)


def local_of_utc(utc: Int64, timezone: str) -> Int64:
    """Microseconds since 1970 on the local clock of microseconds since 1970 UTC, (n,). timezone: an IANA name."""
    if timezone == "UTC":
        return utc
    zone, start = ZoneInfo(timezone), _START.replace(tzinfo=UTC)
    return utc + _offsets(utc, lambda since: (start + since).astimezone(zone).utcoffset())


def _offsets(times: Int64, offset_at: _OffsetAt) -> Int64:
    """Microseconds by which the local clock is ahead of UTC at each time, (n,).

    Each distinct day is looked up once, and each distinct time of a day on which the clocks change.
    """
    if len(times) <= _FEW:
        return _each_offset(times, offset_at)
    days, day = np.unique(times // DAY, return_inverse=True)
    starts, ends = (_each_offset((days + later) * DAY, offset_at) for later in (0, 1))
    offsets = starts[day]
    rows = np.flatnonzero((starts != ends)[day])
    distinct, inverse = np.unique(times[rows], return_inverse=True)
    offsets[rows] = _each_offset(distinct, offset_at)[inverse]
    return offsets


def _each_offset(times: Int64, offset_at: _OffsetAt) -> Int64:
    since = [timedelta(microseconds=time) for time in np.clip(times, EARLIEST, LATEST).tolist()]
    return np.array([(offset_at(time) or timedelta()) // timedelta(microseconds=1) for time in since], np.int64)
