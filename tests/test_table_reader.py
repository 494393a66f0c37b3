"""Cells and rows: what each kind of column accepts, and what is rejected for which reason."""

import json
import resource
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError, RecsysError
from features.tables.cells import parse_cells, read_text
from features.tables.encodings import FileOptions
from features.tables.rejects import Rejects
from features.tables.schema import EVENTS, IMPRESSIONS, ITEMS, ColumnSpec, Kind, Schema
from features.tables.table_reader import TableReader
from features.tables.timestamps import MIXED, UNREADABLE, read_times

NOON = 1_704_110_400  # 2024-01-01 12:00 UTC
MICROS = NOON * 1_000_000


def cells(
    kind: Kind, values: pa.Array | list[Any], *, textual: bool = False
) -> tuple[list[Any], list[tuple[int, str]]]:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    found = parse_cells(read_text(array).values, ColumnSpec("x", kind), textual=textual)
    problems = [(int(row), why) for bad, why in found.problems for row in np.flatnonzero(bad)]
    return found.values.to_pylist(), problems


def times(
    values: pa.Array | list[Any], *, timezone: str = "UTC", is_event_time: bool = True
) -> tuple[list[Any], list[int], list[int], str | None]:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    found = read_times(read_text(array).values, timezone=timezone, unit=None, is_event_time=is_event_time)
    assert found is not None
    micros = found.values.cast(pa.int64()).to_pylist()
    unreadable, mixed = (
        sorted(row for bad, why in found.problems if why == reason for row in np.flatnonzero(bad))
        for reason in (UNREADABLE, MIXED)
    )
    return micros, unreadable, mixed, found.unit


def table(
    folder: Path, schema: Schema, content: str, name: str = "t.csv"
) -> tuple[list[dict[str, Any]], TableReader, Rejects]:
    file = folder / name
    file.write_text(content)
    rejects = Rejects(None)
    reader = TableReader(file, schema, timezone="UTC", rejects=rejects)
    rows = [row for checked in reader for row in checked.data.to_pylist()]
    return rows, reader, rejects


def test_whole_number_ids_become_decimal_text_and_empty_ones_null() -> None:
    assert cells("id", pa.array([7, None, -1], pa.int64())) == (["7", None, "-1"], [])
    assert cells("id", ["007", "", None, "1.5"]) == (["007", None, None, "1.5"], [])
    assert cells("id", pa.array(["a", "b", "a"]).dictionary_encode())[0] == ["a", "b", "a"]


def test_float_ids_are_refused_as_a_column_and_rejected_where_everything_is_text() -> None:
    with pytest.raises(InputError, match="column 'x': expected text, whole numbers or 16-byte UUIDs, got double"):
        cells("id", [1.0, 2.0])
    values, problems = cells("id", ["12.0", "1e+05", "v1.2", "12e4", "3"], textual=True)
    assert problems == [(0, "float_id"), (1, "float_id")]
    assert values[2:] == ["v1.2", "12e4", "3"]


def test_bytes_that_are_no_utf8_are_rejected_one_by_one() -> None:
    found = read_text(pa.array([b"ok", b"\xff\xfe", None, "日本".encode()], pa.binary()))
    assert found.values.to_pylist() == ["ok", None, None, "日本"]
    ((bad, reason),) = found.problems
    assert (list(bad), reason) == ([False, True, False, False], "invalid_utf8")


def test_labels_are_small_whole_numbers_or_flags() -> None:
    assert cells("label", [0, 1, 3, None]) == ([0, 1, 3, None], [])
    assert cells("label", [True, False]) == ([1, 0], [])
    assert cells("label", [1.0, 0.5, -1.0, 31.0]) == (
        [1, None, None, None],
        [(1, "wrong_type"), (2, "out_of_range"), (3, "out_of_range")],
    )
    assert cells("label", ["1", "true", "False", "2", "x", " 0 "]) == ([1, 1, 0, 2, None, 0], [(4, "wrong_type")])


def test_numbers_take_the_usual_words_for_nothing_and_refuse_infinity() -> None:
    values, problems = cells("number", ["1.5", "-2", "1e3", "NaN", "NA", "", "12,5", "1e999"])
    assert values == [1.5, -2.0, 1000.0, None, None, None, None, None]
    assert problems == [(6, "wrong_type"), (7, "wrong_type")]
    assert cells("number", [1.5, float("nan"), float("inf")]) == ([1.5, None, None], [(2, "wrong_type")])


def test_flags_read_booleans_numbers_and_words() -> None:
    assert cells("flag", ["true", "0", "NO", "maybe", ""]) == ([True, False, False, None, None], [(3, "wrong_type")])
    assert cells("flag", [1, 0, 2, None]) == ([True, False, None, None], [(2, "wrong_type")])


def test_vectors_come_as_lists_or_as_text() -> None:
    assert cells("vector", [[1.0, 0.5], None]) == ([[1.0, 0.5], None], [])
    assert cells("vector", ["[1, 0.5]", "1 0.5", "1|0.5", "one"]) == ([[1, 0.5]] * 3 + [None], [(3, "wrong_type")])
    assert cells("vector", [[1.0, float("nan")]])[1] == [(0, "wrong_type")]


def test_a_list_of_categories_is_joined_and_other_nested_columns_are_refused() -> None:
    assert cells("category", [["a", "b"], [], None])[0] == ["a|b", "", None]
    with pytest.raises(InputError, match="expected text"):
        cells("text", [{"a": 1}])


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-01T12:00:00Z",
        "2024-01-01 12:00",
        "2024-01-01T14:00:00+02:00",
        "2024-01-01T14:00:00.000+0200",
        "2024-01-01T12:00:00.000000123",
        "20240101T120000Z",
    ],
)
def test_one_moment_in_many_ways_of_writing(text: str) -> None:
    assert times([text]) == ([MICROS], [], [], None)
    assert times([text, "2024-01-01", None])[0] == [MICROS, MICROS - 43_200_000_000, None]


def test_times_without_a_zone_are_in_the_named_one() -> None:
    assert times(["2024-01-01T12:00"], timezone="Asia/Tokyo")[0] == [MICROS - 9 * 3_600_000_000]
    naive = pa.array([datetime(2024, 1, 1, 12)], pa.timestamp("ms"))
    assert times(naive, timezone="Asia/Tokyo")[0] == [MICROS - 9 * 3_600_000_000]
    assert times(["20240101T120000"], timezone="Asia/Tokyo")[0] == [MICROS - 9 * 3_600_000_000]
    # 02:30 does not exist on this day in Berlin; it is read rather than refused
    assert times(["2024-03-31T02:30:00"], timezone="Europe/Berlin")[1] == []


def test_an_unknown_zone_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("item_id,title\n1,a\n")
    with pytest.raises(InputError, match="'Mars/Olympus'"):
        TableReader(tmp_path / "t.csv", ITEMS, timezone="Mars/Olympus", rejects=Rejects(None))


@pytest.mark.parametrize(("scale", "unit"), [(1, "s"), (1_000, "ms"), (1_000_000, "us")])
def test_the_epoch_unit_is_told_by_size_as_number_and_as_text(scale: int, unit: str) -> None:
    assert times([NOON * scale, None]) == ([MICROS, None], [], [], unit)
    assert times([str(NOON * scale)]) == ([MICROS], [], [], unit)
    assert times([float(NOON * scale)]) == ([MICROS], [], [], unit)


def test_a_number_of_another_unit_than_its_column_is_no_moment_but_may_be_an_old_date() -> None:
    millis = [NOON * 1_000, NOON * 1_000 + 1, NOON]
    assert times(millis)[2] == [2]
    assert times(millis, is_event_time=False)[2] == []
    assert times([NOON, NOON, NOON * 1_000])[2] == [2]


def test_what_is_no_time_is_unreadable() -> None:
    assert times(["yesterday", "2024-13-01", "2024-01-01", "31/12/2024", ""])[1] == [0, 1, 3]
    assert times([10**18])[1] == [0]
    assert read_times(pa.array([[1]]), timezone="UTC", unit=None, is_event_time=True) is None


@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), min_size=1, max_size=20), st.booleans())
@settings(max_examples=80, deadline=None)
def test_iso_text_and_timestamps_agree_with_the_standard_library(moments: list[datetime], zoned: bool) -> None:
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    since = [moment - datetime(1970, 1, 1, tzinfo=UTC) for moment in aware]
    expected = [(d.days * 86_400 + d.seconds) * 1_000_000 + d.microseconds for d in since]
    assert times([(a if zoned else m).isoformat() for a, m in zip(aware, moments, strict=True)])[0] == expected
    assert times(pa.array(aware if zoned else moments, pa.timestamp("us", "UTC" if zoned else None)))[0] == expected


@given(st.lists(st.one_of(st.text(max_size=12), st.just("2024-01-01")), max_size=12))
@settings(max_examples=150, deadline=None)
def test_no_text_in_a_time_column_breaks_the_reading(texts: list[str]) -> None:
    micros, unreadable, mixed, _ = times(pa.array(texts, pa.large_string()))
    for row, text in enumerate(texts):
        assert (micros[row] is None) == (not text.strip() or row in unreadable or row in mixed)


def test_rows_are_rejected_once_with_file_row_reason_field_and_value(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text("user_id,item_id,timestamp\nu,1,2024-01-01\nu,,2024-01-01\nu,3,soon\n,4,2024-01-02\nu,5.0,never\n")
    with Rejects(tmp_path / "rejects") as rejects:
        reader = TableReader(file, EVENTS, timezone="UTC", rejects=rejects, files=FileOptions(max_rejects=0.6))
        rows = [row for checked in reader for row in checked.data.to_pylist()]
    assert [(row["user_id"], row["item_id"]) for row in rows] == [("u", "1"), (None, "4")]
    assert (reader.n_rows, reader.n_kept) == (5, 2)
    lines = [json.loads(line) for line in (tmp_path / "rejects" / "events.jsonl").read_text().splitlines()]
    assert lines == [
        {"file": str(file), "row": 2, "reason": "missing_value", "field": "item_id", "value": None},
        {"file": str(file), "row": 3, "reason": "unreadable_time", "field": "timestamp", "value": "soon"},
        {"file": str(file), "row": 5, "reason": "float_id", "field": "item_id", "value": "5.0"},
    ]
    assert rejects.by_reason("events") == {"float_id": 1, "missing_value": 1, "unreadable_time": 1}


def test_a_reject_file_of_an_interrupted_reading_vanishes_and_of_a_failed_one_stays(tmp_path: Path) -> None:
    def read(error: type[BaseException]) -> Iterable[str]:
        (tmp_path / "t.csv").write_text("item_id,title\n,a\n1,b\n")
        with pytest.raises(error), Rejects(tmp_path / "rejects") as rejects:
            list(TableReader(tmp_path / "t.csv", ITEMS, timezone="UTC", rejects=rejects))
            raise error
        return sorted(path.name for path in (tmp_path / "rejects").iterdir())

    assert read(KeyboardInterrupt) == []
    assert read(InputError) == ["items.jsonl"]


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t.csv': expected a column 'title' in items, found \['item_id', 'name'\]"):
        table(tmp_path, ITEMS, "item_id,name\n1,a\n")


def test_a_table_without_a_usable_row_says_what_the_first_one_was(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"none of its 2 rows can be used; the first: row 1, unreadable_time, .*'tick'"
    ):
        table(tmp_path, EVENTS, "user_id,item_id,timestamp\nu,1,tick\nu,2,tock\n")
    with pytest.raises(InputError, match="expected at least one row, found none"):
        table(tmp_path, EVENTS, "user_id,item_id,timestamp\n")


def test_the_unit_of_times_is_found_for_each_file_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    written = {"a": NOON * 1_000, "b": NOON, "c": 20240101120000, "d": "2024-01-01 12:00", "e": NOON}
    for name, time in written.items():
        pq.write_table(pa.table({"user_id": ["u"], "item_id": [1], "timestamp": [time]}), folder / f"{name}.parquet")
    rejects = Rejects(None)
    reader = TableReader(folder, EVENTS, timezone="UTC", rejects=rejects)
    found = [checked.data.column("timestamp").cast("int64").to_pylist() for checked in reader]
    assert found == [[MICROS]] * 5
    assert reader.units == {
        "timestamp": "epoch ms in a.parquet, epoch s in b.parquet, e.parquet, calendar numbers in c.parquet, "
        "ISO 8601 in d.parquet"
    }


def test_a_number_of_another_unit_than_its_files_is_rejected_in_any_batch(tmp_path: Path) -> None:
    rows = [f"u,1,{NOON + place}" for place in range(3)] + [f"u,1,{NOON * 1_000}"]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    rejects = Rejects(None)
    reader = TableReader(tmp_path / "events.csv", EVENTS, timezone="UTC", rejects=rejects)
    assert sum(len(checked.rows) for checked in reader) == 3
    assert reader.units == {"timestamp": "epoch s"}
    assert rejects.by_reason("events") == {"time_unit_mixed": 1}


def test_an_optional_column_may_stand_in_some_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "items"
    folder.mkdir()
    (folder / "a.csv").write_text("item_id,title\n01,a\n")
    (folder / "b.jsonl").write_text('{"item_id": 2, "title": "b", "description": "B"}\n')
    reader = TableReader(folder, ITEMS, timezone="UTC", rejects=Rejects(None))
    rows = [row for checked in reader for row in checked.data.to_pylist()]
    assert [(row["item_id"], row["description"]) for row in rows] == [("01", None), ("2", "B")]


def test_impressions_without_a_label_are_rejected(tmp_path: Path) -> None:
    content = "impression_id,user_id,timestamp,item_id,clicked\ni,u,2024-01-01,1,\ni,u,2024-01-01,2,1\n"
    rows, _, rejects = table(tmp_path, IMPRESSIONS, content)
    assert [row["item_id"] for row in rows] == ["2"]
    assert rejects.by_reason("impressions") == {"missing_value": 1}


def test_a_full_disk_under_the_reject_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("item_id,title\n" + ",a\n" * 5_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        full = pytest.raises(RecsysError, match=r"output .*items.jsonl' cannot be written: File too large")
        with full, Rejects(tmp_path / "rejects") as rejects:
            list(TableReader(tmp_path / "t.csv", ITEMS, timezone="UTC", rejects=rejects))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "rejects").iterdir()) == []


def test_a_reading_without_rejects_removes_those_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("old")
    with Rejects(tmp_path) as rejects:
        rejects.clear(("items", "events"))
    assert list(tmp_path.iterdir()) == []
