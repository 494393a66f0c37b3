"""Times as people write them: digits that are dates, one rule for local times, and the same answer on every path."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.tables.time_zones import utc_of_local
from features.tables.timestamps import MIXED, UNREADABLE, Times, parse_time, read_times

BERLIN = "Europe/Berlin"


def column(
    values: list[Any] | pa.Array, *, timezone: str = "UTC", is_event_time: bool = True
) -> tuple[list[str | None], list[int], list[int], str | None]:
    """Times as text, rows that are unreadable, rows of another unit, and the unit."""
    array = values if isinstance(values, pa.Array) else pa.array(values)
    array = array.cast(pa.large_string()) if pa.types.is_string(array.type) else array
    found = read_times(array, timezone=timezone, unit=None, is_event_time=is_event_time)
    assert found is not None
    texts = [None if one is None else said(one) for one in found.values.cast(pa.int64()).to_pylist()]
    return texts, rows_of(found, UNREADABLE), rows_of(found, MIXED), found.unit


def rows_of(times: Times, reason: str) -> list[int]:
    return sorted(row for bad, why in times.problems if why == reason for row in np.flatnonzero(bad).tolist())


def said(micros: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(microseconds=micros)).isoformat()


def one(value: str | float, timezone: str = "UTC") -> str | None:
    micros = parse_time(value, timezone)
    return None if micros is None else said(micros)


@pytest.mark.parametrize(
    ("number", "time"),
    [
        (2016, "2016-01-01T00:00:00"),
        (1813, "1813-01-01T00:00:00"),
        (201605, "2016-05-01T00:00:00"),
        (20160229, "2016-02-29T00:00:00"),
        (202311142213, "2023-11-14T22:13:00"),
        (20231114221320, "2023-11-14T22:13:20"),
        (20231114221320123, "2023-11-14T22:13:20.123000"),
    ],
)
def test_a_number_whose_digits_are_a_date_is_that_date_in_columns_and_alone(number: int, time: str) -> None:
    assert column([number, None]) == ([time, None], [], [], "calendar")
    assert column([str(number)])[0] == [time]
    if number < 2**53:
        assert column([float(number), None])[0] == [time, None]
    assert one(number) == one(str(number)) == one(f" {number} ") == time


def test_calendar_numbers_are_local_times() -> None:
    assert column([20230701120000], timezone=BERLIN)[0] == [one(20230701120000, BERLIN)] == ["2023-07-01T10:00:00"]
    assert one("20230701", BERLIN) == one("2023-07-01", BERLIN) == "2023-06-30T22:00:00"


@pytest.mark.parametrize("number", [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, 60, 999, 4_102_444_800])
def test_numbers_since_1970_stay_what_they_are(number: int) -> None:
    seconds = number / (1 if number < 1e11 else 1e3 if number < 1e14 else 1e6)
    expected = (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()
    assert column([number])[0] == [one(number)] == [expected]


def test_counts_that_pass_through_the_years_are_no_years() -> None:
    assert column(list(range(0, 4000, 10)))[3] == "s"
    assert column([1999, 2004, 2010, 2011, 2012, 2013, 2014, 2015, 2016, 2017])[3] == "calendar"


def test_digits_that_are_no_date_are_refused_beside_dates() -> None:
    texts, unreadable, mixed, unit = column([20231114, 20231115, 20231116, 20231117, 20231314, 0, 1_700_000_000])
    assert texts[:4] == [f"2023-11-{day}T00:00:00" for day in (14, 15, 16, 17)]
    assert (texts[4:], unreadable, mixed, unit) == ([None] * 3, [4, 5], [6], "calendar")


def test_a_date_among_numbers_since_1970_is_a_mistake_and_no_time_of_1970() -> None:
    rows = [1_700_000_000, 1_700_000_060, 1_700_000_120, 2016, 20160503, 20231114221320]
    for is_event_time in (True, False):
        texts, _, mixed, unit = column(rows, is_event_time=is_event_time)
        assert (texts[3:], mixed, unit) == ([None, None, None], [3, 4, 5], "s")
    assert column([1_700_000_000_000, 1_700_000_060_000, 20231114221320])[1:] == ([], [2], "ms")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2001-2", "2001-02-01T00:00:00"),
        ("2001-02", "2001-02-01T00:00:00"),
        ("2001/2/3", "2001-02-03T00:00:00"),
        ("2001.2.3", "2001-02-03T00:00:00"),
        ("2001-2-3 10:20:30", "2001-02-03T10:20:30"),
        ("2001/02/03 10:20:30+02:00", "2001-02-03T08:20:30"),
        ("2001-13", None),
        ("0000-00-00", None),
        ("0000-00-00 00:00:00", None),
        ("2001-00-00", None),
        ("nan", None),
    ],
)
def test_dates_with_their_year_first_are_read_and_others_are_none(text: str, time: str | None) -> None:
    assert column([text, "2001-02-03"])[0] == [time, "2001-02-03T00:00:00"]
    assert one(text) == time


def every_path(local: datetime, timezone: str) -> set[str | None]:
    """A local time as text, alone and beside a value that the fast reading does not take; as a Parquet timestamp; as a
    calendar number; and as a request has it."""
    text = local.isoformat(" ")
    naive = pa.array([local], pa.timestamp("us"))
    digits = int(local.strftime("%Y%m%d%H%M%S"))
    return {
        column([text], timezone=timezone)[0][0],
        column([text, "2023-01-01 00:00:00.1234567"], timezone=timezone)[0][0],
        column(naive, timezone=timezone)[0][0],
        column(naive.cast(pa.timestamp("ns")), timezone=timezone)[0][0],
        column([digits], timezone=timezone)[0][0],
        one(text, timezone),
        one(digits, timezone),
    }


@pytest.mark.parametrize(
    ("local", "timezone", "utc"),
    [
        ("2023-03-26 02:30:00", BERLIN, "2023-03-26T01:30:00"),
        ("2023-03-26 02:00:00", BERLIN, "2023-03-26T01:00:00"),
        ("2023-03-26 03:00:00", BERLIN, "2023-03-26T01:00:00"),
        ("2023-03-26 01:59:59", BERLIN, "2023-03-26T00:59:59"),
        ("2023-10-29 02:30:00", BERLIN, "2023-10-29T00:30:00"),
        ("2023-10-29 03:00:00", BERLIN, "2023-10-29T02:00:00"),
        ("2023-03-26 00:30:00", "Asia/Beirut", "2023-03-25T22:30:00"),
        ("2018-11-04 00:15:00", "America/Sao_Paulo", "2018-11-04T03:15:00"),
        ("2018-02-17 23:30:00", "America/Sao_Paulo", "2018-02-18T01:30:00"),
        ("2100-07-01 12:00:00", BERLIN, "2100-07-01T10:00:00"),
    ],
)
def test_a_local_time_that_no_clock_or_two_clocks_show_is_one_moment_on_every_path(
    local: str, timezone: str, utc: str
) -> None:
    assert every_path(datetime.fromisoformat(local), timezone) == {utc}


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(datetime(1910, 1, 1), datetime(2060, 1, 1)).map(lambda time: time.replace(microsecond=0)),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu", "UTC"]),
)
def test_every_path_says_what_the_standard_library_says(local: datetime, timezone: str) -> None:
    expected = local.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC).replace(tzinfo=None).isoformat()
    assert every_path(local, timezone) == {expected}


def test_days_are_looked_up_once_and_changing_days_by_the_moment() -> None:
    shown = [datetime(2023, 3, 26) + timedelta(minutes=15 * k) for k in range(96)]
    local = np.array([(time - datetime(1970, 1, 1)) // timedelta(microseconds=1) for time in shown])
    expected = [time.replace(tzinfo=ZoneInfo(BERLIN)).timestamp() * 1e6 for time in shown]
    assert utc_of_local(local, BERLIN).tolist() == expected


def test_timestamps_beyond_the_calendar_are_unreadable_in_any_zone() -> None:
    beyond = pa.array([2**62, 0], pa.timestamp("us"))
    assert column(beyond, timezone=BERLIN)[:2] == ([None, "1969-12-31T23:00:00"], [0])
