"""The Python client: against a real server, and against one that fails as real ones do."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn
from pydantic import ValidationError
from small_ranking_model import SmallSite, small_site
from stub_server import RESET, SILENCE, Says, problem, stub_server

from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from pipelines.load import load_items_into
from pipelines.serve import listen
from recsys.client import (
    AsyncClient,
    AuthenticationError,
    Client,
    ClientError,
    DeadlineExceeded,
    Event,
    InvalidRequest,
    Item,
    NoAnswer,
    NotFoundError,
    PermissionDenied,
    RetryBudget,
    ServerFailed,
    ServerOverloaded,
    ServerUnavailable,
    calls,
)
from recsys.client.exchange import ClientSettings, Pause, Reply, Send, exchange
from recsys.client.retries import RetryPolicy
from recsys.config import ServingConfig
from recsys.online.open_state import required_store_settings
from recsys.serving.app import create_app
from recsys.serving.service import RankService

RANKED = {
    "request_id": "r1",
    "model": {"ranker": "news-ranker/1", "encoder": None},
    "rung": "full",
    "items": [{"item_id": "a", "score": 0.5, "rank": 1}],
    "unknown": [],
}
TAKEN = {"accepted": 1, "rejected": []}
CLICK = {"user_id": "u1", "item_id": "a", "timestamp": 1_700_000_000}
ANONYMOUS = {"user_id": None, "item_id": "a", "timestamp": 1_700_000_000}
Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Calls one method of one kind of client: ask(url, "rank", "u1", ["a"], retries=0)."""

    def sync(url: str, method: str, *arguments: Any, key: str | None = None, retries: int = 2, **named: Any) -> Any:
        with Client(url, key, timeout=60, retries=retries, verify=False) as client:
            return getattr(client, method)(*arguments, **named)

    async def once(url: str, method: str, *arguments: Any, key: str | None, retries: int, **named: Any) -> Any:
        async with AsyncClient(url, key, timeout=60, retries=retries, verify=False) as client:
            return await getattr(client, method)(*arguments, **named)

    def asynchronous(url: str, method: str, *arguments: Any, key: str | None = None, retries: int = 2, **named: Any):  # type: ignore[no-untyped-def]
        return asyncio.run(once(url, method, *arguments, key=key, retries=retries, **named))

    return sync if request.param == "sync" else asynchronous


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@pytest.fixture(scope="module")
def url(site: SmallSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the small site's items."""
    store = LmdbStore(tmp_path_factory.mktemp("client") / "store")
    state = OnlineState.open(store, required_store_settings(site.ranking_model.settings, {}))
    load_items_into(state, site.ranking_model, site.data / "items.parquet")
    limits = ServingConfig(max_candidates=100, budget_ms=0)
    service = RankService(site.ranking_model, state, limits, ranker="small-ranker/1", encoder="small-encoder/1")
    service.warm_up()
    with closing(store), closing(listen("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="warning", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


def test_a_server_ranks_items_that_it_knows_and_items_that_come_along(ask: Ask, url: str, site: SmallSite) -> None:
    known = str(site.log.catalog.ids[0])
    inline = Item.model_validate({"item_id": "new", "title": "Storm nears the coast", "published_at": "2026-01-01"})
    answer = ask(url, "rank", "u1", [known, inline, {"item_id": 7, "title": "Seven"}, "nobody"], explain=True)
    assert {item.item_id for item in answer.items} == {known, "new", "7", "nobody"}
    assert [item.rank for item in answer.items] == [1, 2, 3, 4]
    assert answer.model.ranker == "small-ranker/1"
    assert answer.unknown == ["nobody"]
    assert answer.items[0].explanation
    assert len(ask(url, "rank", None, [known, "nobody"], top_k=1).items) == 1
    with pytest.raises(ValidationError, match="frozen"):
        answer.rung = "none"


def test_what_a_client_writes_is_in_the_next_ranking(ask: Ask, url: str, site: SmallSite) -> None:
    user, first, second = f"user {time.time_ns()}", *map(str, site.log.catalog.ids[:2])
    assert ask(url, "add_items", [{"item_id": "fresh", "title": "Fresh"}, {"item_id": "untitled"}]).accepted == 1
    assert ask(url, "rank", user, ["fresh"]).unknown == []
    before = ask(url, "rank", user, [first, second])
    shown = {"event_type": "impression", "user_id": user, "items": [first, second], "timestamp": datetime.now(UTC)}
    taken = ask(url, "add_events", [shown, Event(user_id=user, item_id=first, timestamp=time.time())])
    assert (taken.accepted, taken.rejected) == (2, [])
    after = ask(url, "rank", user, [first, second])
    assert [item.score for item in after.items] != [item.score for item in before.items]
    rejected = ask(url, "add_events", [{"user_id": user, "timestamp": 1}]).rejected
    assert [(one.index, one.code) for one in rejected] == [(0, "bad_item_id")]


def test_a_server_says_which_versions_answer(ask: Ask, url: str) -> None:
    ready = ask(url, "ready")
    assert (ready.status, ready.model.encoder) == ("ready", "small-encoder/1")
    assert ready.challenger is None
    assert ask(url, "rank", "u1", ["a"], variant="champion").model == ready.model
    with pytest.raises(InvalidRequest, match="this server has no challenger"):
        ask(url, "rank", "u1", ["a"], variant="challenger")


def test_an_error_of_a_server_carries_code_field_and_the_id_of_its_request(ask: Ask, url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^422 invalid_request: candidates: .*at most 100.*\(request ") as caught:
        ask(url, "rank", "u1", [f"i{number}" for number in range(101)])
    error = caught.value
    assert (error.status, error.code, error.field) == (422, "invalid_request", "candidates")
    assert len(error.request_id) == 32
    with pytest.raises(NotFoundError):
        ask(f"{url}/elsewhere", "ready")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed_json", InvalidRequest),
        (401, "unauthorized", AuthenticationError),
        (403, "forbidden", PermissionDenied),
        (404, "not_found", NotFoundError),
        (413, "body_too_large", InvalidRequest),
        (422, "timestamp_too_old", InvalidRequest),
        (429, "too_many_requests", ServerOverloaded),
        (500, "internal_error", ServerFailed),
        (503, "overloaded", ServerOverloaded),
        (503, "store_unavailable", ServerUnavailable),
    ],
)
def test_every_status_has_its_error(ask: Ask, status: int, code: str, kind: type[ClientError]) -> None:
    with stub_server(problem(status, code, "why", [("X-Request-ID", "r9")], field="here")) as stub:
        with pytest.raises(kind) as caught:
            ask(stub.url, "rank", "u1", ["a"], retries=0)
        assert type(caught.value) is kind
        assert (caught.value.code, caught.value.message, caught.value.field) == (code, "why", "here")
        assert caught.value.request_id == "r9"
        assert str(caught.value) == f"{status} {code}: here: why (request r9)"


def test_an_answer_that_is_none_of_the_contract_is_shown(ask: Ask) -> None:
    with stub_server(Says(200, "<html>Welcome")) as stub, pytest.raises(ServerFailed, match="POST /v1/rank"):
        ask(stub.url, "rank", "u1", ["a"])
    with stub_server(Says(302, "<html>Moved")) as stub, pytest.raises(ServerFailed, match=r"302.*'<html>Moved'"):
        ask(stub.url, "rank", "u1", ["a"])
    with stub_server(Says(502, "<html>Bad gateway")) as stub, pytest.raises(ServerUnavailable, match="'<html>Bad"):
        ask(stub.url, "rank", "u1", ["a"], retries=0)


def test_a_key_goes_with_every_request_and_stands_in_no_error(ask: Ask) -> None:
    with stub_server(problem(401, "unauthorized", "expected a key")) as stub:
        with pytest.raises(AuthenticationError) as caught:
            ask(stub.url, "rank", "u1", ["a"], key="s3cret")
        assert stub.asked[0].headers["authorization"] == "Bearer s3cret"
        assert "s3cret" not in f"{caught.value!r} {caught.value} {ClientSettings(stub.url, 's3cret')}"


def test_a_budget_goes_with_its_ranking_alone(ask: Ask) -> None:
    with stub_server(Says(200, RANKED)) as stub:
        for budget in (None, 0, 12.5):
            ask(stub.url, "rank", "u1", ["a"], budget_ms=budget)
        assert [one.headers.get("x-budget-ms") for one in stub.asked] == [None, "0", "12.5"]
        with pytest.raises(ValueError, match="a budget of 0 or more milliseconds, got -1"):
            ask(stub.url, "rank", "u1", ["a"], budget_ms=-1)


def test_routes_of_items_and_users_are_asked_as_the_contract_says(ask: Ask) -> None:
    with stub_server(Says(200, {"item_id": "a/b", "title": "A", "price": 3})) as stub:
        item = ask(stub.url, "get_item", "a/b")
        assert (item.title, item.columns()["price"]) == ("A", 3)
        assert (stub.asked[0].method, stub.asked[0].path) == ("GET", "/v1/items/a%2Fb")
    with stub_server(Says(200, {"item_id": "..", "deleted": True})) as stub:
        assert ask(stub.url, "delete_item", "..").deleted
        assert (stub.asked[0].method, stub.asked[0].path) == ("DELETE", "/v1/items/%2E%2E")
    with stub_server(Says(200, TAKEN)) as stub:
        assert ask(stub.url, "add_users", [{"user_id": "u1", "country": "NZ"}]).accepted == 1
        assert stub.asked[0].body == {"users": [{"user_id": "u1", "country": "NZ"}]}
    with stub_server(Says(200, {"user_id": "7", "forgotten": True, "removed": {}})) as stub:
        assert ask(stub.url, "forget_user", 7).forgotten
        assert (stub.asked[0].method, stub.asked[0].path) == ("DELETE", "/v1/users/7")


@pytest.mark.parametrize("failure", [RESET, Says(502), Says(504), problem(503, "store_unavailable", "away")], ids=str)
def test_a_ranking_is_asked_for_again_under_the_same_id(ask: Ask, failure: Says | str) -> None:
    with stub_server(failure, failure, Says(200, RANKED)) as stub:
        assert ask(stub.url, "rank", "u1", ["a"]).items[0].item_id == "a"
        assert len(stub.asked) == 3
        assert len({one.headers["x-request-id"] for one in stub.asked}) == 1
        assert stub.asked[0].body == stub.asked[2].body == {"user_id": "u1", "candidates": ["a"]}
    with stub_server(failure) as stub:
        with pytest.raises((NoAnswer, ServerUnavailable)):
            ask(stub.url, "rank", "u1", ["a"])
        assert len(stub.asked) == 3


def test_what_the_caller_did_wrong_is_not_sent_again(ask: Ask) -> None:
    with stub_server(problem(422, "invalid_request", "no"), Says(200, RANKED)) as stub:
        with pytest.raises(InvalidRequest):
            ask(stub.url, "rank", "u1", ["a"])
        assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("events", "times"),
    [
        ([CLICK], 2),
        ([ANONYMOUS | {"event_id": "e1"}], 2),
        ([ANONYMOUS | {"event_type": "impression", "items": ["a"]}], 2),
        ([CLICK, ANONYMOUS], 1),
    ],
)
def test_events_are_sent_again_where_the_server_recognises_a_repeat(
    ask: Ask, events: list[dict[str, object]], times: int
) -> None:
    with stub_server(RESET, Says(200, TAKEN)) as stub:
        if times == 1:
            with pytest.raises(NoAnswer, match="connection failed"):
                ask(stub.url, "add_events", events)
        else:
            assert ask(stub.url, "add_events", events).accepted == 1
        assert len(stub.asked) == times


def test_what_was_refused_before_any_work_is_sent_again_whatever_it_is(ask: Ask) -> None:
    with stub_server(problem(503, "overloaded", "full", [("Retry-After", "0")]), Says(200, TAKEN)) as stub:
        assert ask(stub.url, "add_events", [ANONYMOUS]).accepted == 1
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NoAnswer, match="connection failed"):  # three attempts, none of which is made
        ask(f"http://127.0.0.1:{port}", "add_events", [ANONYMOUS])


def test_a_wait_longer_than_the_call_may_take_is_left_to_the_caller(ask: Ask) -> None:
    with stub_server(problem(503, "overloaded", "full", [("Retry-After", "100")])) as stub:
        with pytest.raises(ServerOverloaded) as caught:
            ask(stub.url, "rank", "u1", ["a"])
        assert caught.value.retry_after == 100
        assert len(stub.asked) == 1


def test_readiness_is_asked_once(ask: Ask) -> None:
    with stub_server(problem(503, "not_ready", "starting")) as stub:
        with pytest.raises(ServerUnavailable, match="starting"):
            ask(stub.url, "ready")
        assert len(stub.asked) == 1


@pytest.mark.parametrize("answer", [SILENCE, Says(200, RANKED, pieces=40)], ids=["silence", "trickle"])
def test_a_call_ends_when_its_time_is_over(ask: Ask, answer: Says | str) -> None:
    with stub_server(answer) as stub:
        with pytest.raises(DeadlineExceeded, match=r"within 0.3 s.*\(request ") as caught:
            ask(stub.url, "rank", "u1", ["a"], timeout=0.3)
        assert caught.value.status == 0
        assert len(stub.asked) == 1


def test_arguments_that_cannot_be_sent_are_refused_before_anything_is_sent(ask: Ask) -> None:
    with stub_server(Says(200, RANKED)) as stub:
        for candidates, message in (
            ([{"item_id": "a", "price": float("nan")}], "not JSON compliant"),
            ([{"item_id": "a", "price": object()}], "a value that JSON has a form for, got object"),
        ):
            with pytest.raises((ValueError, TypeError), match=message):
                ask(stub.url, "rank", "u1", candidates)
        with pytest.raises(ValueError, match="expected an id"):
            ask(stub.url, "get_item", "")
        assert stub.asked == []


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        (("rank.example.com",), {}, "base_url like"),
        (("https://",), {}, "base_url like"),
        (("http://a", "key\n"), {}, "visible ASCII"),
        (("http://a",), {"timeout": 0}, "more than 0 seconds, got 0"),
        (("http://a",), {"retries": -1}, "retries of 0 or more, got -1"),
    ],
)
def test_a_client_says_what_it_expected(arguments: tuple[str, ...], named: dict[str, Any], message: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match=message):
            kind(*arguments, **named)


def waits_and_requests(settings: ClientSettings, replies: list[Reply]) -> tuple[list[float], int]:
    """The waits of one call whose requests get these replies, and how many requests it sends."""
    waits: list[float] = []
    steps = exchange(calls.rank("u1", ["a"], **NOTHING_ELSE), settings, None)
    sent, reply = 0, None
    try:
        while True:
            step = steps.send(reply)
            reply = None
            if isinstance(step, Pause):
                waits.append(step.seconds)
            else:
                assert isinstance(step, Send)
                reply, sent = replies[min(sent, len(replies) - 1)], sent + 1
    except (ClientError, StopIteration):
        return waits, sent


NOTHING_ELSE: dict[str, Any] = {
    "history": None,
    "query": None,
    "timestamp": None,
    "top_k": None,
    "explain": False,
    "variant": None,
    "budget_ms": None,
}
AWAY = (503, {}, b"")


def test_waits_double_are_drawn_from_nothing_on_and_have_a_longest() -> None:
    drawn = [
        waits_and_requests(
            ClientSettings("http://a", timeout=600, retries=RetryPolicy(5, 1.0, 4.0, RetryBudget(0, 5))), [AWAY]
        )[0]
        for _ in range(200)
    ]
    for number, bound in enumerate((1, 2, 4, 4, 4)):
        waits = [one[number] for one in drawn]
        assert 0 <= min(waits) < 0.2 * bound
        assert 0.8 * bound < max(waits) <= bound


def test_a_retry_after_is_the_least_wait_be_it_seconds_or_a_date() -> None:
    settings = ClientSettings("http://a", timeout=600, retries=RetryPolicy(2, 1.0))
    waits, sent = waits_and_requests(
        settings,
        [(503, {"retry-after": "20"}, b""), (503, {"retry-after": "Mon, 30 Nov 2015 10:00:00 GMT"}, b""), AWAY],
    )
    assert sent == 3
    assert 20 <= waits[0] <= 21
    assert 0 <= waits[1] <= 2


def test_of_many_failing_calls_a_tenth_is_sent_again() -> None:
    budget = RetryBudget(share=0.1, reserve=10)
    settings = ClientSettings("http://a", timeout=600, retries=RetryPolicy(2, budget=budget))
    sent = sum(waits_and_requests(settings, [AWAY])[1] for _ in range(1000))
    assert sent == 1000 + 10 + 99  # the first call fills nothing: the reserve is full


def test_an_import_of_the_client_is_light_and_says_what_is_missing() -> None:
    heavy = (
        "torch",
        "transformers",
        "lightgbm",
        "mlflow",
        "pandas",
        "numpy",
        "numba",
        "pyarrow",
        "fastapi",
        "features",
    )
    root = str(Path(__file__).resolve().parents[1])
    code = f"import json, sys, recsys.client; print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": root}, capture_output=True, check=True)
    assert json.loads(done.stdout) == []
    blocked = f"import sys; sys.modules['httpx'] = None; {code}"
    done = subprocess.run([sys.executable, "-c", blocked], env={"PYTHONPATH": root}, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(b"ImportError: recsys.client: expected the package httpx")


def test_a_shared_client_answers_several_threads(url: str) -> None:
    answers: list[int] = []
    with Client(url, timeout=60) as client:
        threads = [Thread(target=lambda: answers.append(len(client.rank("u1", ["a", "b"]).items))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [2] * 8
