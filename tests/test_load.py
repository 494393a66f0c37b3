"""Tables into the online store: what is counted, what is encoded, what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_logs import read_online
from small_ranking_model import SmallSite, small_site

from features.arrays import NO_TIME
from features.definitions.aggregates import CLICK, IMPRESSION, ITEM, Count
from features.errors import InputError, StoreError
from features.log import Requests
from features.offline.reader import LogIndex
from features.online.keys import user_key
from features.online.state import OnlineState
from features.stores.open import open_store
from features.tables.encodings import FileOptions
from pipelines.load import events_into, load_items_into
from pipelines.load_users import load_users, users_into
from pipelines.loading import LoadReport
from recsys.online.open_state import open_state, required_store_settings
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService

HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@pytest.fixture
def state(site: SmallSite, new_place: Callable[[], str]) -> Iterator[OnlineState]:
    with open_state(new_place(), site.ranking_model.settings, create=True) as opened:
        yield opened


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def item(item_id: str, title: str, **further: object) -> dict[str, object]:
    return {"item_id": item_id, "title": title, "category": "home", **further}


def test_a_loaded_store_ranks_as_the_evaluation_does(site: SmallSite, state: OnlineState) -> None:
    load_items_into(state, site.ranking_model, site.data / "items.parquet")
    events_into(state, site.data / "impressions.parquet")
    events_into(state, site.data / "events.parquet")
    service = RankService(site.ranking_model, state, ranker="r/1", encoder="e/1")
    log, users = site.log, np.arange(-1, 20, dtype=np.int32)
    with state.snapshot() as view:
        moment = view.meta.latest_event_time + HOUR
    service.served.online.refresh(moment)
    candidates = np.arange(0, len(log.catalog), 2, dtype=np.int32)
    offsets = np.arange(len(users) + 1, dtype=np.int64) * len(candidates)
    requests = Requests(users, np.full(len(users), moment, np.int64), offsets, np.tile(candidates, len(users)))
    texts = site.ranking_model.texts(log.catalog)
    expected = (
        OfflineScorer(site.ranking_model, LogIndex(log), texts, threads=1).scores(requests).reshape(len(users), -1)
    )
    ids = log.catalog.ids[candidates].tolist()
    for user, row in zip(users, expected, strict=True):
        user_id = None if user < 0 else log.users[user]
        answer = service.rank(RankRequest.model_validate({"user_id": user_id, "candidates": ids, "timestamp": moment}))
        assert {one["item_id"]: one["score"] for one in answer["items"]} == dict(zip(ids, row.tolist(), strict=True))


def test_texts_that_are_known_are_not_encoded_again(site: SmallSite, state: OnlineState, tmp_path: Path) -> None:
    known = pd.read_parquet(site.data / "items.parquet").iloc[0].to_dict() | {"item_id": "a"}
    table = tmp_path / "items.csv"
    rows = [known, item("b", "Entirely new words"), item("c", "", category="")]
    first = load_items_into(state, site.ranking_model, write(table, rows))
    assert (first.rows, first.accepted, first.changed, first.encoded) == (3, 3, 3, 1)
    again = load_items_into(state, site.ranking_model, table)
    assert (again.accepted, again.changed, again.encoded) == (3, 0, 0)
    rows[1]["title"] = "Other words"
    changed = load_items_into(state, site.ranking_model, write(table, rows))
    assert (changed.changed, changed.encoded) == (1, 1)


def test_events_count_once_however_often_they_are_loaded(site: SmallSite, state: OnlineState, tmp_path: Path) -> None:
    rows = [{"user_id": "u1", "item_id": "a", "timestamp": 1_700_000_000 + i} for i in range(3)]
    table = write(tmp_path / "events.csv", rows)
    assert events_into(state, table).accepted == 3
    service = RankService(site.ranking_model, state, ranker="r/1", encoder="e/1")
    request = RankRequest.model_validate({"user_id": "u1", "candidates": ["a", "b"], "timestamp": 1_700_000_100})
    once = service.rank(request)["items"]
    assert events_into(state, table).as_dict() | {"seconds": 0} == {
        "table": "events",
        "rows": 3,
        "accepted": 3,
        "changed": 0,
        "encoded": 0,
        "rejected": {},
        "seconds": 0,
        "repeats": 0,
        "warnings": [],
    }
    assert service.rank(request)["items"] == once


def test_rows_that_cannot_be_used_are_counted_and_written_down(state: OnlineState, tmp_path: Path) -> None:
    rows = [
        {"user_id": "u1", "item_id": "a", "timestamp": "2024-05-01", "event_type": "click"},
        {"user_id": "u1", "item_id": "", "timestamp": "2024-05-01", "event_type": "click"},
        {"user_id": "u1", "item_id": "a", "timestamp": "then", "event_type": "click"},
        {"user_id": "u1", "item_id": "a", "timestamp": "2999-05-01", "event_type": "click"},
        {"user_id": "u1", "item_id": "i" * 300, "timestamp": "2024-05-01", "event_type": "click"},
    ]
    table, rejects = write(tmp_path / "events.csv", rows), tmp_path / "rejects"
    report = events_into(state, table, rejects=rejects, files=FileOptions(max_rejects=1))
    assert (report.rows, report.accepted) == (5, 1)
    assert report.rejected == {"bad_item_id": 1, "missing_value": 1, "time_in_future": 1, "unreadable_time": 1}
    lines = [json.loads(line) for line in (tmp_path / "rejects" / "events.jsonl").read_text().splitlines()]
    assert sorted((line["row"], line["reason"]) for line in lines) == [
        (2, "missing_value"),
        (3, "unreadable_time"),
        (4, "time_in_future"),
        (5, "bad_item_id"),
    ]


def test_a_table_of_which_most_is_rejected_is_an_error_and_leaves_the_store_as_it_is(
    state: OnlineState, tmp_path: Path
) -> None:
    good = {"user_id": "u1", "item_id": "a", "timestamp": "2024-05-01", "event_type": "click"}
    rows = [good, {**good, "timestamp": "then"}, {**good, "item_id": ""}]
    table = write(tmp_path / "events.csv", rows)
    with pytest.raises(InputError, match=r"2 of its 3 rows cannot be used \(1 x missing_value, 1 x unreadable_time\)"):
        events_into(state, table, rejects=tmp_path / "rejects")
    assert len((tmp_path / "rejects" / "events.jsonl").read_text().splitlines()) == 2
    assert clicks(state, "a") == 0
    assert events_into(state, table, files=FileOptions(max_rejects=0.7)).accepted == 1
    assert clicks(state, "a") == 1


def test_rows_that_the_store_refuses_count_for_the_share_too(state: OnlineState, tmp_path: Path) -> None:
    shown = {"impression_id": "1", "user_id": "u1", "timestamp": "2999-05-01", "clicked": 0}
    with pytest.raises(InputError, match=r"3 of its 3 rows cannot be used \(1 x time_in_future\)"):
        events_into(state, write(tmp_path / "lists.csv", [{**shown, "item_id": item_id} for item_id in "abc"]))
    event = {"user_id": "u1", "item_id": "a", "timestamp": "2999-05-01"}
    with pytest.raises(InputError, match="1 x time_in_future"):
        events_into(state, write(tmp_path / "events.csv", [event]))
    with pytest.raises(InputError, match="none of its 1 rows can be used"):
        users_into(state, write(tmp_path / "users.csv", [{"user_id": "", "city": "Bern"}]))


def test_a_load_says_what_a_reading_of_the_table_would(state: OnlineState, tmp_path: Path) -> None:
    rows = [{"user_id": "u1", "item_id": "a", "timestamp": 1_700_000_000, "Event-Type": "view"}]
    report = events_into(state, write(tmp_path / "events.csv", rows))
    (warning,) = report.warnings
    assert "events has no column 'event_type', and nothing reads its column 'Event-Type'" in warning
    assert report.lines()[-1] == f"warning: {warning}"


def test_folders_and_encodings_are_read_as_in_training(site: SmallSite, state: OnlineState, tmp_path: Path) -> None:
    for kind in ("click", "view"):
        folder = tmp_path / "events" / f"event_type={kind}"
        folder.mkdir(parents=True)
        write(folder / "part.csv", [{"user_id": "u1", "item_id": f"a_{kind}", "timestamp": 1_700_000_000}])
    assert events_into(state, tmp_path / "events").accepted == 2
    assert (clicks(state, "a_click"), clicks(state, "a_view")) == (1, 0)
    table = tmp_path / "items.csv"
    frame = pd.DataFrame([item("x", "科技新闻")])
    frame.to_csv(table, index=False, encoding="gb18030")
    with pytest.raises(InputError, match=r"1 rows can be used.*--encoding gb18030"):
        load_items_into(state, site.ranking_model, table)
    load_items_into(state, site.ranking_model, table, files=FileOptions("gbk"))
    with state.snapshot() as view:
        assert view.items(["x"])["x"].title == "科技新闻"


def clicks(state: OnlineState, item_id: str) -> int:
    """How often an item was clicked."""
    reader = read_online(state, "u1", None, [item_id], now=1_800_000_000_000_000)
    return int(reader.count(Count(CLICK, ITEM))[0])


def test_clicked_rows_of_lists_are_clicks_and_repeats_are_accepted(state: OnlineState, tmp_path: Path) -> None:
    shown = {"impression_id": "1", "user_id": "u1", "timestamp": 1_700_000_000}
    rows = [{**shown, "item_id": item_id, "clicked": clicked} for item_id, clicked in (("a", 0), ("b", 1), ("b", 0))]
    report = events_into(state, write(tmp_path / "impressions.csv", rows))
    assert (report.rows, report.accepted, report.rejected) == (3, 3, {})
    reader = read_online(state, "u1", None, ["a", "b"], now=1_700_000_100_000_000)
    assert reader.count(Count(CLICK, ITEM)).tolist() == [0, 1]
    assert reader.count(Count(IMPRESSION, ITEM)).tolist() == [1, 1]


def test_lists_that_the_store_refuses_are_counted_by_rows(state: OnlineState, tmp_path: Path) -> None:
    good = [
        {"impression_id": "1", "user_id": "u1", "timestamp": 1_700_000_000, "item_id": x, "clicked": 0} for x in "abb"
    ]
    bad = [{**row, "impression_id": "2", "timestamp": 32_000_000_000} for row in good]
    report = events_into(state, write(tmp_path / "impressions.csv", good + bad), rejects=tmp_path)
    assert (report.table, report.rows, report.rejected) == ("impressions", 6, {"time_in_future": 1})


@pytest.mark.parametrize("at_once", [1, 5_000])
def test_the_last_row_of_an_item_counts(
    site: SmallSite, state: OnlineState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("pipelines.loading.AT_ONCE", at_once)
    table = write(tmp_path / "items.csv", [item("a", "One"), item("a", "Two"), item("i" * 300, "Three")])
    report = load_items_into(state, site.ranking_model, table)
    assert (report.accepted, report.changed, report.repeats, report.rejected) == (2, 1, 1, {"bad_item_id": 1})
    assert "1 rows repeat an id; the last row of each counts" in report.lines()
    with state.snapshot() as view:
        assert view.items(["a"])["a"].title == "Two"


def test_a_date_that_is_none_never_costs_its_item_and_is_said(
    site: SmallSite, state: OnlineState, tmp_path: Path
) -> None:
    rows = [item("a", "One", published_at="0000-00-00"), item("b", "Two", published_at=20200101)]
    report = load_items_into(state, site.ranking_model, write(tmp_path / "items.csv", rows))
    assert (report.accepted, report.rejected) == (2, {})
    assert report.warnings == (
        "items.published_at: 1 cells are no date and count as missing, the first in row 1 of items.csv: '0000-00-00'",
    )
    with state.snapshot() as view:
        found = view.items(["a", "b"])
    assert [found[name].published_at for name in "ab"] == [NO_TIME, 1_577_836_800_000_000]


def test_a_load_says_which_types_seem_no_clicks_and_which_ids_are_words_for_nothing(
    state: OnlineState, tmp_path: Path
) -> None:
    rows = [
        {"user_id": "nan", "item_id": "a", "timestamp": 1_700_000_000 + place, "event_type": kind}
        for place, kind in enumerate(("View", "Dislike", "click"))
    ]
    report = events_into(state, write(tmp_path / "events.csv", rows))
    assert [warning.split(",")[0] for warning in report.warnings] == [
        "events.user_id: 3 of 3 rows (100%) hold a word for nothing ('nan')",
        "1 events of type 'dislike' count as clicks",
    ]
    reader = read_online(state, None, None, ["a"], now=1_700_000_100_000_000)
    assert reader.count(Count(CLICK, ITEM)).tolist() == [2]


def test_items_without_a_column_of_the_model_are_an_error(site: SmallSite, state: OnlineState, tmp_path: Path) -> None:
    table = write(tmp_path / "items.csv", [{"item_id": "a", "title": "One"}])
    with pytest.raises(InputError, match="'category'"):
        load_items_into(state, site.ranking_model, table)


def test_users_are_kept_and_need_a_store(state: OnlineState, new_place: Callable[[], str], tmp_path: Path) -> None:
    rows = [("u1", "DE"), ("", "NZ"), ("u1", "NZ")]
    table = write(tmp_path / "users.csv", [{"user_id": user, "country": country} for user, country in rows])
    report = users_into(state, table)
    assert (report.rejected, report.repeats) == ({"missing_value": 1}, 1)
    with state.snapshot() as view:
        assert json.loads(view.values.get_many([user_key("u1")])[0] or b"") == {"country": "NZ"}
    with pytest.raises(StoreError, match="load-items"):
        load_users(table, new_place())


def test_a_store_of_another_model_is_refused(site: SmallSite, new_place: Callable[[], str]) -> None:
    place = new_place()
    store = open_store(place, create=True)
    OnlineState.open(
        store, required_store_settings(site.ranking_model.settings.model_copy(update={"history_length": 7}), {})
    )
    store.close()
    with (
        pytest.raises(StoreError, match=r"history_length 7.*50"),
        open_state(place, site.ranking_model.settings, create=True),
    ):
        pass


def test_a_report_reads_as_text() -> None:
    report = LoadReport("items", rows=4, accepted=3, changed=2, encoded=1, rejected={"bad_item_id": 1}, seconds=2.0)
    assert report.lines() == [
        "items: 3 of 4 rows in 2.0 s (2 rows/s)",
        "2 items are new or changed, 1 texts were encoded",
        "rejected: 1 x bad_item_id",
    ]
