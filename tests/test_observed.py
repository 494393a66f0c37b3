"""What a reading says of odd cells: times of the future and long ago, words for nothing in ids, dates that are none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from features.arrays import NO_TIME
from features.errors import InputError
from features.tables.candidates import CandidateReader
from features.tables.load import ReadOptions, load_log
from features.tables.observed import is_nothing
from features.tables.report import TableReport
from pipelines.data_options import moment_in

NOW = 1_700_000_000 * 1_000_000
ITEMS = pd.DataFrame({"item_id": ["a", "b", "c"], "title": ["Apple", "Bread", "Cheese"]})


def report_of(folder: Path, **tables: pd.DataFrame) -> TableReport:
    events = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [1_600_000_000]})
    for name, table in {"items": ITEMS, "events": events, **tables}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return load_log(folder, ReadOptions(now=NOW))[1]


def about(report: TableReport, column: str) -> list[str]:
    return [warning for warning in report.warnings if warning.startswith(f"{column}:")]


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([1_600_000_000, 1_700_000_000], []),
        ([1_700_086_400, 1_600_000_000], []),
        (["2611-02-05", "2023-01-01"], ["1 of 2 times are in the future, the last 2611-02-05T00:00:00Z"]),
        ([60, 120], ["2 of 2 times are before 1980, the first 1970-01-01T00:01:00Z"]),
    ],
)
def test_times_of_the_future_and_long_ago_are_counted(tmp_path: Path, times: list[object], said: list[str]) -> None:
    events = pd.DataFrame({"user_id": "u", "item_id": "a", "timestamp": times})
    report = report_of(tmp_path, events=events)
    found = about(report, "events.timestamp")
    assert [sentence.partition(";")[0] for sentence in found] == [f"events.timestamp: {one}" for one in said]


@pytest.mark.parametrize(
    ("dates", "odd"),
    [
        (["1813-01-28", "1970-05-01", "2020-01-01"], 0),
        ([1813, 1970, 2020], 0),
        ([19_675, 19_676, 19_677], 3),
        ([0, 1_600_000_000, 1_600_000_001], 1),
        (["0813-01-28", "2020-01-01", "2600-01-01"], 2),
    ],
)
def test_dates_are_odd_where_no_calendar_of_today_has_them(tmp_path: Path, dates: list[object], odd: int) -> None:
    warnings = about(report_of(tmp_path, items=ITEMS.assign(published_at=dates)), "items.published_at")
    assert sum(int(warning.split(": ")[1].split()[0]) for warning in warnings) == odd


@pytest.mark.parametrize("word", ["0000-00-00", "2001-13", "soon", "nan", "-", "99999999999999999999"])
def test_an_optional_date_that_is_none_never_costs_its_item(tmp_path: Path, word: str) -> None:
    items = ITEMS.assign(published_at=[word, "2020-01-01", None])
    report = report_of(tmp_path, items=items)
    assert (report.items, report.rejected) == (3, 0)
    assert report.tables["items"].emptied == {"published_at": 1}
    assert report.as_dict()["tables"]["items"]["emptied"] == {"published_at": 1}
    assert about(report, "items.published_at") == [
        f"items.published_at: 1 cells are no date and count as missing, the first in row 1 of items.csv: {word!r}"
    ]
    assert load_log(tmp_path)[0].catalog.published_at.tolist() == [NO_TIME, 1_577_836_800_000_000, NO_TIME, NO_TIME]


def test_the_time_of_an_event_that_is_none_still_rejects_it(tmp_path: Path) -> None:
    events = pd.DataFrame({"user_id": "u", "item_id": "a", "timestamp": ["0000-00-00", "2020-01-01"]})
    assert report_of(tmp_path, events=events).tables["events"].rejected == {"unreadable_time": 1}


@pytest.mark.parametrize("word", ["nan", "NaN", "null", "NULL", "None", "NA", "n/a", "-", "undefined", " ", " nan"])
def test_words_for_nothing_in_ids_are_counted_with_their_share(tmp_path: Path, word: str) -> None:
    rows = [word, "u", "v", word, "Nancy"]
    events = pd.DataFrame({"user_id": rows, "item_id": "a", "timestamp": range(1_600_000_000, 1_600_000_005)})
    (found,) = about(report_of(tmp_path, events=events), "events.user_id")
    assert found.startswith(
        f"events.user_id: 2 of 5 rows (40%) hold a word for nothing ({word!r}), which is read as an id"
    )
    assert is_nothing(word)
    assert not is_nothing("Nancy")


def test_empty_user_ids_are_counted_with_their_share(tmp_path: Path) -> None:
    events = pd.DataFrame({"user_id": [None, None, None, "u"], "item_id": "a", "timestamp": 1_600_000_000})
    (found,) = about(report_of(tmp_path, events=events), "events.user_id")
    assert found.startswith("events.user_id: 3 of 4 rows (75%) are empty")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2023-11-14", ""),
        ("20231114221320", ""),
        ("29990101", "warning: at '29990101': 2999-01-01T00:00:00Z is in the future; is its unit meant?"),
        ("2023", ""),
        ("60", "warning: at '60': 1970-01-01T00:01:00Z is before 1980; is its unit meant?"),
    ],
)
def test_an_odd_time_of_an_argument_is_said(text: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    assert moment_in(text, "UTC", "at") is not None
    assert "".join(record.getMessage() for record in caplog.records) == said
    with pytest.raises(InputError, match="at: expected ISO 8601, epoch s, ms or us, or a calendar number"):
        moment_in("0000-00-00", "UTC", "at")


def test_candidates_say_what_is_odd_in_them_too(tmp_path: Path) -> None:
    rows = pd.DataFrame({"request_id": ["1", "2"], "user_id": ["null", "u"], "item_id": "a", "timestamp": [60, 2**33]})
    rows.to_csv(tmp_path / "candidates.csv", index=False)
    reader = CandidateReader(tmp_path / "candidates.csv")
    assert sum(len(chunk) for chunk in reader) == 2
    said = " ".join(reader.warnings)
    assert "candidates.user_id: 1 of 2 rows (50%) hold a word for nothing ('null')" in said
    assert "candidates.timestamp: 1 of 2 times are before 1980" in said
    assert "candidates.timestamp: 1 of 2 times are in the future, the last 2242-" in said
