"""The HTTP server over a small real unit: answers, writes, and every error as the contract's JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interfaces import recorded_paths, schema_paths
from small_ranking_model import SmallSite, small_site

from features.arrays import NO_TIME
from features.definitions.aggregates import CLICK, IMPRESSION, ITEM, Count
from features.online.items import StoredItem
from features.online.reader import OnlineReader
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from features.tables.data_settings import DataSettings
from pipelines.load import load_items_into
from recsys.config import ServingConfig
from recsys.encoder.text import item_texts
from recsys.online.lru import Lru
from recsys.online.model import OnlineModel
from recsys.online.open_state import required_store_settings
from recsys.serving.app import create_app
from recsys.serving.request_parsing import parse_request
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService
from recsys.serving.stored_items import find_items

LIMITS = ServingConfig(max_candidates=100, max_rows=50, max_body_mb=0.05, queue=4, budget_ms=0)


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@pytest.fixture
def state(site: SmallSite, tmp_path: Path) -> Iterator[OnlineState]:
    """A store with the items of the small site and no events."""
    store = LmdbStore(tmp_path / "store")
    opened = OnlineState.open(store, required_store_settings(site.ranking_model.settings, {}))
    load_items_into(opened, site.ranking_model, site.data / "items.parquet")
    yield opened
    store.close()


@pytest.fixture
def service(site: SmallSite, state: OnlineState) -> RankService:
    return RankService(site.ranking_model, state, LIMITS, ranker="small-ranker/1", encoder="small-encoder/1")


@pytest.fixture
def client(service: RankService) -> TestClient:
    return TestClient(create_app(service))


@pytest.fixture
def ids(site: SmallSite) -> list[str]:
    return list(site.log.catalog.ids)


def scores(service: RankService, **request: Any) -> dict[str, float]:
    answer = service.rank(RankRequest.model_validate(request))
    return {item["item_id"]: item["score"] for item in answer["items"]}


def post(client: TestClient, path: str, body: object) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def click(user: str, item: str, **further: object) -> dict[str, object]:
    return {"user_id": user, "item_id": item, "timestamp": time.time(), "event_type": "click", **further}


def test_an_answer_is_what_the_contract_says(client: TestClient, ids: list[str]) -> None:
    answer = post(client, "/v1/rank", {"user_id": "u1", "candidates": ids[:10]})
    assert set(answer) == {"request_id", "model", "rung", "items", "unknown"}
    assert answer["model"] == {"ranker": "small-ranker/1", "encoder": "small-encoder/1"}
    assert answer["rung"] == "full"
    assert [item["rank"] for item in answer["items"]] == list(range(1, 11))
    assert {item["item_id"] for item in answer["items"]} == set(ids[:10])
    order = [(-item["score"], item["item_id"]) for item in answer["items"]]
    assert order == sorted(order)


def test_repeats_count_once_and_the_order_of_candidates_changes_nothing(service: RankService, ids: list[str]) -> None:
    first = service.rank(RankRequest.model_validate({"user_id": "u1", "candidates": ids[:8]}))
    again = service.rank(RankRequest.model_validate({"user_id": "u1", "candidates": ids[7::-1] + ids[:3]}))
    assert first["items"] == again["items"]


def test_a_ranking_reads_one_snapshot_of_the_store(
    service: RankService, state: OnlineState, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.writer.add_events([click("u1", ids[3])])
    service.served.online.refresh()
    opened = []
    open_snapshot = state.store.read

    def counted() -> Any:
        opened.append(1)
        return open_snapshot()

    monkeypatch.setattr(state.store, "read", counted)
    for described in ({"item_id": ids[0], "title": "A new title"}, {"item_id": "new", "title": "Words nobody wrote"}):
        request = {"user_id": "u1", "candidates": [*ids[:10], described], "query": "other words", "explain": True}
        opened.clear()
        service.rank(RankRequest.model_validate(request))
        assert len(opened) == 1


def test_an_explained_ranking_computes_its_matrix_once(
    service: RankService, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    matrix = OnlineModel.matrix

    def counted(*arguments: Any) -> Any:
        computed.append(1)
        return matrix(*arguments)

    monkeypatch.setattr(OnlineModel, "matrix", counted)
    service.rank(RankRequest.model_validate({"candidates": ids[:5], "explain": True}))
    assert len(computed) == 1


def test_top_k_cuts_the_same_list(service: RankService, ids: list[str]) -> None:
    whole = service.rank(RankRequest.model_validate({"candidates": ids[:8]}))["items"]
    assert service.rank(RankRequest.model_validate({"candidates": ids[:8], "top_k": 3}))["items"] == whole[:3]


def test_whole_numbers_are_ids_too(service: RankService) -> None:
    assert set(scores(service, user_id=7, candidates=[12, "13"])) == {"12", "13"}


def test_unknown_users_and_items_get_an_answer(client: TestClient, ids: list[str]) -> None:
    candidates = [ids[0], "never seen", {"item_id": "new", "title": "A rescue dog wins the race"}, {"item_id": "bare"}]
    for user in (None, "nobody", "用户", "u" * 512):
        answer = post(client, "/v1/rank", {"user_id": user, "candidates": candidates, "query": "dogs"})
        assert len(answer["items"]) == 4
        assert np.isfinite([item["score"] for item in answer["items"]]).all()


def test_candidates_that_nothing_is_known_of_are_named(client: TestClient, ids: list[str]) -> None:
    shown = {"event_type": "impression", "user_id": "u1", "items": ["shown"], "timestamp": 1_700_000_000}
    post(client, "/v1/events", {"events": [click("u1", "clicked"), shown]})
    candidates = ["typo", ids[0], "clicked", "shown", {"item_id": "new", "title": "A dog"}, {"item_id": "bare"}, "typo"]
    answer = post(client, "/v1/rank", {"candidates": candidates, "top_k": 1})
    assert answer["unknown"] == ["typo", "bare"]
    assert post(client, "/v1/rank", {"candidates": ids[:3]})["unknown"] == []


def test_a_request_time_slightly_before_the_newest_event_counts_as_now(
    client: TestClient, service: RankService, ids: list[str]
) -> None:
    ahead = time.time() + 200
    post(client, "/v1/events", {"events": [click("u1", ids[3], timestamp=ahead)]})
    request = RankRequest.model_validate({"user_id": "u1", "candidates": ids[:5], "timestamp": time.time()})
    reader = read(service, request)
    assert reader.time == round(ahead * 1e6) + 1
    assert [reader.catalog.ids[code] for code in reader.histories.items.row(0)] == [ids[3]]


def test_a_request_time_further_back_than_the_clock_skew_is_refused_in_iso_times(
    site: SmallSite, state: OnlineState, ids: list[str]
) -> None:
    limits = LIMITS.model_copy(update={"clock_skew": 10.0})
    service = RankService(site.ranking_model, state, limits, ranker="small-ranker/1", encoder="small-encoder/1")
    client = TestClient(create_app(service))
    post(client, "/v1/events", {"events": [click("u1", ids[3], timestamp="2024-05-01T12:00:00Z")]})
    for stamp, status in (("2024-05-01T11:59:50Z", 200), ("2024-05-01T11:59:49Z", 422)):
        answer = client.post("/v1/rank", json={"candidates": ids[:5], "timestamp": stamp})
        assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == "timestamp_too_old"
    assert "expected 2024-05-01T12:00:00.000000Z or later" in error["message"]
    assert "got 2024-05-01T11:59:49.000000Z" in error["message"]
    late = post(client, "/v1/events", {"events": [click("u1", ids[3], timestamp="2999-01-01T00:00:00Z")]})["rejected"]
    assert late[0]["code"] == "time_in_future"
    assert "got 2999-01-01T00:00:00.000000Z" in late[0]["message"]


def test_columns_that_come_along_win_for_that_request_alone(service: RankService, site: SmallSite) -> None:
    rows = pd.read_parquet(site.data / "items.parquet")[["item_id", "title", "description", "category"]].to_dict(
        "records"
    )
    a, b, *history = (str(rows[i]["item_id"]) for i in (0, 1, 5, 6))
    stored = texts_of(service, [a, b], history)
    row = rows[1] | {"item_id": a}
    inline = texts_of(service, [row, b], history)
    assert stored[0] != stored[1]
    assert inline[0] == inline[1] == stored[1]
    assert texts_of(service, [a, b], history) == stored


def test_columns_that_do_not_come_along_stay_as_stored(service: RankService, ids: list[str]) -> None:
    stored = reader_of(service, [ids[0]], []).catalog
    inline = reader_of(service, [{"item_id": ids[0], "title": "New"}], []).catalog
    assert inline.title[0] == "New"
    assert inline.description[0] == stored.description[0] != ""
    assert inline.published_at[0] == stored.published_at[0]


def test_of_a_repeated_candidate_the_last_counts_and_that_is_said(service: RankService, ids: list[str]) -> None:
    twice = [{"item_id": ids[0], "title": "First"}, ids[1], {"item_id": ids[0], "title": "Second"}]
    assert reader_of(service, twice, []).catalog.title.tolist()[:2] == [
        "Second",
        reader_of(service, [ids[1]], []).catalog.title[0],
    ]
    answer = service.rank(RankRequest.model_validate({"candidates": twice}))
    assert [item["item_id"] for item in answer["items"]].count(ids[0]) == 1
    assert answer["warnings"] == [
        f"1 x is repeated, the last row of an item counts; the first is candidates.0.item_id: {ids[0]!r}"
    ]


def read(service: RankService, request: RankRequest) -> OnlineReader:
    """What the service reads from the store for a request."""
    with service.state.snapshot() as view:
        return parse_request(request, service.served, service.settings).reader(view)


def reader_of(service: RankService, candidates: list[Any], history: list[Any] | None, **further: str) -> OnlineReader:
    return read(service, RankRequest.model_validate({"candidates": candidates, "history": history, **further}))


def texts_of(service: RankService, candidates: list[Any], history: list[Any]) -> list[str]:
    """The texts of a request's items, by code."""
    return item_texts(reader_of(service, candidates, history).catalog, service.served.ranking_model.settings.template)


def test_a_history_in_the_request_stands_in_for_the_stored_one(service: RankService, ids: list[str]) -> None:
    service.writer.add_events([click("u1", ids[0])])
    request = {
        "user_id": "u1",
        "candidates": ids[:5],
        "history": [ids[2], ids[3], ids[2], {"item_id": "x", "title": "Hi"}],
    }
    reader = read(service, RankRequest.model_validate(request))
    assert [reader.catalog.ids[code] for code in reader.histories.items.row(0)] == [ids[3], ids[2], "x"]
    assert reader.catalog.title[reader.catalog.codes(["x"])[0]] == "Hi"
    empty = read(service, RankRequest.model_validate(request | {"history": []}))
    assert len(empty.histories.items.row(0)) == 0


def test_a_click_counts_in_the_next_ranking(client: TestClient, service: RankService, ids: list[str]) -> None:
    before = scores(service, user_id="u1", candidates=ids[:12])
    assert post(client, "/v1/events", {"events": [click("u1", ids[3])]}) == {"accepted": 1, "rejected": []}
    reader = read(service, RankRequest.model_validate({"user_id": "u1", "candidates": ids[:12]}))
    assert [reader.catalog.ids[code] for code in reader.histories.items.row(0)] == [ids[3]]
    assert scores(service, user_id="u1", candidates=ids[:12]) != before


def test_the_same_events_again_change_nothing(client: TestClient, service: RankService, ids: list[str]) -> None:
    shown = {"event_type": "impression", "user_id": "u1", "items": ids[:5], "timestamp": 1_700_000_000}
    events = [click("u1", ids[1], event_id="e1"), click("u2", ids[2]), shown | {"impression_id": "i1"}, shown]
    post(client, "/v1/events", {"events": events})
    now = time.time() + 100
    once = scores(service, user_id="u1", candidates=ids[:12], timestamp=now)
    assert post(client, "/v1/events", {"events": events}) == {"accepted": 4, "rejected": []}
    assert scores(service, user_id="u1", candidates=ids[:12], timestamp=now) == once


def test_each_bad_event_is_rejected_alone(client: TestClient, ids: list[str]) -> None:
    good = click("u1", ids[0])
    bad = [
        5,
        {"user_id": "u1", "item_id": ids[0]},
        {"user_id": "u1", "item_id": ids[0], "timestamp": "yesterday"},
        {"user_id": "u1", "item_id": 1.5, "timestamp": 1_700_000_000},
        {"user_id": "u1", "timestamp": 1_700_000_000},
        {"user_id": "u1", "event_type": "impression", "items": [], "timestamp": 1_700_000_000},
        click("u1", ids[0], timestamp=time.time() + 3600),
        click("u1", "i" * 300),
    ]
    answer = post(client, "/v1/events", {"events": [good, *bad]})
    assert answer["accepted"] == 1
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [
        (1, "bad_row"),
        (2, "bad_timestamp"),
        (3, "bad_timestamp"),
        (4, "bad_item_id"),
        (5, "bad_item_id"),
        (6, "bad_items"),
        (7, "time_in_future"),
        (8, "bad_item_id"),
    ]
    assert all(one["message"] for one in answer["rejected"])


def test_a_posted_item_replaces_the_stored_one(client: TestClient, service: RankService, ids: list[str]) -> None:
    rows = [{"item_id": ids[0], "title": "Cats", "category": ["pets", "home"], "published_at": "2024-05-01"}]
    rows += [{"item_id": "fresh", "title": None, "ignored": {"a": [1]}}]
    bad = [
        {"item_id": "x"},
        {"title": "t"},
        {"item_id": "y", "title": 5},
        {"item_id": "z", "title": "", "category": {}},
        [],
    ]
    answer = post(client, "/v1/items", {"items": rows + bad})
    assert answer["accepted"] == 2
    assert [one["code"] for one in answer["rejected"]] == [
        "bad_title",
        "bad_item_id",
        "bad_title",
        "bad_category",
        "bad_row",
    ]
    catalog = read(service, RankRequest.model_validate({"candidates": [ids[0]]})).catalog
    assert (catalog.title[0], catalog.description[0]) == ("Cats", "")
    assert catalog.categories["category"].values == ("home", "pets")
    assert catalog.published_at[0] == np.datetime64("2024-05-01", "us").astype(np.int64)


def test_of_an_item_posted_twice_the_last_row_counts_and_that_is_said(
    client: TestClient, service: RankService, ids: list[str]
) -> None:
    rows = [{"item_id": ids[0], "title": title} for title in ("First", "Second", 5)]
    answer = post(client, "/v1/items", {"items": rows})
    assert (answer["accepted"], [one["index"] for one in answer["rejected"]]) == (2, [2])
    assert answer["warnings"] == [
        f"1 x is repeated, the last row of an item counts; the first is items.1.item_id: {ids[0]!r}"
    ]
    catalog = read(service, RankRequest.model_validate({"candidates": [ids[0]]})).catalog
    assert catalog.title[0] == "Second"


@pytest.mark.parametrize("date", ["0000-00-00", "soon", "2001-13", 10**18, "nan"])
def test_a_date_that_is_none_costs_neither_the_posted_item_nor_the_request(
    client: TestClient, service: RankService, date: object
) -> None:
    row = {"item_id": "x", "title": "Cats", "published_at": date}
    answer = post(client, "/v1/items", {"items": [row]})
    assert (answer["accepted"], answer["rejected"]) == (1, [])
    assert answer["warnings"] == [f"1 x is no date and counts as missing; the first is items.0.published_at: {date!r}"]
    assert read(service, RankRequest.model_validate({"candidates": ["x"]})).catalog.published_at[0] == NO_TIME
    answer = post(client, "/v1/rank", {"candidates": ["b", row]})
    assert len(answer["items"]) == 2
    assert answer["warnings"] == [
        f"1 x is no date and counts as missing; the first is candidates.1.published_at: {date!r}"
    ]


def test_events_are_read_as_in_the_tables_and_what_is_odd_is_said(client: TestClient, service: RankService) -> None:
    events = [
        click("nan", "a", event_type="View", timestamp=20231114221320),
        click("u1", "a", event_type=" DISLIKE "),
        click("u1", "a", timestamp=60),
        {"event_type": "Impression", "items": ["a", "b"], "timestamp": "2023-11-14T22:13:20Z"},
    ]
    answer = post(client, "/v1/events", {"events": events})
    assert (answer["accepted"], answer["rejected"]) == (4, [])
    assert answer["warnings"] == [
        "1 x is a word for nothing, read as an id; leave it out or send null; the first is events.0.user_id: 'nan'",
        "1 x reads like the opposite of a click but counts as one; see data.positive_event_types; "
        "the first is events.1.event_type: ' DISLIKE '",
        "1 x is before 1980, is its unit meant; the first is events.2.timestamp: 60",
    ]
    reader = read(service, RankRequest.model_validate({"candidates": ["a"]}))
    assert reader.count(Count(CLICK, ITEM)).tolist() == [2]
    assert reader.count(Count(IMPRESSION, ITEM)).tolist() == [1]


def test_posted_ratings_are_clicks_by_the_rule_of_the_model(site: SmallSite, state: OnlineState) -> None:
    rule = DataSettings(positive="value >= 4")
    state.settings = state.settings.model_copy(update={"data": rule})
    settings = site.ranking_model.settings.model_copy(update={"data": rule})
    model = replace(site.ranking_model, settings=settings)
    service = RankService(model, state, LIMITS, ranker="small-ranker/1", encoder="small-encoder/1")
    ratings = [click("u1", "a", value=value, timestamp=time.time() - 60 - value) for value in (3, 4, 5)]
    missing = [click("u2", "a"), click("u3", "a", event_type="History")]
    answer = post(TestClient(create_app(service)), "/v1/events", {"events": [*ratings, *missing]})
    assert (answer["accepted"], answer["rejected"]) == (5, [])
    assert answer["warnings"] == [
        "1 x is no number, so that data.positive takes the event for no click; the first is events.3.value: None"
    ]
    reader = read(service, RankRequest.model_validate({"candidates": ["a"]}))
    assert reader.count(Count(CLICK, ITEM)).tolist() == [3]


def test_a_request_of_the_future_is_answered_and_that_is_said(client: TestClient) -> None:
    answer = post(client, "/v1/rank", {"user_id": "null", "candidates": ["a"], "timestamp": 26110205})
    assert answer["warnings"] == [
        "1 x is a word for nothing, read as an id; leave it out or send null; the first is user_id: 'null'",
        "1 x is in the future, is its unit meant; the first is timestamp: 26110205",
    ]
    assert "warnings" not in post(client, "/v1/rank", {"candidates": ["a"]})


def test_a_posted_item_is_what_the_table_would_have_made_of_it(
    client: TestClient, state: OnlineState, site: SmallSite
) -> None:
    row = pd.read_parquet(site.data / "items.parquet").query("category.str.contains('[|]')").iloc[0]
    posted = row.to_dict() | {"item_id": "posted", "published_at": row.published_at.isoformat()}
    assert post(client, "/v1/items", {"items": [posted]})["accepted"] == 1
    with state.snapshot() as view:
        items = view.items([row.item_id, "posted"])
    assert items["posted"].pack() == items[row.item_id].pack()


def test_a_posted_text_is_encoded_before_it_is_asked_for(client: TestClient) -> None:
    post(client, "/v1/items", {"items": [{"item_id": "fresh", "title": "Words that nobody has written before"}]})
    post(client, "/v1/rank", {"candidates": ["fresh"]})
    assert "recsys_texts_encoded_total 1.0" in client.get("/metrics").text


def test_ranking_and_writing_at_once_get_along(client: TestClient, service: RankService, ids: list[str]) -> None:
    def work(worker: int) -> list[int]:
        status = []
        for i in range(15):
            events = [click(f"u{worker}", ids[(worker + i) % len(ids)], event_id=f"{worker}-{i}")]
            row = {"item_id": f"new-{i}", "title": f"Text number {i}"}
            status.append(client.post("/v1/events", json={"events": events}).status_code)
            status.append(client.post("/v1/items", json={"items": [row]}).status_code)
            body = {"user_id": f"u{worker}", "candidates": [*ids[:20], row, {**row, "item_id": f"{worker}-{i}"}]}
            status.append(client.post("/v1/rank", json=body).status_code)
        return status

    with client, ThreadPoolExecutor(4) as pool:
        assert {status for found in pool.map(work, range(4)) for status in found} == {200}
    histories = [reader_of(service, ids[:1], None, user_id=f"u{worker}").histories for worker in range(4)]
    assert [len(history.times) for history in histories] == [15] * 4


def test_an_explanation_adds_up_to_what_lightgbm_says(service: RankService, ids: list[str]) -> None:
    service.writer.add_events([click("u1", ids[3])])
    answer = service.rank(RankRequest.model_validate({"user_id": "u1", "candidates": ids[:12], "explain": True}))
    explained = answer["items"][0]["explanation"]
    assert 0 < len(explained) <= 8
    assert {one["column"] for one in explained} <= set(service.served.ranking_model.settings.columns)
    sizes = [abs(one["contribution"]) for one in explained]
    assert sizes == sorted(sizes, reverse=True)


def test_the_groups_of_an_item_and_the_expected_score_are_its_score(service: RankService, ids: list[str]) -> None:
    service.writer.add_events([click("u1", ids[3]), click("u1", ids[5])])
    request = RankRequest.model_validate({"user_id": "u1", "candidates": ids[:12], "explain": True})
    rests = [
        item["score"] - sum(one["contribution"] for one in item["groups"]) for item in service.rank(request)["items"]
    ]
    trees = service.served.ranking_model.ranker.booster
    ((*_, expected),) = trees.predict(np.zeros((1, trees.num_feature())), pred_contrib=True)
    np.testing.assert_allclose(rests, expected, atol=1e-6)


def test_reasons_are_items_of_the_history_and_nobody_has_none(service: RankService, ids: list[str]) -> None:
    service.writer.add_events([click("u1", ids[3]), click("u1", ids[5])])
    request = {"candidates": ids[:12], "explain": True}
    items = service.rank(RankRequest.model_validate({"user_id": "u1", **request}))["items"]
    reasons = {item["item_id"]: [one["item_id"] for one in item["because"]] for item in items}
    assert set(reasons[ids[0]]) == {ids[3], ids[5]} and reasons[ids[3]] == [ids[5]]
    for user in (None, "a stranger"):
        strange = service.rank(RankRequest.model_validate({"user_id": user, **request}))["items"]
        assert all(item["because"] == [] and item["groups"] for item in strange)


def test_the_first_items_of_an_answer_are_explained_and_no_more(
    site: SmallSite, state: OnlineState, ids: list[str]
) -> None:
    two = RankService(site.ranking_model, state, ServingConfig(explained_items=2), ranker="r/1", encoder="e/1")
    items = two.rank(RankRequest.model_validate({"candidates": ids[:5], "explain": True}))["items"]
    assert [set(item) - {"item_id", "score", "rank"} for item in items] == [
        {"explanation", "groups", "because"}, {"explanation", "groups", "because"}, set(), set(), set()
    ]  # fmt: skip


BODY = {"candidates": ["a"]}
SOON = {"item_id": "a", "category": 1.5e9, "published_at": ["soon"]}
REFUSED: list[tuple[str, str, bytes | object, int, str, str | None]] = [
    ("POST", "/v1/rank", b"{", 400, "malformed_json", None),
    ("POST", "/v1/rank", b'{"candidates": [NaN]}', 400, "malformed_json", None),
    ("POST", "/v1/rank", b'{"candidates": ["\\ud800"]}', 400, "malformed_json", None),
    ("POST", "/v1/rank", b"\xff\xfe", 400, "malformed_json", None),
    ("POST", "/v1/rank", b"", 422, "invalid_request", None),
    ("POST", "/v1/rank", [], 422, "invalid_request", None),
    ("POST", "/v1/rank", {}, 422, "invalid_request", "candidates"),
    ("POST", "/v1/rank", {"candidates": []}, 422, "invalid_request", "candidates"),
    ("POST", "/v1/rank", {"candidates": ["a", 1.5]}, 422, "invalid_request", "candidates.1.item_id"),
    ("POST", "/v1/rank", {"candidates": ["a", ""]}, 422, "invalid_request", "candidates.1.item_id"),
    ("POST", "/v1/rank", {"candidates": ["a", "é" * 300]}, 422, "invalid_request", "candidates.1.item_id"),
    ("POST", "/v1/rank", {"candidates": [{"title": "t"}]}, 422, "invalid_request", "candidates.0.item_id"),
    ("POST", "/v1/rank", {"candidates": ["b", SOON]}, 422, "invalid_request", "candidates.1.published_at"),
    ("POST", "/v1/rank", {"candidates": [str(i) for i in range(101)]}, 422, "invalid_request", "candidates"),
    ("POST", "/v1/rank", BODY | {"user_id": 1.5}, 422, "invalid_request", "user_id"),
    ("POST", "/v1/rank", BODY | {"user_id": True}, 422, "invalid_request", "user_id"),
    ("POST", "/v1/rank", BODY | {"top_k": 0}, 422, "invalid_request", "top_k"),
    ("POST", "/v1/rank", BODY | {"timestamp": "soon"}, 422, "invalid_request", "timestamp"),
    ("POST", "/v1/rank", BODY | {"timestamp": "2001-01-01"}, 422, "timestamp_too_old", "timestamp"),
    ("POST", "/v1/rank", BODY | {"history": [{"item_id": "a", "title": 5}]}, 422, "invalid_request", "history.0.title"),
    ("POST", "/v1/rank", BODY | {"variant": "rival"}, 422, "invalid_request", "variant"),
    ("POST", "/v1/rank", BODY | {"variant": "challenger"}, 422, "invalid_request", "variant"),
    ("POST", "/v1/rank", BODY | {"userId": "u1"}, 422, "invalid_request", "userId"),
    ("POST", "/v1/rank", {"candidate": ["a"]}, 422, "invalid_request", "candidate"),
    ("POST", "/v1/events", {"events": [], "user_id": "u1"}, 422, "invalid_request", "user_id"),
    ("POST", "/v1/items", {"rows": []}, 422, "invalid_request", "rows"),
    ("POST", "/v1/events", {"events": [{}] * 51}, 422, "invalid_request", "events"),
    ("POST", "/v1/events", {"events": 5}, 422, "invalid_request", "events"),
    ("POST", "/v1/items", {"items": [{}] * 51}, 422, "invalid_request", "items"),
    ("POST", "/v1/items", {}, 422, "invalid_request", "items"),
    ("POST", "/v1/items", b" " * 60_000, 413, "body_too_large", None),
    ("GET", "/v1/rank", b"", 405, "method_not_allowed", None),
    ("POST", "/v1/rang", {}, 404, "not_found", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "field"), REFUSED)
def test_what_is_refused_says_why(
    client: TestClient,
    service: RankService,
    method: str,
    path: str,
    body: Any,
    status: int,
    code: str,
    field: str | None,
) -> None:
    service.writer.add_events([click("u1", "a")])
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.request(method, path, content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["code"], error.get("field")) == (code, field)
    assert error["message"] and "\n" not in error["message"] and "Traceback" not in error["message"]


def test_a_misspelt_key_is_named_with_the_one_that_was_meant(client: TestClient) -> None:
    error = client.post("/v1/rank", json=BODY | {"userId": "u1"}).json()["error"]
    assert error["message"].startswith("unknown key 'userId', did you mean 'user_id'; expected none but user_id, cand")
    event = {"userId": "u1", "item_id": "a", "timestamp": 1_700_000_000}
    good = {"user_id": "u1", "item_id": "a", "timestamp": 1_700_000_000, "value": 3}
    answer = post(client, "/v1/events", {"events": [event, good]})
    assert answer["accepted"] == 1
    assert (answer["rejected"][0]["index"], answer["rejected"][0]["code"]) == (0, "bad_userId")
    assert "did you mean 'user_id'" in answer["rejected"][0]["message"]


@pytest.mark.parametrize(
    "sent", [None, "application/x-www-form-urlencoded", "text/plain; charset=latin-1", "application/json"]
)
def test_a_body_is_json_whatever_its_content_type_says(client: TestClient, sent: str | None) -> None:
    headers = {} if sent is None else {"content-type": sent}
    body = json.dumps(BODY | {"query": "é"}, ensure_ascii=False).encode()
    answer = client.post("/v1/rank", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert [item["item_id"] for item in answer.json()["items"]] == ["a"]
    answer = client.post("/v1/rank", content=b"candidates=a", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_json")


def test_a_body_without_a_length_is_cut_off_too(client: TestClient) -> None:
    pieces = (b" " * 1000 for _ in range(100))
    answer = client.post("/v1/rank", content=pieces)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
keys = st.sampled_from(
    ("item_id", "user_id", "candidates", "title", "timestamp", "category", "history", "items", "top_k")
)
nonsense = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)
fields = dict.fromkeys(("user_id", "history", "query", "timestamp", "top_k", "explain"), nonsense)
bodies = (
    nonsense
    | st.fixed_dictionaries({"candidates": st.lists(nonsense, max_size=4)}, optional=fields)
    | st.fixed_dictionaries({"events": nonsense})
    | st.fixed_dictionaries({"items": nonsense})
)


def test_a_server_of_small_limits_warms_up(site: SmallSite, state: OnlineState, ids: list[str]) -> None:
    state.add_items([StoredItem(min(ids), title="long " * 200)])
    for most in (1, 5):
        limits = ServingConfig(max_candidates=most, max_characters=300)
        RankService(site.ranking_model, state, limits, ranker="small-ranker/1", encoder="small-encoder/1").warm_up()


def test_too_many_values_of_a_category_are_refused(client: TestClient) -> None:
    values = "|".join(map(str, range(1001)))
    answer = client.post("/v1/rank", json={"candidates": [{"item_id": "new", "category": values}]})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "candidates.0.category"
    assert "at most 1000 values, got 1,001" in answer.json()["error"]["message"]


@given(path=st.sampled_from(("/v1/rank", "/v1/events", "/v1/items")), body=bodies)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nonsense_is_never_the_servers_fault(client: TestClient, path: str, body: Any) -> None:
    answer = client.post(path, content=json.dumps(body).encode("utf-8", "surrogatepass"))
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) <= {"code", "message", "field"}


def test_a_request_id_comes_back(client: TestClient, ids: list[str]) -> None:
    answer = client.post("/v1/rank", json={"candidates": ids[:2]}, headers={"X-Request-ID": "abc-1"})
    assert (answer.headers["x-request-id"], answer.json()["request_id"]) == ("abc-1", "abc-1")
    made = client.post("/v1/rank", json={"candidates": ids[:2]}, headers={"X-Request-ID": "two words"})
    assert made.headers["x-request-id"] == made.json()["request_id"] != "two words"
    assert client.get("/nowhere", headers={"X-Request-ID": "abc-2"}).headers["x-request-id"] == "abc-2"


def test_too_many_at_once_are_told_to_come_back(site: SmallSite, state: OnlineState, ids: list[str]) -> None:
    held, entered = Event(), Event()

    class Slow(RankService):
        def answer(self, request: RankRequest, **further: Any) -> dict[str, Any]:
            entered.set()
            held.wait(10)
            return super().answer(request, **further)

    narrow = ServingConfig(workers=1, queue=0, budget_ms=0)
    with TestClient(create_app(Slow(site.ranking_model, state, narrow, ranker="r/1", encoder="e/1"))) as client:
        answers: list[int] = []
        first = Thread(target=lambda: answers.append(client.post("/v1/rank", json={"candidates": ids[:2]}).status_code))
        first.start()
        assert entered.wait(10)
        refused = client.post("/v1/rank", json={"candidates": ids[:2]})
        assert client.get("/health/live").status_code == 200
        held.set()
        first.join(10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert answers == [200]


def test_the_place_of_a_finished_request_is_free_again(site: SmallSite, state: OnlineState, ids: list[str]) -> None:
    narrow = ServingConfig(workers=1, queue=0)
    with TestClient(create_app(RankService(site.ranking_model, state, narrow, ranker="r/1", encoder="e/1"))) as client:
        status = [
            client.post("/v1/rank", json={"candidates": candidates}).status_code for candidates in (ids[:2], [1.5]) * 2
        ]
    assert status == [200, 422, 200, 422]


def test_a_bounded_memory_forgets_what_was_used_longest_ago() -> None:
    memory: Lru[str, int] = Lru(2)
    memory.put_many([("a", 1), ("b", 2)])
    memory.get_many(["a"])
    memory.put_many([("c", 3)])
    assert (memory.get_many(["a", "b", "c"]), len(memory)) == ([1, None, 3], 2)


def test_a_server_that_lost_its_store_ranks_but_takes_no_events_and_is_not_ready(
    client: TestClient, state: OnlineState, ids: list[str]
) -> None:
    assert client.get("/health/ready").json()["status"] == "ready"
    state.store.close()
    assert post(client, "/v1/rank", {"candidates": ids[:2]})["rung"] == "caller_order"
    answer = client.post("/v1/events", json={"events": [click("u1", ids[0])]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")


def test_a_failure_of_ours_tells_no_secrets(site: SmallSite, state: OnlineState) -> None:
    class Broken(RankService):
        def examples(self) -> dict[str, Any]:
            raise ZeroDivisionError("secret")

    client = TestClient(create_app(Broken(site.ranking_model, state, ranker="r/1", encoder="e/1")))
    answer = client.get("/v1/examples")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_metrics_count_what_happened(client: TestClient, ids: list[str]) -> None:
    post(client, "/v1/rank", {"candidates": [ids[0], "unknown", {"item_id": "n", "title": "A brand new text"}]})
    post(client, "/v1/events", {"events": [click("u1", ids[0]), {}]})
    client.get("/v1/unknown")
    text = client.get("/metrics").text
    for line in (
        'recsys_requests_total{endpoint="/v1/rank",status="200"} 1.0',
        'recsys_requests_total{endpoint="other",status="404"} 1.0',
        'recsys_ranks_total{rung="full"} 1.0',
        "recsys_candidates_sum 3.0",
        "recsys_items_without_text_total 1.0",
        "recsys_users_without_history_total 1.0",
        "recsys_texts_encoded_total 1.0",
        'recsys_events_total{outcome="accepted"} 1.0',
        'recsys_events_total{outcome="rejected"} 1.0',
    ):
        assert line in text


def test_the_api_describes_itself(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert {"/v1/rank", "/v1/events", "/v1/items", "/health/live", "/health/ready", "/metrics"} <= set(
        document["paths"]
    )
    assert {"RankRequest", "RankAnswer", "Event", "Item", "ProblemAnswer"} <= set(document["components"]["schemas"])


def test_the_http_schema_is_that_of_the_version(client: TestClient) -> None:
    assert sorted(schema_paths(client.get("/openapi.json").json())) == recorded_paths("http_schema")


def test_the_api_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "http" not in page.replace("http-equiv", "")
    wanted = re.findall(r'(?:src|href|url)(?:=|: )["\']([^"\']+)', page)
    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "openapi.json"} <= {link.lstrip("/") for link in wanted}
    for link in wanted:
        assert link.startswith("data:") or client.get(f"/{link}").status_code == 200


def test_the_playground_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    texts = {"/": page.text} | {
        f"/{name}": client.get(f"/{name}").text for name in re.findall(r'(?:src|href)="(playground/[^"]+)', page.text)
    }
    for name in re.findall(r'from "\./([^"]+)', "".join(texts.values())):
        texts[f"/playground/{name}"] = client.get(f"/playground/{name}").text
    assert len(texts) >= 4
    for path, text in texts.items():
        assert not re.search(r"https?://|//cdn|innerHTML|insertAdjacentHTML|document\.write", text), path
        assert not re.search(r"(?:call\(|href=|src=)[\"`]/", text), path  # relative, for a proxy with a path prefix
    assert client.get("/playground/../app.py").status_code == client.get("/playground/none.js").status_code == 404


def test_fields_of_the_playground_find_their_direction(client: TestClient) -> None:
    fields = re.findall(r"<(?:input type=\"text\"|textarea)[^>]*>", client.get("/").text)
    assert len(fields) == 6
    assert [field for field in fields if 'dir="auto"' not in field and 'id="timestamp"' not in field] == []


def test_every_example_of_the_api_runs_in_the_order_of_the_page_and_again(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for _ in range(2):
        for path, operations in paths.items():
            for method, operation in operations.items():
                answer = run_example(client, method, path, operation)
                assert answer.status_code == 200, (method, path, answer.text)
                if method == "post" and path != "/v1/rank":
                    assert answer.json() == {"accepted": 1, "rejected": []}


def run_example(client: TestClient, method: str, path: str, operation: dict[str, Any]) -> Any:
    """What /docs sends for an operation as it fills it in."""
    query = {}
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
        elif "example" in parameter:
            query[parameter["name"]] = parameter["example"]
    body = operation.get("requestBody", {"content": {"application/json": {}}})["content"]["application/json"]
    return client.request(method, path, params=query, json=body.get("example"))


def test_titles_of_stored_items_are_found_by_id_and_by_words(
    client: TestClient, state: OnlineState, ids: list[str]
) -> None:
    odd = [StoredItem("a/b c", "Grüße aus KÖLN"), StoredItem("köln", "Elsewhere"), StoredItem("untitled")]
    state.add_items(odd)
    found = client.get("/v1/items", params=[("id", "a/b c"), ("id", "nowhere"), ("id", "untitled")]).json()
    titles = [{"item_id": "a/b c", "title": "Grüße aus KÖLN"}, {"item_id": "untitled", "title": ""}]
    assert found == {"items": titles, "complete": True}
    for words, expected in (("köln GRÜSSE", ["a/b c"]), ("köln", ["köln", "a/b c"]), ("no such words", [])):
        found = client.get("/v1/items", params={"words": words}).json()
        assert ([item["item_id"] for item in found["items"]], found["complete"]) == (expected, True)
    found = client.get("/v1/items").json()
    assert (len(found["items"]), found["complete"]) == (20, False)
    for parameters in ([("id", "")], [("id", "x" * 513)], [("words", "x" * 201)], [("id", "x")] * 1001):
        assert client.get("/v1/items", params=parameters).status_code == 422, parameters[0]


def test_a_search_ends_when_its_time_is_over_and_says_so(state: OnlineState) -> None:
    state.add_items([StoredItem(f"more-{i:04}", "A title") for i in range(1000)])
    state.add_items([StoredItem("zzz-the-last", "Words of the last item")])
    assert [item["item_id"] for item in find_items(state, "words last", clock=lambda: 0.0)["items"]] == ["zzz-the-last"]
    moments = iter((0.0, 0.6))
    assert find_items(state, "words last", clock=lambda: next(moments)) == {"items": [], "complete": False}


def test_a_ranking_tells_how_long_it_took(client: TestClient, ids: list[str]) -> None:
    told = client.post("/v1/rank", json={"candidates": ids[:3]}).headers["server-timing"]
    assert re.fullmatch(r"rank;dur=\d+\.\d\d", told)


def test_examples_are_ids_of_the_store(client: TestClient, ids: list[str]) -> None:
    post(client, "/v1/events", {"events": [click("u1", ids[0], timestamp=1_700_000_000), click("u2", ids[0])]})
    examples = client.get("/v1/examples").json()
    assert {item["item_id"] for item in examples["items"]} <= set(ids)
    assert examples["users"] == ["u1"]
