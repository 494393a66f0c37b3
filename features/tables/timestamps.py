"""Times as people write them, read as microseconds since the epoch, UTC.

Timestamps and dates of any unit, ISO 8601 text with or without a zone, year first dates such as 2001/2/3 and 2001-2,
and, as numbers or as text, calendar numbers such as 2016 and 20231114221320 (see `features.tables.calendar_numbers`) or
epoch seconds, milliseconds or microseconds. The size of a file's numbers decides its epoch unit: below 1e11
seconds (until the year 5138), below 1e14 milliseconds (from 1973), below 1e17 microseconds (from 1973). Times without a
zone become UTC by the one rule of `features.tables.time_zones`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrays import Bool, Float64, Int64
from features.errors import InputError
from features.tables.calendar_numbers import are_dates, has_form, local_times
from features.tables.cells import ParsedCells, mask_of, occurring
from features.tables.time_zones import EARLIEST, LATEST, utc_of_local

Epoch = Literal["s", "ms", "us"]
Unit = Literal["s", "ms", "us", "calendar"]

CANONICAL_TIME = pa.timestamp("us", "UTC")
UNREADABLE, MIXED = "unreadable_time", "time_unit_mixed"
EXPECTED = "ISO 8601, epoch s, ms or us, or a calendar number such as 20231114 or 20231114221320"
"""The accepted forms of a time, for messages."""
_SCALE: dict[Epoch, int] = {"s": 1_000_000, "ms": 1_000, "us": 1}
_BELOW: tuple[tuple[Epoch, float], ...] = (("s", 1e11), ("ms", 1e14), ("us", 1e17))
_FROM: dict[Epoch, float] = {"s": 0.0, "ms": 1e11, "us": 1e14}
_OF_AN_EPOCH = 5e8
"""A column with a number of seconds above this (November 1985) does count from 1970: a 2016 in it is a year."""
_LONGEST_WHOLE = 30
_NUMBER = r"^\s*[+-]?\d+(\.\d*)?\s*$"
_ISO = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?$"
_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})(?:[-/.](\d{1,2}))?(?:[ T]+(\d.*))?")
_ISO_ZONE = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True)
class Times(ParsedCells):
    """values: (n,) timestamp[us, UTC], null where there is none or it is wrong. problems: for UNREADABLE where there is
    something that is no time, for MIXED where a number is of another unit than the file's. unit: of the numbers, None
    while none was seen. naive: whether a time without a zone was read."""

    unit: Unit | None = None
    naive: bool = False


def check_zone(name: str) -> str:
    """`name`, if it is an IANA time zone; InputError otherwise."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError) as error:
        raise InputError(f"timezone: expected an IANA name such as 'Europe/Berlin' or 'UTC', got {name!r}") from error
    return name


def parse_time(value: str | int | float, timezone: str) -> int | None:
    """Microseconds since the epoch of one time as people write it, None where it is none; see `read_times`.

    timezone: IANA name for a time without a zone. The digits and the size of a number alone decide what it is.
    """
    if isinstance(value, str):
        text = value.strip()
        if not re.match(_NUMBER, text):
            parsed = _parse(text, ZoneInfo(timezone))
            return None if parsed is None else parsed[0]
        value = float(text) if "." in text or len(text) > _LONGEST_WHOLE else int(text)
    unit = _unit_of(abs(value))
    if unit is None:
        return None
    if value == int(value):
        local, valid = local_times(np.array([int(value)], np.int64))
        if valid[0]:
            return int(utc_of_local(local, timezone)[0])
    micros = value * _SCALE[unit] if isinstance(value, int) else round(value * _SCALE[unit])
    return micros if EARLIEST <= micros <= LATEST else None


def read_times(array: pa.Array, *, timezone: str, unit: Unit | None, is_event_time: bool) -> Times | None:
    """The times of a column of one file, None where its type holds no times.

    timezone: IANA name for times without a zone. unit: of the numbers found earlier in this file. is_event_time: the
    column holds times of events, so that a number of another unit is a mistake rather than a date long ago.
    """
    arrow_type = array.type
    if pa.types.is_timestamp(arrow_type) or pa.types.is_date(arrow_type):
        return _from_timestamps(array, timezone, unit)
    if pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type):
        return _from_numbers(array, timezone, unit, is_event_time)
    if pa.types.is_large_string(arrow_type):
        return _from_text(array, timezone, unit, is_event_time)
    if pa.types.is_null(arrow_type):
        return Times(pa.nulls(len(array), CANONICAL_TIME), unit=unit)
    return None


def _from_timestamps(array: pa.Array, timezone: str, unit: Unit | None) -> Times:
    zone = getattr(array.type, "tz", None)
    try:
        micros = array.cast(pa.timestamp("us", zone), safe=False)
        values = _utc(micros, timezone) if zone is None else micros.cast(CANONICAL_TIME)
    except pa.ArrowException as error:
        raise InputError(f"times of type {array.type}: expected times between the years 1 and 9999: {error}") from error
    micros = values.cast(pa.int64())
    outside = mask_of(pc.or_(pc.less(micros, EARLIEST), pc.greater(micros, LATEST)))
    if outside.any():
        values = pc.if_else(pa.array(outside), pa.scalar(None, CANONICAL_TIME), values)
    return Times(values, occurring((outside, UNREADABLE)), unit, zone is None and array.null_count < len(array))


def _utc(local: pa.Array, timezone: str) -> pa.Array:
    """timestamp[us, UTC] of a timestamp[us] on the local clock."""
    micros = local.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    missing = local.is_null().to_numpy(zero_copy_only=False)
    return pa.array(utc_of_local(micros, timezone), mask=missing).cast(CANONICAL_TIME)


def _from_numbers(array: pa.Array, timezone: str, unit: Unit | None, is_event_time: bool) -> Times:
    numbers: Float64 = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    finite = np.isfinite(numbers)
    whole = _whole(array, numbers)
    local, dated = local_times(whole)
    if unit is None and finite.any():
        dates = are_dates(whole[dated], int((numbers[finite] != 0).sum()))
        unit = "calendar" if dates else _unit_of(float(np.median(np.abs(numbers[finite]))))
    if unit is None:
        return Times(pa.nulls(len(array), CANONICAL_TIME), occurring((finite | np.isinf(numbers), UNREADABLE)))
    if unit == "calendar":
        values = pa.array(utc_of_local(local, timezone), mask=~dated).cast(CANONICAL_TIME)
        mixed = finite & ~dated & (whole != 0) & ~has_form(whole)
        unreadable = ~np.isnan(numbers) & ~dated & ~mixed
        return Times(values, occurring((mixed, MIXED), (unreadable, UNREADABLE)), unit, bool(dated.any()))
    return _from_epoch(array, numbers, whole, dated, unit, is_event_time)


def _whole(array: pa.Array, numbers: Float64) -> Int64:
    """The numbers that are whole and fit, exactly; 0 for others."""
    fits = np.isfinite(numbers) & (np.abs(numbers) < dict(_BELOW)["us"]) & (numbers == np.rint(numbers))
    if pa.types.is_integer(array.type):
        exact: Int64 = pc.cast(array, pa.int64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False)
        return np.where(fits, exact, 0)
    return np.where(fits, numbers, 0.0).astype(np.int64)


def _from_epoch(
    array: pa.Array, numbers: Float64, whole: Int64, dated: Bool, unit: Epoch, is_event_time: bool
) -> Times:
    """dated: (n,) where a number is a calendar number too: a mistake beside numbers that do count from 1970."""
    finite = np.isfinite(numbers)
    size = np.where(finite, np.abs(numbers), 0.0)
    mixed = size >= dict(_BELOW)[unit]
    if is_event_time:
        mixed |= (size > 0) & (size < _FROM[unit])
    if unit != "s" or (finite.any() and float(size[finite].max()) > _OF_AN_EPOCH):
        mixed |= dated & ~((whole >= 10**11) & (whole < 10**12))
    usable = finite & ~mixed
    if pa.types.is_integer(array.type):
        micros = np.where(usable, whole, 0) * _SCALE[unit]
    else:
        micros = np.rint(np.where(usable, numbers, 0.0) * _SCALE[unit]).astype(np.int64)
    outside = (micros < EARLIEST) | (micros > LATEST)
    values = pa.array(micros, mask=~usable | outside).cast(CANONICAL_TIME)
    unreadable = np.isinf(numbers) | (finite & outside)
    return Times(values, occurring((finite & mixed, MIXED), (unreadable, UNREADABLE)), unit)


def _unit_of(size: float) -> Epoch | None:
    return next((unit for unit, below in _BELOW if size < below), None)


def _from_text(array: pa.Array, timezone: str, unit: Unit | None, is_event_time: bool) -> Times:
    array = pc.utf8_trim_whitespace(array)
    array = pc.if_else(pc.equal(array, ""), pa.scalar(None, array.type), array)
    numeric = pc.match_substring_regex(array, _NUMBER)
    written = _from_written(pc.if_else(pc.fill_null(numeric, False), None, array), timezone)
    if not pc.any(numeric).as_py():
        return replace(written, unit=unit)
    chosen = pc.if_else(numeric, array, None)
    whole = not pc.any(pc.match_substring(chosen, ".")).as_py()
    counted = _from_numbers(_cast_numbers(chosen, whole=whole), timezone, unit, is_event_time)
    values = pc.coalesce(counted.values, written.values)
    return Times(values, counted.problems + written.problems, counted.unit, counted.naive or written.naive)


def _cast_numbers(texts: pa.Array, *, whole: bool) -> pa.Array:
    try:
        return texts.cast(pa.int64() if whole else pa.float64())
    except pa.ArrowException:
        return pa.array([None if text is None else float(text) for text in texts.to_pylist()], pa.float64())


def _from_written(array: pa.Array, timezone: str) -> Times:
    """ISO 8601 text: the usual forms at once, any other through the standard library."""
    naive = pc.match_substring_regex(array, _ISO)
    zoned = pc.match_substring_regex(array, _ISO_ZONE)
    is_iso = pc.fill_null(pc.or_(naive, zoned), True)
    if pc.all(is_iso).as_py():
        try:
            local = _utc(pc.if_else(naive, array, None).cast(pa.timestamp("us")), timezone)
            values = pc.coalesce(pc.if_else(zoned, array, None).cast(CANONICAL_TIME), local)
            return Times(values, naive=bool(pc.any(naive).as_py()))
        except pa.ArrowException:
            pass
    zone = ZoneInfo(timezone)
    texts = array.to_pylist()
    read = [None if text is None else _parse(text, zone) for text in texts]
    unreadable = np.array([a is not None and b is None for a, b in zip(texts, read, strict=True)], np.bool_)
    values = pa.array([None if time is None else time[0] for time in read], pa.int64()).cast(CANONICAL_TIME)
    naive = any(time is not None and time[1] for time in read)
    return Times(values, occurring((unreadable, UNREADABLE)), naive=naive)


def _parse(text: str, zone: ZoneInfo) -> tuple[int, bool] | None:
    """Microseconds and whether the text had no zone; None where it is no time."""
    try:
        time = datetime.fromisoformat(_padded(text))
        naive = time.tzinfo is None
        since = (time.replace(tzinfo=zone) if naive else time) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds, naive


def _padded(text: str) -> str:
    """A date with its year first as ISO 8601 has it: 2001/2/3 as 2001-02-03, and 2001-2 as the first of that month."""
    match = re.fullmatch(_YEAR_FIRST, text)
    if match is None:
        return text
    year, month, day, time = match.groups()
    return f"{year}-{int(month):02}-{int(day or 1):02}" + (f"T{time}" if time else "")
