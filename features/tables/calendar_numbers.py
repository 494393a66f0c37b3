"""Numbers whose digits are a date: 2016, 201605, 20160503, 201605031430, 20160503143000, 20160503143000123.

No epoch unit gives these numbers for a plausible time: read as seconds the short ones lie in 1970, read as
milliseconds or microseconds the long ones lie after 2286. Those of 12 digits, which are milliseconds of 1973 to 2001
too, are dates only from 1900 to 2099. Ten digits (YYYYMMDDHH) are epoch seconds always.
"""

from __future__ import annotations

import numpy as np

from features.arrays import Bool, Int64
from features.clock import DAY, HOUR, MINUTE, SECOND

_SHARE, _SHARE_OF_YEARS = 0.5, 0.9
"""More than this share of a file's numbers are calendar numbers where it is read so; of years at least the other share,
since counts from 1000 to 2999 look like years."""
_FORMS = (4, 6, 8, 12, 14, 17)
"""How many digits there may be."""
_START_OF_YEAR = "0101000000"
"""Defaults of the digits after the year: month, day, hour, minute and second."""
_WIDE, _NARROW = (1000, 2999), (1900, 2099)


def local_times(numbers: Int64) -> tuple[Int64, Bool]:
    """Microseconds since 1970 on the local clock that the digits are, 0 where they are no date, and a mask of dates."""
    local, valid = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.bool_)
    for digits in _FORMS:
        first, last = _NARROW if digits == 12 else _WIDE
        scale = 10 ** (digits - 4)
        rows = np.flatnonzero((numbers >= first * scale) & (numbers < (last + 1) * scale))
        if len(rows):
            local[rows], valid[rows] = _read(numbers[rows], digits)
    return np.where(valid, local, 0), valid


def are_dates(dated: Int64, filled: int) -> bool:
    """Whether a file's numbers are calendar numbers. dated: those that can be. filled: how many there are but zeros."""
    if not len(dated):
        return False
    return int((dated >= 10**4).sum()) > _SHARE * filled or len(dated) >= _SHARE_OF_YEARS * filled


def has_form(numbers: Int64) -> Bool:
    """(n,) True for numbers of as many digits as a calendar number, whether or not they are one."""
    of_digits = [(numbers >= 10 ** (digits - 1)) & (numbers < 10**digits) for digits in _FORMS]
    return np.asarray(np.logical_or.reduce(of_digits))


def _read(numbers: Int64, digits: int) -> tuple[Int64, Bool]:
    milli: Int64 | int = 0
    if digits == 17:
        numbers, milli = numbers // 1000, numbers % 1000
    else:
        numbers = numbers * 10 ** (14 - digits) + int(_START_OF_YEAR[digits - 4 :] or 0)
    year = numbers // 10**10
    month, day, hour, minute, second = (numbers // 10**power % 100 for power in (8, 6, 4, 2, 0))
    valid = (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60)
    start = ((year - 1970) * 12 + np.clip(month, 1, 12) - 1).astype("datetime64[M]")
    days_before = start.astype("datetime64[D]").astype(np.int64)
    length = (start + 1).astype("datetime64[D]").astype(np.int64) - days_before
    valid &= (day >= 1) & (day <= length)
    return (days_before + day - 1) * DAY + hour * HOUR + minute * MINUTE + second * SECOND + milli * 1000, valid
