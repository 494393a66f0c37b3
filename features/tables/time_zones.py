"""Local times as UTC: one rule for every way a time comes in, text, timestamps, numbers or a request.

A local time that a clock shows twice, when clocks go back, is the earlier of the two. One that no clock shows, when
clocks go forward, is read as if they had not gone forward yet: 02:30 in Berlin on 26 March 2023 is 01:30 UTC. This is
what `zoneinfo` says with fold=0 (PEP 495).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from features.arrays import Int64

EARLIEST = -62_135_596_800_000_000
LATEST = 253_402_300_799_999_999
"""Microseconds from 1970 to the first and the last moment of the years 1 to 9999."""
_DAY = 86_400_000_000
_START = datetime(1970, 1, 1)


def utc_of_local(local: Int64, timezone: str) -> Int64:
    """Microseconds since 1970 UTC of microseconds since 1970 on the local clock, (n,).

    Each distinct day is looked up once, and each distinct time of a day on which the clocks change. timezone: an IANA
    name. Times outside the years 1 to 9999 come back unchanged.
    """
    if timezone == "UTC" or not len(local):
        return local
    zone = ZoneInfo(timezone)
    days, day = np.unique(local // _DAY, return_inverse=True)
    starts, ends = (_offsets(days + one, zone, step=_DAY) for one in (0, 1))
    offsets = starts[day]
    rows = np.flatnonzero((starts != ends)[day])
    moments, moment = np.unique(local[rows], return_inverse=True)
    offsets[rows] = _offsets(moments, zone)[moment]
    inside = (local >= EARLIEST) & (local <= LATEST)
    return local - np.where(inside, offsets, 0)


def _offsets(local: Int64, zone: ZoneInfo, *, step: int = 1) -> Int64:
    """Microseconds by which a local clock that shows `local`, in units of `step`, is ahead of UTC, (n,)."""
    shown = [timedelta(microseconds=min(max(one * step, EARLIEST), LATEST)) for one in local.tolist()]
    offsets = [(_START + since).replace(tzinfo=zone).utcoffset() or timedelta() for since in shown]
    return np.array([offset // timedelta(microseconds=1) for offset in offsets], np.int64)
