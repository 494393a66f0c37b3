"""Times as people write them, read as microseconds since the epoch, UTC.

Timestamps and dates of any unit, ISO 8601 text with or without a zone, and epoch seconds, milliseconds or
microseconds as numbers or as text. Which epoch unit a column uses is told by the size of its numbers: below 1e11
seconds (until the year 5138), below 1e14 milliseconds (from 1973), below 1e17 microseconds (from 1973).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import InputError
from features.log import Bool, Float64

Unit = Literal["s", "ms", "us"]

CANONICAL_TIME = pa.timestamp("us", "UTC")
_SCALE: dict[Unit, int] = {"s": 1_000_000, "ms": 1_000, "us": 1}
_BELOW: tuple[tuple[Unit, float], ...] = (("s", 1e11), ("ms", 1e14), ("us", 1e17))
_EARLIEST = -62_135_596_800_000_000
_LATEST = 253_402_300_799_999_999
_LONGEST_WHOLE = 30
_NUMBER = r"^\s*[+-]?\d+(\.\d*)?\s*$"
_ISO = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?$"
_ISO_ZONE = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True)
class Times:
    """values: (n,) timestamp[us, UTC], null where there is none. unreadable: (n,) True where there was something that
    is no time. mixed: (n,) True for numbers of another unit than the column's. unit: the epoch unit, None while no
    number was seen. naive: whether a time without a zone was read."""

    values: pa.Array
    unreadable: Bool
    mixed: Bool
    unit: Unit | None
    naive: bool = False


def check_zone(name: str) -> str:
    """`name`, if it is an IANA time zone; InputError otherwise."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError) as error:
        raise InputError(f"timezone: expected an IANA name such as 'Europe/Berlin' or 'UTC', got {name!r}") from error
    return name


def moment_of(value: str | int | float, timezone: str) -> int | None:
    """Microseconds since the epoch of one time as people write it, None where it is none; see `read_times`.

    timezone: IANA name for a text without a zone. A number's unit is told by its size alone.
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
    micros = value * _SCALE[unit] if isinstance(value, int) else round(value * _SCALE[unit])
    return micros if _EARLIEST <= micros <= _LATEST else None


def read_times(array: pa.Array, *, timezone: str, unit: Unit | None, moment: bool) -> Times | None:
    """The times of a column, None where its type holds no times.

    timezone: IANA name for times without a zone. unit: epoch unit found earlier in this column. moment: the column says
    when something happened, so that a number of another unit is a mistake rather than a date long ago.
    """
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _from_timestamps(array, timezone, unit)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _from_numbers(array, unit, moment)
    if pa.types.is_large_string(kind):
        return _from_text(array, timezone, unit, moment)
    if pa.types.is_null(kind):
        nothing = np.zeros(len(array), np.bool_)
        return Times(pa.nulls(len(array), CANONICAL_TIME), nothing, nothing, unit)
    return None


def _mask(array: pa.Array) -> Bool:
    found: Bool = array.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _from_timestamps(array: pa.Array, timezone: str, unit: Unit | None) -> Times:
    zone = getattr(array.type, "tz", None)
    try:
        micros = array.cast(pa.timestamp("us", zone), safe=False)
        naive = zone is None
        if naive:
            micros = pc.assume_timezone(micros, timezone, ambiguous="earliest", nonexistent="earliest")
        values = micros.cast(CANONICAL_TIME)
    except pa.ArrowException as error:
        raise InputError(f"times of type {array.type}: expected times between the years 1 and 9999: {error}") from error
    nothing = np.zeros(len(array), np.bool_)
    return Times(values, _out_of_range(values), nothing, unit, naive and array.null_count < len(array))


def _out_of_range(values: pa.Array) -> Bool:
    micros = values.cast(pa.int64())
    return _mask(pc.or_(pc.less(micros, _EARLIEST), pc.greater(micros, _LATEST)))


def _from_numbers(array: pa.Array, unit: Unit | None, moment: bool) -> Times:
    numbers: Float64 = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    present = np.isfinite(numbers)
    infinite = np.isinf(numbers)
    if unit is None and present.any():
        unit = _unit_of(float(np.median(np.abs(numbers[present]))))
    if unit is None:
        unreadable = present | infinite
        return Times(pa.nulls(len(array), CANONICAL_TIME), unreadable, np.zeros(len(array), np.bool_), None)
    size = np.where(present, np.abs(numbers), 0.0)
    mixed = size >= dict(_BELOW)[unit]
    if moment:
        mixed |= (size > 0) & (size < _lower_bound(unit))
    whole = np.where(present & ~mixed, numbers, 0.0)
    if pa.types.is_integer(array.type):
        exact = pc.cast(array, pa.int64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False)
        micros = np.where(present & ~mixed, exact, 0) * _SCALE[unit]
    else:
        micros = np.rint(whole * _SCALE[unit]).astype(np.int64)
    outside = (micros < _EARLIEST) | (micros > _LATEST)
    usable = present & ~mixed & ~outside
    values = pa.array(micros, mask=~usable).cast(CANONICAL_TIME)
    return Times(values, infinite | (present & outside), present & mixed, unit)


def _unit_of(size: float) -> Unit | None:
    return next((unit for unit, below in _BELOW if size < below), None)


def _lower_bound(unit: Unit) -> float:
    return {"s": 0.0, "ms": 1e11, "us": 1e14}[unit]


def _from_text(array: pa.Array, timezone: str, unit: Unit | None, moment: bool) -> Times:
    array = pc.utf8_trim_whitespace(array)
    array = pc.if_else(pc.equal(array, ""), pa.scalar(None, array.type), array)
    numeric = pc.match_substring_regex(array, _NUMBER)
    parts: list[Times] = []
    if pc.any(numeric).as_py():
        chosen = pc.if_else(numeric, array, None)
        whole = not pc.any(pc.match_substring(chosen, ".")).as_py()
        parts.append(_from_numbers(_cast_numbers(chosen, whole=whole), unit, moment))
    written = _from_written(pc.if_else(pc.fill_null(numeric, False), None, array), timezone)
    if not parts:
        return Times(written.values, written.unreadable, written.mixed, unit, written.naive)
    counted = parts[0]
    values = pc.coalesce(counted.values, written.values)
    return Times(values, counted.unreadable | written.unreadable, counted.mixed, counted.unit, written.naive)


def _cast_numbers(texts: pa.Array, *, whole: bool) -> pa.Array:
    try:
        return texts.cast(pa.int64() if whole else pa.float64())
    except pa.ArrowException:
        return pa.array([None if text is None else float(text) for text in texts.to_pylist()], pa.float64())


def _from_written(array: pa.Array, timezone: str) -> Times:
    """ISO 8601 text: the usual forms at once, any other through the standard library."""
    naive = pc.match_substring_regex(array, _ISO)
    zoned = pc.match_substring_regex(array, _ISO_ZONE)
    found = pc.fill_null(pc.or_(naive, zoned), True)
    nothing = np.zeros(len(array), np.bool_)
    if pc.all(found).as_py():
        try:
            local = pc.if_else(naive, array, None).cast(pa.timestamp("us"))
            local = pc.assume_timezone(local, timezone, ambiguous="earliest", nonexistent="earliest")
            values = pc.coalesce(pc.if_else(zoned, array, None).cast(CANONICAL_TIME), local.cast(CANONICAL_TIME))
            return Times(values, nothing, nothing, None, bool(pc.any(naive).as_py()))
        except pa.ArrowException:
            pass
    zone = ZoneInfo(timezone)
    texts = array.to_pylist()
    read = [None if text is None else _parse(text, zone) for text in texts]
    unreadable = np.array([a is not None and b is None for a, b in zip(texts, read, strict=True)], np.bool_)
    values = pa.array([None if found is None else found[0] for found in read], pa.int64()).cast(CANONICAL_TIME)
    return Times(values, unreadable, nothing, None, any(found is not None and found[1] for found in read))


def _parse(text: str, zone: ZoneInfo) -> tuple[int, bool] | None:
    """Microseconds and whether the text had no zone; None where it is no ISO 8601 time."""
    try:
        time = datetime.fromisoformat(text)
        naive = time.tzinfo is None
        since = (time.replace(tzinfo=zone) if naive else time) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds, naive
