"""The ladder of the server: each rung by a planted cause, what it answers, what is counted, and the way back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from redis_server import redis_running
from small_ranking_model import SmallSite, small_site

from features.errors import TimeOrderError
from features.online.reader import OnlineReader
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from pipelines.load import events_into, load_items_into
from recsys.config import ServingConfig
from recsys.encoder.model import Encoder
from recsys.online.encoding_queue import EncodingQueue
from recsys.online.open_state import open_state, required_store_settings
from recsys.ranker.matrix import candidate_matrix
from recsys.ranker.model import RankingModel, load_ranking_model
from recsys.ranker.ranker import Ranker
from recsys.serving.app import create_app
from recsys.serving.budget import Budget
from recsys.serving.detached_work import AllThreadsHang, DetachedWork, LateWork
from recsys.serving.errors import BadRequest
from recsys.serving.popularity import ItemPopularity
from recsys.serving.request_parsing import parse_request
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService
from recsys.serving.stage_times import StageTimes

DAY = 86_400_000_000


@dataclass
class StoppedClock:
    """A clock that stands, so that a request takes the time that its estimates say."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def with_fallback(site: SmallSite) -> RankingModel:
    """The small site's model and, beside it, the ranker without text of the same training."""
    fallback = site.ranked.rankers["behaviour"]
    settings = site.ranking_model.settings.model_copy(update={"fallback_columns": fallback.columns})
    return replace(site.ranking_model, settings=settings, fallback=fallback)


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@pytest.fixture(scope="module")
def filled(site: SmallSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineState]:
    """A store with the items and events of the small site."""
    with closing(LmdbStore(tmp_path_factory.mktemp("ladder") / "store")) as store:
        state = OnlineState.open(store, required_store_settings(with_fallback(site).settings, {}))
        load_items_into(state, site.ranking_model, site.data / "items.parquet")
        events_into(state, site.data / "events.parquet")
        yield state


def serve(model: RankingModel, state: OnlineState, **settings: Any) -> RankService:
    return RankService(model, state, ServingConfig(**settings), ranker="r/1", encoder="e/1", clock=StoppedClock())


@pytest.fixture
def service(site: SmallSite, filled: OnlineState) -> RankService:
    found = serve(with_fallback(site), filled)
    found.popularity.refresh(filled)
    return found


def ids_of(site: SmallSite, n: int = 20) -> list[str]:
    return [str(item_id) for item_id in site.log.catalog.ids[:n]]


def request(candidates: list[Any], **further: Any) -> RankRequest:
    return RankRequest.model_validate({"user_id": "u1", "candidates": candidates, **further})


def check_answer(answer: dict[str, Any], ids: list[str]) -> None:
    """That an answer is what the contract says, whatever its rung."""
    items = answer["items"]
    assert set(answer) == {"request_id", "model", "rung", "items", "unknown"}
    assert sorted(item["item_id"] for item in items) == sorted(ids)
    assert [item["rank"] for item in items] == list(range(1, len(ids) + 1))
    order = [(-item["score"], item["item_id"]) for item in items]
    assert order == sorted(order)
    assert np.isfinite([item["score"] for item in items]).all()


def counted(service: RankService, rung: str, reason: str) -> float:
    registry = service.telemetry.registry
    assert registry.get_sample_value("recsys_ranks_total", {"rung": rung})
    return registry.get_sample_value("recsys_lower_ranks_total", {"rung": rung, "reason": reason}) or 0.0


def test_a_request_that_has_time_is_answered_as_one_without_a_budget(service: RankService, site: SmallSite) -> None:
    ids = ids_of(site)
    answer = service.answer(request(ids), budget=service.budget(50))
    check_answer(answer, ids)
    assert answer["rung"] == "full"
    assert answer["items"] == service.rank(request(ids))["items"]


def test_without_time_for_text_the_behaviour_ranker_of_the_training_answers(
    service: RankService, site: SmallSite, filled: OnlineState
) -> None:
    ids = ids_of(site)
    moment = int(site.log.events.time.max()) + DAY
    service.champion.times.add("text", len(ids), 0.06)
    answer = service.answer(request(ids, timestamp=moment), budget=service.budget(50))
    check_answer(answer, ids)
    assert (answer["rung"], counted(service, "no_text", "deadline")) == ("no_text", 1)
    ranker, expected = behaviour_scores(service, filled, ids, moment)
    assert not any("text" in name or "lexical" in name or "audience" in name for name in ranker.columns)
    assert {item["item_id"]: item["score"] for item in answer["items"]} == expected
    full = service.rank(request(ids, timestamp=moment))
    assert [item["score"] for item in full["items"]] != [item["score"] for item in answer["items"]]


def behaviour_scores(
    service: RankService, state: OnlineState, ids: list[str], moment: int
) -> tuple[Ranker, dict[str, float]]:
    """The behaviour ranker's own scores of its columns, taken from the whole matrix of the version."""
    ranker = service.served.ranking_model.fallback
    assert ranker is not None
    with state.snapshot() as view:
        reader = OnlineReader(view, "u1", moment, ids, now=moment)
        values = service.served.online.matrix(view, reader).select(ranker.columns)
    return ranker, dict(zip(ids, ranker.scores(values, threads=1).tolist(), strict=True))


def test_no_text_is_computed_for_the_behaviour_ranker(
    service: RankService, site: SmallSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(Encoder, "encode_texts", lambda *_: read.append("vectors"))
    monkeypatch.setattr("recsys.online.behaviour_model.candidate_matrix", _noting(read))
    service.champion.times.add("text", 20, 0.06)
    described = [*ids_of(site, 19), {"item_id": "new", "title": "Words that nobody wrote before"}]
    assert service.answer(request(described), budget=service.budget(50))["rung"] == "no_text"
    (columns,) = read
    assert not {"text_score", "lexical_similarity", "audience_similarity"}.intersection(columns)
    assert {"co_click_mean", "item_clicks_all_zscore"} <= set(columns)


def _noting(read: list[Any]) -> Any:
    def matrix(*arguments: Any, **further: Any) -> Any:
        names, values = candidate_matrix(*arguments, **further)
        read.append(names)
        return names, values

    return matrix


def test_a_stage_that_is_left_out_is_tried_again_after_some_requests(service: RankService, site: SmallSite) -> None:
    ids = ids_of(site)
    service.champion.times.add("text", len(ids), 0.1)
    rungs = [service.answer(request(ids), budget=service.budget(50))["rung"] for _ in range(40)]
    assert rungs[0] == "no_text"
    assert rungs[-1] == "full"
    assert rungs == sorted(rungs, reverse=True), "once it is on time it stays"


def test_without_time_for_any_model_popularity_answers(service: RankService, site: SmallSite) -> None:
    ids = ids_of(site)
    service.champion.times.add("read", len(ids), 0.06)
    answer = service.answer(request([*ids, "never seen"], top_k=5), budget=service.budget(50))
    assert (answer["rung"], counted(service, "popularity", "deadline")) == ("popularity", 1)
    events = site.log.events
    clicks = {item: int(np.count_nonzero(events.positive & (events.item == code))) for code, item in enumerate(ids)}
    best = sorted(clicks, key=lambda item: (-clicks[item], item))[:5]
    expected = [{"item_id": item, "score": float(clicks[item]), "rank": rank} for rank, item in enumerate(best, 1)]
    assert answer["items"] == expected


def test_a_budget_that_was_over_before_the_ranking_began_is_answered_from_memory(
    service: RankService, site: SmallSite
) -> None:
    late = Budget.of(50, arrived=999.0, clock=StoppedClock())
    assert service.answer(request(ids_of(site)), budget=late)["rung"] == "popularity"


def test_candidates_without_clicks_in_memory_keep_their_order(service: RankService) -> None:
    service.champion.times.add("read", 3, 1.0)
    answer = service.answer(request(["z", "a", "m", "z"]), budget=service.budget(50))
    assert (answer["rung"], counted(service, "caller_order", "deadline")) == ("caller_order", 1)
    assert [item["item_id"] for item in answer["items"]] == ["z", "a", "m"]
    assert answer["warnings"] == [
        "1 x is repeated, the last row of an item counts; the first is candidates.0.item_id: 'z'"
    ]


def test_a_version_without_a_ranker_without_text_skips_that_rung(site: SmallSite, filled: OnlineState) -> None:
    service = serve(site.ranking_model, filled)
    service.popularity.refresh(filled)
    service.champion.times.add("text", 20, 0.06)
    assert service.answer(request(ids_of(site)), budget=service.budget(50))["rung"] == "popularity"


def test_texts_that_are_encoded_too_late_count_as_missing_and_serve_the_next_request(
    site: SmallSite, filled: OnlineState, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, encoded = Event(), Event()
    encode = Encoder.encode_texts

    def slow(self: Encoder, texts: Any) -> Any:
        assert held.wait(30)
        vectors = encode(self, texts)
        encoded.set()
        return vectors

    service = serve(with_fallback(site), filled)
    ids = [*ids_of(site, 5), {"item_id": "new", "title": "Words that no test wrote before"}]
    monkeypatch.setattr(Encoder, "encode_texts", slow)
    answer = service.answer(request(ids), budget=service.budget(20))
    assert (answer["rung"], counted(service, "no_encoding", "deadline")) == ("no_encoding", 1)
    assert np.isfinite([item["score"] for item in answer["items"]]).all()
    assert service.champion.times.estimate("encoding", 1) > 0
    held.set()
    assert encoded.wait(30)
    expected = service.rank(request(ids))
    assert service.answer(request(ids), budget=service.budget(20))["rung"] == "full"
    assert service.answer(request(ids), budget=service.budget(20))["items"] == expected["items"]


@dataclass
class NoWait:
    """A request that has no time for texts without a vector."""

    missed: set[str]

    def wait(self, n_texts: int, finished: Any) -> None:
        """Does not."""


def test_only_texts_without_a_vector_are_missing(
    service: RankService, site: SmallSite, filled: OnlineState, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[str] = []
    monkeypatch.setattr(EncodingQueue, "add", lambda _, encode, texts: queued.extend(texts))
    asked = request([*ids_of(site, 5), {"item_id": "new", "title": "A title without a vector"}])
    with filled.snapshot() as view:
        reader = parse_request(asked, service.served, service.settings).reader(view)
        waiting = NoWait(set())
        matrix = service.served.online.matrix(view, reader, waiting)
    (score,) = matrix.select(("text_score",)).T
    assert np.isnan(score).tolist() == [False] * 5 + [True]
    assert list(waiting.missed) == queued == ["A title without a vector"]


def test_stored_items_without_a_vector_are_asked_for_again(
    site: SmallSite, filled: OnlineState, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the encoder without its table, over a store that has no vectors of it: every text has to be encoded
    tower = site.ranking_model.encoder
    bare = replace(site.ranking_model, encoder=Encoder(tower.settings, tower.tower, tower.head))
    service = serve(bare, filled)
    service.champion.times.add("encoding", 10, 1.0)
    ids = ids_of(site, 10)
    held = Event()
    encode = Encoder.encode_texts

    def slow(self: Encoder, texts: Any) -> Any:
        assert held.wait(30)
        return encode(self, texts)

    monkeypatch.setattr(Encoder, "encode_texts", slow)
    rungs = [service.answer(request(ids), budget=service.budget(20))["rung"] for _ in range(2)]
    assert rungs == ["no_encoding", "no_encoding"]
    held.set()
    expected = service.rank(request(ids))["items"]
    after = service.answer(request(ids), budget=service.budget(20))
    assert (after["rung"], after["items"]) == ("full", expected)


def test_texts_that_many_ask_for_are_encoded_once() -> None:
    queue, began, held, batches = EncodingQueue(), Event(), Event(), []

    def encode(texts: Any) -> None:
        batches.append(list(texts))
        began.set()
        assert held.wait(30)

    first = queue.add(encode, ["a"])
    assert began.wait(30)
    second = queue.add(encode, ["a", "b"])
    assert (first(0.0), second(0.0)) == (False, False)
    held.set()
    assert (first(30.0), second(30.0)) == (True, True)
    assert batches == [["a"], ["b"]]


def test_a_lost_store_is_answered_for_from_memory_and_recovers(site: SmallSite, tmp_path: Path) -> None:
    model, ids = with_fallback(site), ids_of(site)
    with redis_running(tmp_path) as redis, open_state(redis.place(), model.settings, create=True) as state:
        load_items_into(state, site.ranking_model, site.data / "items.parquet")
        service = RankService(model, state, ServingConfig(budget_ms=10_000), ranker="r/1", encoder="e/1")
        clicks = [{"user_id": "u1", "item_id": ids[n], "timestamp": 1_700_000_000 + n} for n in (7, 8)]
        assert service.writer.add_events(clicks)["accepted"] == 2  # the newest one counts once another one has come
        service.popularity.refresh(state)
        client = TestClient(create_app(service))
        body = {"user_id": "u1", "candidates": ids, "timestamp": 1_700_000_000 + 3600}
        before = client.post("/v1/rank", json=body).json()
        assert before["rung"] == "full"
        redis.stop(signal.SIGKILL)
        away = client.post("/v1/rank", json=body)
        assert away.status_code == 200
        check_answer(away.json(), ids)
        assert (away.json()["rung"], away.json()["items"][0]) == (
            "popularity",
            {"item_id": ids[7], "score": 1.0, "rank": 1},
        )
        assert counted(service, "popularity", "store") == 1
        assert client.post("/v1/rank", json=body | {"candidates": ["x", "y"]}).json()["rung"] == "caller_order"
        assert client.get("/health/ready").status_code == 503
        bad = [{"item_id": ids[0], "published_at": {"no": "date"}}]
        assert client.post("/v1/rank", json=body | {"candidates": bad}).status_code == 422
        redis.start()
        after = client.post("/v1/rank", json=body).json()
        assert (after["rung"], after["items"]) == ("full", before["items"])
        assert client.get("/health/ready").status_code == 200


def test_a_request_of_the_past_is_an_error_on_every_rung(service: RankService, site: SmallSite) -> None:
    with pytest.raises(TimeOrderError):
        service.answer(request(ids_of(site), timestamp="2001-01-01T00:00:00Z"), budget=service.budget(50))
    with pytest.raises(BadRequest):
        service.answer(request(ids_of(site), timestamp="soon"), budget=service.budget(0))


def test_a_ranking_that_fails_is_logged_and_answered_without_the_model(
    service: RankService, site: SmallSite, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        columns = site.ranking_model.ranker.columns

        def scores(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("planted")

    broken: Any = Broken()
    model = replace(service.served.ranking_model, ranker=broken)
    service.champion.fill(replace(service.served, ranking_model=model))
    assert service.answer(request(ids_of(site)))["rung"] == "popularity"
    assert counted(service, "popularity", "error") == 1
    assert "planted" in caplog.text


def test_the_header_sets_the_budget_and_bad_values_name_it(site: SmallSite, filled: OnlineState) -> None:
    service = RankService(with_fallback(site), filled, ServingConfig(), ranker="r/1", encoder="e/1")
    client, body = TestClient(create_app(service)), {"candidates": ids_of(site, 3)}

    def rung(budget: str) -> str:
        return str(client.post("/v1/rank", json=body, headers={"X-Budget-Ms": budget}).json()["rung"])

    assert (rung("0"), rung("1e7"), rung("0.0001")) == ("full", "full", "caller_order")
    for wrong in ("", "soon", "-1", "nan", "inf"):
        answer = client.post("/v1/rank", json=body, headers={"X-Budget-Ms": wrong})
        problem = answer.json()["error"]
        assert (answer.status_code, problem["field"]) == (422, "X-Budget-Ms")
        assert problem["message"].startswith("header X-Budget-Ms: expected milliseconds")


def test_memory_holds_the_items_with_most_clicks(filled: OnlineState, site: SmallSite) -> None:
    every, few = ItemPopularity(1000), ItemPopularity(3)
    for table in (every, few):
        table.refresh(filled)
    ids = ids_of(site, 80)
    clicks = every.clicks(ids)
    best = sorted(range(len(ids)), key=lambda i: (-clicks[i], ids[i]))[:3]
    assert len(few) == 3
    assert np.flatnonzero(few.clicks(ids)).tolist() == sorted(best)
    assert clicks.sum() == np.count_nonzero(site.log.events.positive)


def test_work_that_hangs_is_left_and_no_more_of_it_is_begun() -> None:
    held, work = Event(), DetachedWork(2)
    assert work.run(lambda: "done", 30.0) == "done"
    for _ in range(2):
        with pytest.raises(LateWork):
            work.run(lambda: held.wait(30), 0.0)
    with pytest.raises(AllThreadsHang):
        work.run(lambda: "done", 30.0)
    held.set()
    while True:  # until one of the two has ended
        try:
            assert work.run(lambda: "done", 30.0) == "done"
        except AllThreadsHang:
            continue
        break


def test_an_estimate_follows_longer_times_at_once_and_shorter_ones_slowly() -> None:
    times = StageTimes()
    assert times.estimate("text", 100) == 0.0
    times.add("text", 100, 1.0)
    times.add("text", 100, 2.0)
    assert times.estimate("text", 100) == 1.5
    times.add("text", 127, 0.5)
    assert times.estimate("text", 100) == pytest.approx(1.45)
    times.skipped("text", 100)
    assert times.estimate("text", 100) == pytest.approx(1.421)
    assert times.estimate("text", 128) == times.estimate("read", 100) == 0.0


def test_a_ranker_without_text_is_stored_with_its_version(site: SmallSite, tmp_path: Path) -> None:
    model = with_fallback(site)
    model.save(tmp_path)
    loaded = load_ranking_model(tmp_path, model.encoder)
    assert loaded.settings == model.settings
    assert model.fallback is not None and loaded.fallback is not None
    rows = site.ranked.matrix_for("behaviour")[:50]
    np.testing.assert_array_equal(loaded.fallback.scores(rows), model.fallback.scores(rows))
    site.ranking_model.save(tmp_path / "older")
    assert load_ranking_model(tmp_path / "older", model.encoder).fallback is None
