"""Who may do what over HTTP, what browsers are told, and how large requests may be, over a small real ranking model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from small_ranking_model import SmallSite, small_site

from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from pipelines import cli
from pipelines.load import load_items_into
from recsys.config import ServingConfig
from recsys.errors import ServerError
from recsys.online.open_state import required_store_settings
from recsys.processes.answering import key_ring
from recsys.serving.access import required_scope
from recsys.serving.api_keys import SCOPES, KeyFile, create_key, revoke_key
from recsys.serving.app import create_app
from recsys.serving.exposure import require_keys_beyond_loopback
from recsys.serving.key_ring import KeyRing
from recsys.serving.service import RankService

LIMITS = ServingConfig(max_candidates=20, max_history=3, max_characters=150_000, max_header_kb=4, budget_ms=0)


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@pytest.fixture(scope="module")
def service(site: SmallSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankService]:
    store = LmdbStore(tmp_path_factory.mktemp("store") / "store")
    state = OnlineState.open(store, required_store_settings(site.ranking_model.settings, {}))
    load_items_into(state, site.ranking_model, site.data / "items.parquet")
    yield RankService(site.ranking_model, state, LIMITS, ranker="small-ranker/1", encoder="small-encoder/1")
    store.close()


@pytest.fixture
def source(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def keys(source: KeyFile) -> dict[str, str]:
    """A key of each scope, by the scope."""
    return {scope: create_key(source, scope, scope) for scope in SCOPES}


@pytest.fixture
def guarded(service: RankService, source: KeyFile, keys: dict[str, str]) -> TestClient:
    return TestClient(create_app(service, KeyRing(source)))


@pytest.fixture
def open_client(service: RankService) -> TestClient:
    return TestClient(create_app(service))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


REQUESTS: list[tuple[str, str, Any, str]] = [
    ("POST", "/v1/rank", {"candidates": ["a"]}, "read"),
    ("GET", "/v1/examples", None, "read"),
    ("GET", "/v1/items?id=a", None, "read"),
    ("POST", "/v1/items", {"items": []}, "write"),
    ("POST", "/v1/events", {"events": []}, "write"),
    ("GET", "/metrics", None, "read"),
]


@pytest.mark.parametrize(("method", "path", "body", "needed"), REQUESTS)
def test_a_route_answers_keys_of_its_scope_and_above_and_no_others(
    method: str, path: str, body: Any, needed: str, guarded: TestClient, keys: dict[str, str]
) -> None:
    for scope in SCOPES:
        answer = guarded.request(method, path, json=body, headers=bearer(keys[scope]))
        if SCOPES.index(scope) >= SCOPES.index(needed):  # type: ignore[arg-type]
            assert answer.status_code == 200, answer.text
            continue
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert f"expected a key of scope '{needed}', got one of scope '{scope}'" in answer.json()["error"]["message"]
        assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]
    for headers in ({}, bearer("x" * 43), {"X-API-Key": ""}, {"Authorization": keys["admin"]}):
        answer = guarded.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith('Bearer realm="recsys"')


def test_pages_their_description_and_health_are_open(guarded: TestClient) -> None:
    for path in ("/", "/playground/api.js", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/health/live"):
        assert guarded.get(path).status_code == 200, path
    assert guarded.post("/health/live").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("DELETE", "/v1/items/a", "admin"),
        ("DELETE", "/v1/users/u", "admin"),
        ("DELETE", "/docs", "admin"),
        ("GET", "/v1/items/a", "read"),
        ("GET", "/nowhere", "read"),
        ("OPTIONS", "/v1/rank", "read"),
        ("POST", "/v1/users", "write"),
        ("PUT", "/v1/anything", "write"),
        ("POST", "/v1/rank/", "write"),
        ("HEAD", "/metrics", "read"),
        ("POST", "/metrics", "write"),
        ("GET", "/docs/../metrics", None),
        ("GET", "/docsx", "read"),
    ],
)
def test_routes_that_come_later_have_the_scope_of_their_method(method: str, path: str, scope: str | None) -> None:
    assert required_scope(method, path) == scope


def test_a_key_may_come_in_either_header(guarded: TestClient, keys: dict[str, str]) -> None:
    key = keys["read"]
    for headers in (
        {"Authorization": f"bearer {key}"},
        {"X-API-Key": key},
        {"Authorization": "Basic dTpw", "X-API-Key": key},  # a proxy's own password beside it
    ):
        assert guarded.get("/v1/examples", headers=headers).status_code == 200
    assert guarded.get("/v1/examples", headers={**bearer("wrong"), "X-API-Key": key}).status_code == 401
    assert guarded.get(f"/v1/examples?key={key}").status_code == 401


def test_refusals_are_counted_by_their_reason(service: RankService, source: KeyFile, keys: dict[str, str]) -> None:
    fresh = RankService(service.served.ranking_model, service.state, LIMITS, ranker="r/1", encoder="e/1")
    client = TestClient(create_app(fresh, KeyRing(source)))
    for headers in ({}, bearer("x"), bearer("y"), bearer(keys["read"])):
        client.post("/v1/items", json={"items": []}, headers=headers)
    text = client.get("/metrics", headers=bearer(keys["read"])).text
    for reason, count in (("no_key", 1.0), ("unknown_key", 2.0), ("small_scope", 1.0)):
        assert f'recsys_refused_requests_total{{reason="{reason}"}} {count}' in text


def test_no_key_is_in_a_line_of_the_log(
    service: RankService, source: KeyFile, keys: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(RankService):
        def examples(self) -> dict[str, Any]:
            raise ZeroDivisionError("a failure of ours")

    caplog.set_level(logging.DEBUG)
    fresh = Broken(service.served.ranking_model, service.state, LIMITS, ranker="r/1", encoder="e/1")
    with TestClient(create_app(fresh, KeyRing(source))) as client:
        for key in (keys["read"], "not-a-known-key"):
            for headers in (bearer(key), {"X-API-Key": key}):
                assert client.get("/v1/examples", headers=headers).status_code in (401, 500)
                client.post("/v1/items", json={"items": []}, headers=headers)
    assert "a failure of ours" in caplog.text
    assert not [key for key in (*keys.values(), "not-a-known-key") if key in caplog.text]


def test_a_running_application_notices_a_revoked_key(
    service: RankService, source: KeyFile, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyFile, "seconds", 0.05)
    with TestClient(create_app(service, KeyRing(source))) as client:
        assert client.get("/v1/examples", headers=bearer(keys["read"])).status_code == 200
        revoke_key(source, "read")
        for _ in range(400):
            if client.get("/v1/examples", headers=bearer(keys["read"])).status_code == 401:
                break
            anyio.run(anyio.sleep, 0.02)
        else:
            raise AssertionError("the revoked key was taken for seconds")
        assert client.get("/v1/examples", headers=bearer(keys["write"])).status_code == 200


def test_a_request_without_a_key_is_refused_before_its_body_is_asked_for(guarded: TestClient) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"1000"), (b"expect", b"100-continue"), (b"host", b"here")]
    scope = {"type": "http", "method": "POST", "path": "/v1/rank", "query_string": b"", "headers": headers}
    anyio.run(guarded.app, scope, receive, send)
    assert sent[0]["status"] == 401


def test_the_description_says_how_keys_are_sent_where_they_are_asked_for(
    guarded: TestClient, open_client: TestClient
) -> None:
    assert "securitySchemes" not in open_client.get("/openapi.json").json()["components"]
    document = guarded.get("/openapi.json").json()
    again = guarded.get("/openapi.json").json()
    assert again["paths"]["/v1/rank"]["post"]["description"] == document["paths"]["/v1/rank"]["post"]["description"]
    assert document["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    operation = document["paths"]["/v1/items"]["post"]
    assert operation["security"] == [{"bearer": []}, {"header": []}]
    assert operation["description"].endswith("Scope of the key: write.")
    assert {"401", "403"} <= set(operation["responses"])
    assert "security" not in document["paths"]["/health/live"]["get"]


ANSWERS = [
    ("GET", "/", 200), ("GET", "/docs", 200), ("GET", "/docs/swagger-ui.css", 200), ("GET", "/openapi.json", 200),
    ("GET", "/health/live", 200), ("GET", "/v1/examples", 200), ("GET", "/metrics", 200), ("POST", "/v1/rank", 422),
    ("GET", "/v1/rank", 405), ("GET", "/nowhere", 404), ("GET", "/docs/nowhere", 404), ("OPTIONS", "/v1/rank", 405),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_tells_browsers_to_be_careful_and_none_allows_another_origin(
    method: str, path: str, status: int, open_client: TestClient, guarded: TestClient
) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for client in (open_client, guarded):
        answer = client.request(method, path, headers=asked)
        assert answer.status_code in (status, 401)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        cached = {"/": "no-cache", "/docs": "no-cache", "/docs/swagger-ui.css": None}
        assert answer.headers.get("cache-control") == cached.get(path, "no-store")


def test_a_failure_and_a_body_too_large_have_the_headers_too(service: RankService) -> None:
    small = ServingConfig(max_body_mb=0.001)
    broken = RankService(service.served.ranking_model, service.state, small, ranker="r/1", encoder="e/1")
    broken.examples = None  # type: ignore[method-assign, assignment]
    client = TestClient(create_app(broken))
    for answer, status in ((client.get("/v1/examples"), 500), (client.post("/v1/rank", content=b" " * 5000), 413)):
        assert answer.status_code == status
        assert (answer.headers["cache-control"], answer.headers["x-frame-options"]) == ("no-store", "DENY")
        assert "x-request-id" in answer.headers


@pytest.mark.parametrize(("fetched_by", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200)])
def test_without_keys_a_page_of_another_site_writes_nothing(
    fetched_by: str, status: int, open_client: TestClient
) -> None:
    headers = {"Sec-Fetch-Site": fetched_by}
    answer = open_client.post("/v1/items", json={"items": []}, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "cross_site_request"
    assert open_client.get("/docs", headers=headers).status_code == 200


LONG = "x" * 60_000
TOO_MUCH: list[tuple[str, Any, str]] = [
    ("/v1/rank", {"candidates": ["a"], "history": ["a"] * 4}, "history"),
    ("/v1/rank", {"candidates": [str(i) for i in range(21)]}, "candidates"),
    ("/v1/rank", {"candidates": [{"item_id": str(i), "title": LONG} for i in range(3)]}, "candidates.0.title"),
    ("/v1/rank", {"candidates": ["a"], "history": [{"item_id": "b", "other": [LONG, LONG]}]}, "history.0.other"),
    ("/v1/items", {"items": [{"item_id": str(i), "title": LONG} for i in range(3)]}, "items.2.title"),
]


@pytest.mark.parametrize(("path", "body", "field"), TOO_MUCH)
def test_too_much_of_anything_names_its_field(path: str, body: Any, field: str, open_client: TestClient) -> None:
    answer = open_client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (422, "invalid_request", field)
    assert "expected at most" in error["message"]


def test_a_posted_value_that_is_too_long_is_rejected_alone(open_client: TestClient) -> None:
    rows = [{"item_id": "a", "title": "A", "other": "y" * 100_001}, {"item_id": "b", "title": "B"}]
    answer = open_client.post("/v1/items", json={"items": rows}).json()
    assert (answer["accepted"], [row["code"] for row in answer["rejected"]]) == (1, ["bad_other"])


def test_headers_and_an_address_that_are_too_large_are_refused(open_client: TestClient) -> None:
    for answer in (
        open_client.get("/health/live", headers={"X-Large": "x" * 5000}),
        open_client.get("/health/live?" + "x" * 5000),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_large")
        assert "expected at most 4,096 bytes of address and headers" in answer.json()["error"]["message"]
    assert open_client.get("/health/live", headers={"X-Large": "x" * 3000}).status_code == 200


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and standard error of a command in this process."""
    code = cli.run(lambda: cli.cli(arguments, standalone_mode=False))
    return code, capsys.readouterr().err.strip()


def test_a_server_beyond_loopback_asks_for_keys_or_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    serve = ["serve", "--host", "0.0.0.0", "--port", "0"]
    code, said = run(serve, capsys)
    assert (code, len(said.splitlines())) == (1, 1)
    assert "0.0.0.0 can be reached from other machines" in said and "--keys keys.json" in said and "--no-keys" in said
    assert run(["keys", "add", "shop", "--scope", "read"], capsys)[0] == 0
    for more in (["--keys", "keys.json"], ["--no-keys"]):
        assert "online store 'store': expected" in run([*serve, *more], capsys)[1]  # it went on
    assert run([*serve, "--keys", "keys.json", "--no-keys"], capsys)[0] == 2
    (tmp_path / "keys.json").chmod(0o644)
    assert run([*serve, "--keys", "keys.json"], capsys)[1].endswith("run `chmod 600 keys.json`")
    assert "recsys keys add NAME" in run([*serve, "--keys", "none.json"], capsys)[1]


def test_which_addresses_other_machines_reach() -> None:
    for address in ("127.0.0.1", "127.1.2.3", "::1"):
        require_keys_beyond_loopback(address, has_keys=False)
    for address in ("0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0"):
        require_keys_beyond_loopback(address, has_keys=True)
        with pytest.raises(ServerError, match="expected API keys"):
            require_keys_beyond_loopback(address, has_keys=False)


def test_a_place_without_any_key_refuses_everybody_and_that_is_said(
    service: RankService, source: KeyFile, keys: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    for scope in SCOPES:
        revoke_key(source, scope)
    with key_ring(source.name) as ring:
        client = TestClient(create_app(service, ring))
        assert client.get("/v1/examples", headers=bearer(keys["admin"])).status_code == 401
        assert client.get("/health/ready").status_code == 200
    assert "none yet, so that every request is refused" in caplog.text
