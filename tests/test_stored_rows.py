"""Stored items and users over HTTP: read, removed, upserted, forgotten, by ids of any text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from small_ranking_model import SmallSite, small_site

from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from pipelines.load import load_items_into
from recsys.config import ServingConfig
from recsys.online.open_state import required_store_settings
from recsys.serving.app import create_app
from recsys.serving.service import RankService

IDS = ["a/b", "/a", "a/", "50%", "%2F", "a b", "新闻", "🙂", "x?y#z", "line\nbreak", "\ufffd", "a+b", "&=;", "a//b"]


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@pytest.fixture
def client(site: SmallSite, tmp_path: Path) -> Iterator[TestClient]:
    store = LmdbStore(tmp_path / "store")
    state = OnlineState.open(store, required_store_settings(site.ranking_model.settings, {}))
    load_items_into(state, site.ranking_model, site.data / "items.parquet")
    limits = ServingConfig(max_rows=20, budget_ms=0)
    yield TestClient(create_app(RankService(site.ranking_model, state, limits, ranker="r/1", encoder="e/1")))
    store.close()


def post(client: TestClient, path: str, body: object) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ranking(client: TestClient, user: str, items: list[str]) -> list[object]:
    answer = post(client, "/v1/rank", {"user_id": user, "candidates": items})
    return [(item["item_id"], item["score"]) for item in answer["items"]]


def click(user: str, item: str, timestamp: float) -> dict[str, object]:
    return {"user_id": user, "item_id": item, "timestamp": timestamp}


@pytest.mark.parametrize("item", IDS)
def test_an_item_is_read_and_removed_by_any_id(client: TestClient, item: str) -> None:
    post(client, "/v1/items", {"items": [{"item_id": item, "title": "A title", "category": "x|y"}]})
    path = f"/v1/items/{quote(item, safe='')}"
    answer = client.get(path)
    assert (answer.status_code, answer.json()["item_id"], answer.json()["title"]) == (200, item, "A title")
    assert client.delete(path).json() == {"item_id": item, "deleted": True}
    assert client.delete(path).json() == {"item_id": item, "deleted": False}
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "is not stored" in answer.json()["error"]["message"]


def test_slashes_in_an_id_may_stand_as_they_are(client: TestClient) -> None:
    post(client, "/v1/items", {"items": [{"item_id": "a/b", "title": "A title"}]})
    assert client.get("/v1/items/a/b").json()["item_id"] == "a/b"


def test_an_item_that_is_posted_as_it_is_read_does_not_change(client: TestClient, site: SmallSite) -> None:
    ids = list(site.log.catalog.ids[:8])
    rows = [client.get(f"/v1/items/{item}").json() for item in ids]
    before = ranking(client, "u", ids)
    assert rows[0]["title"] and "published_at" in rows[0]
    assert post(client, "/v1/items", {"items": rows})["accepted"] == len(ids)
    assert [client.get(f"/v1/items/{item}").json() for item in ids] == rows
    assert ranking(client, "u", ids) == before


def test_a_removed_item_is_ranked_as_unknown(client: TestClient, site: SmallSite) -> None:
    ids = list(site.log.catalog.ids[:5])
    ranking(client, "u", ids)  # the server keeps the item in memory
    client.delete(f"/v1/items/{ids[0]}")
    assert post(client, "/v1/rank", {"candidates": ids})["unknown"] == [ids[0]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/items/%FF", 422),
        ("DELETE", "/v1/users/%FF%FE", 422),
        ("GET", "/v1/items/%00x", 422),
        ("DELETE", "/v1/users/%00x", 422),
        ("GET", f"/v1/items/{'x' * 201}", 422),
        ("GET", "/v1/items/", 404),
        ("PUT", "/v1/users/x", 405),
    ],
)
def test_paths_of_no_id_are_the_callers_fault(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) <= {"code", "message", "field"}


def test_rows_of_users_are_judged_alone_and_upserted(client: TestClient) -> None:
    rows: list[object] = [
        {"user_id": "anna", "age": 30, "city": "Köln", "member": True, "tags": ["a", 1, None], "note": None},
        {"user_id": 7, "age": 31.5},
        {"age": 3},
        {"user_id": "", "age": 3},
        {"user_id": "bob", "nested": {"a": 1}},
        "text",
        {"user_id": "anna", "age": 32},
    ]
    answer = post(client, "/v1/users", {"users": rows})
    assert answer["accepted"] == 3
    assert [(row["index"], row["code"]) for row in answer["rejected"]] == [
        (2, "bad_user_id"),
        (3, "bad_user_id"),
        (4, "bad_nested"),
        (5, "bad_row"),
    ]
    assert client.post("/v1/users", json={"users": rows * 3}).status_code == 422
    assert client.post("/v1/users", json={"rows": rows}).json()["error"]["field"] == "rows"
    assert client.delete("/v1/users/7").json()["removed"] == {"attributes": 1}


def test_a_path_inside_an_id_names_nobody_else(client: TestClient) -> None:
    rows = [{"user_id": "victim", "age": 1}]
    assert post(client, "/v1/users", {"users": rows})["accepted"] == 1
    assert client.delete("/v1%2Fusers/x/v1/users/victim").json()["user_id"] == "x/v1/users/victim"
    assert client.delete("/v1/users/victim").json()["removed"] == {"attributes": 1}


@pytest.mark.parametrize("user", IDS)
def test_a_user_is_forgotten_by_any_id_and_stays_so(client: TestClient, site: SmallSite, user: str) -> None:
    ids, now = list(site.log.catalog.ids[:5]), time.time()
    stranger = ranking(client, "stranger", ids)
    events = [click(user, ids[0], now - 100), click(user, ids[1], now - 50)]
    assert post(client, "/v1/events", {"events": events})["accepted"] == 2
    path = f"/v1/users/{quote(user, safe='')}"
    answer = client.delete(path)
    assert (answer.status_code, answer.json()["user_id"], answer.json()["forgotten"]) == (200, user, True)
    answer = client.delete(path)
    assert (answer.status_code, answer.json()["forgotten"]) == (200, False)
    told = post(client, "/v1/events", {"events": [*events, click("other", ids[0], now - 50)]})
    assert (told["accepted"], [row["code"] for row in told["rejected"]]) == (1, ["forgotten_user"] * 2)
    told = post(client, "/v1/users", {"users": [{"user_id": user, "age": 3}]})
    assert [row["code"] for row in told["rejected"]] == ["forgotten_user"]
    assert ranking(client, user, ids) == ranking(client, "stranger", ids) != stranger
    assert post(client, "/v1/events", {"events": [click(user, ids[0], time.time() + 1)]})["accepted"] == 1
