"""A log of rankings read again: which events are whose clicks, what is left out, and the figures of what was served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.clock import MINUTE, SECOND
from features.errors import InputError
from features.tables.data_settings import DataSettings
from features.tables.load import ReadOptions, read_table_rows
from features.tables.logged_columns import LOGGED
from features.tables.logged_impressions import LoggedImpressionsReport, write_logged_impressions
from pipelines import cli
from pipelines.evaluate import evaluate_served
from recsys.config import load_config

START = 1_700_000_000 * SECOND


def ranking(impression: str, at: int, items: str, **further: Any) -> list[dict[str, Any]]:
    """The rows of one answer. at: minutes after the start. items: a letter each; those after a bar were cut."""
    shown, _, cut = items.partition("|")
    common = {
        "impression_id": impression,
        "user_id": "u",
        "timestamp": START + at * MINUTE,
        "described": False,
        "history_given": False,
        "rung": "full",
        "ranker": "r/1",
        "encoder": "e/1",
        "propensity": 1.0,
        **further,
    }
    every = shown + cut
    return [
        {**common, "item_id": item, "position": rank, "score": float(len(every) - rank), "shown": rank <= len(shown)}
        for rank, item in enumerate(every, 1)
    ]


def write_log(folder: Path, *rankings: list[dict[str, Any]]) -> Path:
    """A file for each two rankings."""
    folder.mkdir()
    for number in range(0, len(rankings), 2):
        rows = [row for one in rankings[number : number + 2] for row in one]
        pq.write_table(pa.Table.from_pylist(rows, LOGGED), folder / f"rankings-{number}.parquet")
    return folder


def write_events(path: Path, *events: tuple[str, int, str | None], **further: Any) -> Path:
    """events: (item, minute, impression_id), all of user u."""
    rows = [
        {
            "user_id": "u",
            "item_id": item,
            "timestamp": START // SECOND + 60 * at,
            "impression_id": impression,
            **further,
        }
        for item, at, impression in events
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def imported(
    log: Path, events: Path, **settings: Any
) -> tuple[LoggedImpressionsReport, list[tuple[str, str, int, int]]]:
    """The report, and (list, item, position, clicked) of every row that was written."""
    out = log.parent / "out"
    report = write_logged_impressions(log, events, out, ReadOptions(DataSettings(**settings)))
    frame = pd.read_parquet(out / "impressions.parquet")
    rows = frame[["impression_id", "item_id", "position", "clicked"]]
    return report, [tuple(row) for row in rows.itertuples(index=False, name=None)]


def clicked(rows: list[tuple[str, str, int, int]]) -> list[tuple[str, str]]:
    return [(impression, item) for impression, item, _, label in rows if label]


def test_a_click_belongs_to_the_list_that_it_names_else_to_the_latest_that_showed_the_item(tmp_path: Path) -> None:
    log = write_log(
        tmp_path / "log",
        ranking("i1", 0, "ab"),
        ranking("i2", 5, "ba"),
        ranking("i3", 9, "cb"),
        ranking("i4", 10, "d"),
    )
    # a names the first; b names none and came after i3; c came 40 minutes late; d names a list that nobody logged
    events = write_events(
        tmp_path / "events.csv", ("a", 20, "i1"), ("b", 12, None), ("c", 49, None), ("d", 11, "another")
    )
    report, rows = imported(log, events)
    assert clicked(rows) == [("i1", "a"), ("i3", "b")]
    assert [row[:3] for row in rows[:4]] == [("i1", "a", 1), ("i1", "b", 2), ("i2", "b", 1), ("i2", "a", 2)]
    assert (report.impressions, report.clicked, report.clicks, report.elsewhere) == (4, 2, 4, 1)
    assert "1 clicks belong to no logged list" in report.lines()
    _, rows = imported_again(tmp_path, log, events, click_window_minutes=60)
    assert clicked(rows) == [("i1", "a"), ("i3", "c"), ("i3", "b")]


def imported_again(tmp_path: Path, log: Path, events: Path, **settings: Any) -> Any:
    (tmp_path / "out").rename(tmp_path / "before")
    return imported(log, events, **settings)


def test_only_what_was_shown_becomes_an_impression_and_views_are_no_clicks(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", ranking("i1", 0, "ab|c", query="shoes"), ranking("i2", 1, "ab", user_id=None))
    events = write_events(tmp_path / "events.csv", ("a", 1, None), ("c", 1, None), ("b", 2, "i2"))
    report, rows = imported(log, events)
    assert rows == [("i1", "a", 1, 1), ("i1", "b", 2, 0), ("i2", "a", 1, 0), ("i2", "b", 2, 1)]
    assert report.cut == 1
    assert (
        "1 lists were cut by top_k: columns within the list will differ from those that were served" in report.lines()
    )
    reader = read_table_rows(tmp_path / "out" / "impressions.parquet", "impressions")
    data = pa.Table.from_batches([checked.data for checked in reader])
    assert data.column("query").to_pylist() == ["shoes", "shoes", None, None]
    assert data.column("user_id").to_pylist() == ["u", "u", None, None]
    assert {moment.timestamp() for moment in data.column("timestamp").to_pylist()} == {
        START // SECOND,
        START // SECOND + 60,
    }
    seen = write_events(tmp_path / "seen.csv", ("a", 1, None), event_type="view")
    _, rows = imported_again(tmp_path, log, seen)
    assert clicked(rows) == []


def test_lists_outside_the_period_of_the_events_and_repeated_ids_are_left_out(tmp_path: Path) -> None:
    log = write_log(
        tmp_path / "log",
        ranking("early", 0, "ab"),
        ranking("again", 31, "ab"),
        ranking("again", 32, "ba"),
        ranking("late", 61, "ab"),
    )
    events = write_events(tmp_path / "events.csv", ("b", 60, "again"), ("x", 31, None))
    report, rows = imported(log, events)
    assert rows == [("again", "b", 1, 1), ("again", "a", 2, 0)]
    assert (report.outside, report.repeated) == (2, 1)
    with pytest.raises(InputError, match="expected lists in the period of the events"):
        write_logged_impressions(log, write_events(tmp_path / "old.csv", ("b", -90, None)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_without_a_log_and_a_file_that_is_none_are_named(tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.csv", ("a", 0, None))
    with pytest.raises(InputError, match=r"expected logged rankings.*--log-rankings"):
        write_logged_impressions(tmp_path, events, tmp_path / "out")
    log = write_log(tmp_path / "log", ranking("i1", 0, "ab"))
    (log / "rankings-z.parquet").write_text("damaged")
    with pytest.raises(InputError, match=r"rankings-z.parquet'.*as Parquet.*move it away"):
        write_logged_impressions(log, events, tmp_path / "out")
    pd.DataFrame({"item_id": ["a"]}).to_parquet(log / "rankings-z.parquet")
    with pytest.raises(InputError, match=r"columns of logged rankings.*'impression_id'"):
        write_logged_impressions(log, events, tmp_path / "out")


def test_each_version_and_rung_is_measured_on_its_own_lists(tmp_path: Path) -> None:
    log = write_log(
        tmp_path / "log",
        ranking("i1", 0, "abc"),  # clicked at the first place: mrr 1
        ranking("i2", 1, "dec", rung="no_text", user_id="v"),  # at the second: mrr .5
        ranking("i3", 2, "fg", ranker="r/2", encoder=None, user_id="w"),  # not clicked
        ranking("i4", 3, "hij", ranker="r/2", encoder=None, user_id="w"),  # at the third: mrr 1/3
    )
    events = write_events(tmp_path / "events.csv", ("a", 4, "i1"), ("e", 4, "i2"), ("j", 4, "i4"))
    report = evaluate_served(log, events, load_config(None, ("evaluation.resamples=100",)))
    found = {
        (one.ranker, one.rung): (one.lists, one.users, one.tested, one.metrics["clicked"].mean, one.metrics["mrr"].mean)
        for one in report.results
    }
    assert found == {
        ("r/1", "all"): (2, 2, 2, 1.0, 0.75),
        ("r/1", "full"): (1, 1, 1, 1.0, 1.0),
        ("r/1", "no_text"): (1, 1, 1, 1.0, 0.5),
        ("r/2", "full"): (2, 1, 1, 0.5, pytest.approx(1 / 3)),
    }
    assert report.as_dict()["served"][3]["encoder"] is None
    assert report.lines()[0].startswith("Served lists by the clicks that came, 3 of 3.")


def test_the_commands_read_a_log_and_write_their_reports(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", ranking("i1", 0, "abc"), ranking("i2", 1, "cab"))
    events = write_events(tmp_path / "events.csv", ("b", 2, "i1"))
    places = ["--events", str(events), "--json", str(tmp_path / "report.json")]

    def report(*words: str) -> dict[str, Any]:
        assert cli.run(lambda: cli.cli([*words, *places], standalone_mode=False)) == 0
        return dict(json.loads((tmp_path / "report.json").read_text()))

    rankings = report("data", "rankings", str(log), str(tmp_path / "out"))
    assert (rankings["impressions"], rankings["clicked"]) == (2, 1)
    assert len(pd.read_parquet(tmp_path / "out" / "impressions.parquet")) == 6
    (served,) = report("evaluate", "--rankings", str(log))["served"]
    assert (served["ranker"], served["lists"], served["tested"], served["mrr"]["mean"]) == ("r/1", 2, 1, 0.5)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate"],
        ["evaluate", "--rankings", "."],
        ["evaluate", ".", "--rankings", ".", "--events", "."],
        ["evaluate", "--rankings", ".", "--events", ".", "--all"],
        ["audit", ".", "--logged", "."],
        ["audit", ".", "--logged", ".", "--model", "models:/a-ranker/1", "--replay"],
    ],
)
def test_arguments_that_do_not_go_together_are_refused(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        cli.cli(words, standalone_mode=False)
