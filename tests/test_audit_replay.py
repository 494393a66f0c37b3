"""The replay: what reaches a store and when, zero differences of real paths, and a planted one named with its row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audited_site import planted, site_folder, tiny_base

from features.arrays import Float64
from features.clock import SECOND
from features.online.events import Impression, IncomingEvent
from features.online.reader import OnlineReader
from features.tables.load import ReadOptions
from pipelines import audit as commands
from pipelines.audit import replay, training_context
from pipelines.replay_feed import arriving
from recsys.audit.context import AuditContext

START = 1_000_000


def write_tables(
    folder: Path, rows: list[tuple[str, int, str, int]], events: list[tuple[str, int, str | None]]
) -> Path:
    """rows: (list, second, item, clicked), all of user u. events: (item, second, list that they name)."""
    pd.DataFrame({"item_id": list("abc"), "title": "t"}).to_csv(folder / "items.csv", index=False)
    lists = pd.DataFrame(rows, columns=["impression_id", "timestamp", "item_id", "clicked"]).assign(user_id="u")
    happened = pd.DataFrame(events, columns=["item_id", "timestamp", "impression_id"]).assign(user_id="u")
    for name, frame in (("impressions", lists), ("events", happened)):
        frame.assign(timestamp=frame["timestamp"] + START).to_csv(folder / f"{name}.csv", index=False)
    return folder


def arrivals(folder: Path) -> list[tuple[int, str]]:
    """(second, what) of everything that arrives: an event's item, or a list's id and its clicked items."""
    feed = arriving(folder, ReadOptions())
    told = []
    for time, one in zip(feed.time.tolist(), feed.arrivals, strict=True):
        what = (
            f"event {one.item_id}"
            if isinstance(one, IncomingEvent)
            else f"list {one.impression_id} {''.join(one.clicked)}"
        )
        told.append((time // SECOND - START, what.strip()))
    return told


def test_a_click_arrives_with_its_event_and_a_list_without_it(tmp_path: Path) -> None:
    write_tables(tmp_path, [("i", 0, "a", 1), ("i", 0, "b", 0)], [("a", 60, None), ("c", 30, None)])
    assert arrivals(tmp_path) == [(0, "list i"), (30, "event c"), (60, "list i a"), (60, "event a")]


def test_a_clicked_row_without_an_event_arrives_with_its_list(tmp_path: Path) -> None:
    write_tables(tmp_path, [("i", 0, "a", 1), ("i", 0, "b", 0)], [("a", 9_000, None)])
    assert arrivals(tmp_path) == [(0, "list i"), (0, "list i a"), (9_000, "event a")]


def test_an_event_stamped_before_its_list_arrives_with_it(tmp_path: Path) -> None:
    write_tables(tmp_path, [("i", 50, "a", 1), ("i", 50, "b", 0)], [("a", 40, "i")])
    assert arrivals(tmp_path) == [(50, "list i"), (50, "list i a"), (50, "event a")]


def test_a_sampled_list_arrives_only_with_its_clicks(tmp_path: Path) -> None:
    write_tables(tmp_path, [("i", 0, "a", 1), ("i", 0, "b", 0)], [("a", 0, None)])
    path = tmp_path / "impressions.csv"
    pd.read_csv(path).assign(sampled=True).to_csv(path, index=False)
    feed = arriving(tmp_path, ReadOptions())
    lists = [one for one in feed.arrivals if isinstance(one, Impression)]
    assert [(one.clicked, one.sampled) for one in lists] == [(("a",), True)]


@pytest.mark.kernels
@pytest.mark.parametrize("delay", [0, 900])
def test_a_simulated_site_replays_without_a_difference(delay: int) -> None:
    folder, config = site_folder()
    data = config.data.model_copy(update={"event_delay_seconds": float(delay)})
    times = training_context(folder, config).log.impressions.requests.time
    report = replay(folder, config.model_copy(update={"data": data}), end=int(times[300]))
    assert report.differences == ()
    assert report.lists == 300
    assert report.lines()[-1].startswith(f"0 differences in {report.rows * report.columns:,} values: {report.columns}")
    assert report.refused == {}


def is_online(reader: object) -> Float64:
    rows = reader.requests.n_rows  # type: ignore[attr-defined]
    return np.full(rows, 3.0 if isinstance(reader, OnlineReader) else 1.0)


def test_a_difference_names_the_column_its_size_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config = site_folder()
    context = training_context(folder, config)
    times = context.log.impressions.requests.time

    def leaking(*_: object, **__: object) -> AuditContext:
        return replace(context, features=(*context.features, planted("request_path", is_online)))

    monkeypatch.setattr(commands, "open_context", leaking)
    report = replay(folder, config, start=int(times[100]), end=int(times[110]))
    assert [(one.column, one.rows, one.largest) for one in report.differences] == [("request_path", report.rows, 2.0)]
    row = report.differences[0].row
    assert (row.impression_id, row.before, row.after) == (context.log.impressions.ids[100], 1.0, 3.0)
    assert not report.passed
    assert f"request_path: {report.rows:,} rows differ, by 2 at most" in report.lines()
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["differences"][0]["column"] == "request_path"


def test_a_period_is_fed_with_everything_before_it() -> None:
    folder, config = site_folder()
    times = training_context(folder, config).log.impressions.requests.time
    report = replay(folder, config, start=int(times[3000]), end=int(times[3100]))
    assert (report.lists, report.passed) == (100, True)
    assert report.arrivals > 3000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["movielens", "amazon-office"])
def test_the_end_of_a_real_log_replays_without_a_difference(name: str, shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / name
    config = tiny_base(tmp_path / "base", data)
    times = pd.read_parquet(data / "impressions.parquet", columns=["timestamp"])["timestamp"].drop_duplicates()
    start = int(times.sort_values().iloc[-150].timestamp()) * SECOND
    report = replay(data, config, start=start)
    assert report.lists >= 150
    assert report.differences == (), "\n".join(report.lines())
