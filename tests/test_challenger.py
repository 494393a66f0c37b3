"""A challenger beside the champion: whom it answers, what it does in shadow, and that it never hurts a request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Event
from typing import Any

import mlflow
import numpy as np
import pytest
from fastapi.testclient import TestClient
from rolled_out_site import (
    CHALLENGER_URI,
    RANKER,
    Challenged,
    RolledOutSite,
    altered,
    popularity,
    register,
    rolled_out,
    rolled_out_once,
    scores,
    unreachable,
)
from scipy.stats import kendalltau

from pipelines.serve import challenger_options
from recsys.registry import tracking
from recsys.registry.names import Version
from recsys.rollout.shadow_runs import ShadowRuns, shadow_figures
from recsys.serving.app import create_app
from recsys.serving.background_work import BackgroundWork
from recsys.serving.errors import BadRequest
from recsys.serving.failure_log import SECONDS, FailureLog
from recsys.serving.order_agreement import OrderAgreement, compare_orders
from recsys.serving.schemas import RankRequest
from recsys.serving.traffic import ChallengerOptions, is_in_share

__all__ = ["rolled_out", "rolled_out_once"]
PAIR = {"champion": f"{RANKER}/1", "challenger": f"{RANKER}/3"}
USERS = [f"u{number}" for number in range(1000)]
PINNED = [f"u{number}" for number in (121, 203, 236, 267, 341, 534, 63, 630, 693, 766, 808, 837, 895, 965)]
"""The users of a share of 0.01: blake2b of "\0user\0u121" begins with a number below a hundredth of 2**64."""


def taken(share: float, salt: str = "") -> set[str]:
    return {user for user in USERS if is_in_share(user, "r", share, salt)}


def metric(site: Challenged, name: str, **labels: str) -> float:
    return site.service.telemetry.registry.get_sample_value(name, labels) or 0.0


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def order(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def shadowed(site: Challenged, outcome: str, pair: Mapping[str, str] = PAIR) -> float:
    return metric(site, "recsys_shadow_requests_total", **pair, outcome=outcome)


def break_challenger(site: Challenged, score: Callable[[], object]) -> None:
    """Give the challenger a ranker that calls `score` and then fails."""

    class Broken:
        columns = popularity_columns(site)

        def scores(self, *_: Any, **__: Any) -> Any:
            score()
            raise ZeroDivisionError("planted")

    served, broken = site.challenger.slot.served, Broken()
    assert served is not None
    model: Any = replace(served.ranking_model, ranker=broken)  # type: ignore[arg-type]
    site.challenger.slot.fill(replace(served, ranking_model=model))


def popularity_columns(site: Challenged) -> tuple[str, ...]:
    served = site.challenger.slot.served
    assert served is not None
    return tuple(served.ranking_model.ranker.columns)


def test_a_share_of_the_users_is_the_same_in_every_process_and_grows_with_the_share() -> None:
    assert sorted(taken(0.01)) == PINNED
    assert taken(0.0) == set() and taken(1.0) == set(USERS)
    assert taken(0.1) < taken(0.5)
    assert 80 <= len(taken(0.1)) <= 120
    assert taken(0.1, "another") not in (taken(0.1), set())


def test_a_request_without_a_user_is_decided_by_its_own_id() -> None:
    requests = {is_in_share(None, f"r{number}", 0.5, "") for number in range(50)}
    assert requests == {True, False}
    assert is_in_share(None, "r7", 0.5, "") == is_in_share(None, "r7", 0.5, "")


def test_the_agreement_of_two_orders_is_what_can_be_counted() -> None:
    assert compare_orders("abc", "abc") == OrderAgreement(True, 1.0, 1.0)
    assert compare_orders("abc", "cba") == OrderAgreement(False, 1.0, 0.0)
    assert compare_orders("abcd", "abdc") == OrderAgreement(True, 1.0, 5 / 6)  # one of six pairs is turned round
    first = [str(number) for number in range(20)]
    assert compare_orders(first, first[15:] + first[:15]).overlap == 0.5  # five of the first ten stay there
    shuffled = np.random.default_rng(3).permutation(20)
    found = compare_orders(first, [first[i] for i in shuffled])
    assert 2 * found.in_order - 1 == pytest.approx(kendalltau(np.arange(20), np.argsort(shuffled)).statistic)


def test_background_work_is_bounded_and_waits_for_requests_to_end() -> None:
    work, began, go_on, done = BackgroundWork(2, patience=60), Event(), Event(), list[str]()

    def first() -> None:
        began.set()
        assert go_on.wait(60)
        done.append("first")

    assert work.add(first)
    assert began.wait(60)
    assert work.add(lambda: done.append("second"))
    assert not work.add(lambda: done.append("third"))
    go_on.set()
    wait_for(lambda: len(done) == 2)
    with work.request():
        wait_for(lambda: work.add(lambda: done.append("fourth")))
        time.sleep(0.05)
        assert len(done) == 2
    wait_for(lambda: len(done) == 3)
    work.close()
    assert not work.add(lambda: None)
    assert done == ["first", "second", "fourth"]


def test_of_many_failures_one_a_minute_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    failures = FailureLog(lambda: now[0])
    for _ in range(5):
        failures.add("it failed", ValueError("why"))
    now[0] += SECONDS
    failures.add("it failed", ValueError("why"))
    assert [record.getMessage() for record in caplog.records] == [
        "it failed (1 since the last such line)",
        "it failed (5 since the last such line)",
    ]


def test_the_options_name_the_alias_challenger_unless_they_name_another() -> None:
    served = "models:/news-ranker@champion"
    assert challenger_options(served, None, share=0.0, shadow=False) is None
    by_alias = ChallengerOptions("models:/news-ranker@challenger", 0.1, True)
    assert challenger_options(served, None, share=0.1, shadow=True) == by_alias
    assert challenger_options(served, "models:/n/5", share=0.0, shadow=False) == ChallengerOptions("models:/n/5")


def test_a_share_of_the_users_is_answered_by_the_challenger_and_the_answer_names_it(rolled_out: RolledOutSite) -> None:
    request = rolled_out.request()
    with rolled_out.challenged(share=0.5) as site:
        versions = {1: site.service.served}
        alone = {1: scores(site.service.rank(request))}
        site.rival.look()
        versions[3] = site.challenger.slot.served  # type: ignore[assignment]
        alone[3] = scores(site.service.rank(request, served=versions[3]))
        assert alone[1] != alone[3]
        seen = set()
        for user in ("u1", "u2", "u3", "u4", "u1"):
            number = 3 if user in taken(0.5) else 1
            answer = site.service.answer(request.model_copy(update={"user_id": user}))
            assert answer["model"] == versions[number].names
            seen.add(number)
        assert seen == {1, 3}
        for variant, number in (("champion", 1), ("challenger", 3)):
            answer = site.service.answer(request.model_copy(update={"variant": variant}))
            assert (answer["model"], scores(answer)) == (versions[number].names, alone[number])
            assert metric(site, "recsys_variant_ranks_total", variant=variant, ranker=f"{RANKER}/{number}", rung="full")
            assert metric(site, "recsys_variant_seconds_count", variant=variant, ranker=f"{RANKER}/{number}")


def test_a_challenger_that_is_asked_for_and_not_there_is_an_error_that_says_why(rolled_out: RolledOutSite) -> None:
    wanted = {"candidates": ["a", "b"], "variant": "challenger"}
    with rolled_out.served() as (service, _), TestClient(create_app(service)) as client:
        answer = client.post("/v1/rank", json=wanted)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, "variant")
        assert "recsys serve --challenger" in answer.json()["error"]["message"]
        assert client.post("/v1/rank", json=wanted | {"variant": "champion"}).status_code == 200
        assert client.post("/v1/rank", json=wanted | {"variant": "rival"}).status_code == 422
        assert "challenger" not in client.get("/health/ready").json()
    with rolled_out.challenged(share=0.2) as site, TestClient(create_app(site.service)) as client:
        message = client.post("/v1/rank", json=wanted).json()["error"]["message"]
        assert f"while {CHALLENGER_URI} does not answer" in message and "no version is loaded" in message
        assert "challenger" not in client.get("/health/ready").json()
        site.rival.look()
        assert client.post("/v1/rank", json=wanted).json()["model"]["ranker"] == f"{RANKER}/3"
        assert client.get("/health/ready").json()["challenger"] == {
            "model": {"ranker": f"{RANKER}/3", "encoder": None},
            "model_from": "registry",
            "share": 0.2,
            "shadow": False,
        }


def test_where_the_challenger_fails_the_champion_answers_and_it_is_counted(
    rolled_out: RolledOutSite, caplog: pytest.LogCaptureFixture
) -> None:
    request = rolled_out.request()
    with rolled_out.challenged(share=1.0) as site:
        site.rival.look()
        break_challenger(site, lambda: None)
        expected = scores(site.service.rank(request))
        for _ in range(3):
            answer = site.service.answer(request)
            assert (answer["model"]["ranker"], answer["rung"]) == (f"{RANKER}/1", "full")
            assert scores(answer) == expected
        assert metric(site, "recsys_challenger_failures_total", ranker=f"{RANKER}/3") == 3
        with pytest.raises(BadRequest):  # the request is at fault, not the challenger
            site.service.answer(request.model_copy(update={"timestamp": "soon"}))
        assert metric(site, "recsys_challenger_failures_total", ranker=f"{RANKER}/3") == 3
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "planted" in caplog.text


def test_the_shadow_compares_whole_lists_at_the_same_time_and_changes_no_answer(rolled_out: RolledOutSite) -> None:
    request, pair = rolled_out.request(), {"champion": f"{RANKER}/3", "challenger": f"{RANKER}/1"}
    rolled_out.point(3)
    rolled_out.point(1, "challenger")  # its scores change with the time of the request
    with rolled_out.challenged(shadow=True) as site:
        plain = site.service.answer(request)
        site.rival.look()
        challenger = site.challenger.slot.served
        expected = compare_orders(
            order(site.service.rank(request)), order(site.service.rank(request, served=challenger))
        )
        assert 0 < expected.in_order < 1
        now = site.service.rank(request.model_copy(update={"timestamp": None}), served=challenger)
        assert order(now) != order(site.service.rank(request, served=challenger))
        for further in ({}, {"top_k": 3}, {"explain": True}, {"variant": "champion"}, {"candidates": ["alone"]}):
            answer = site.service.answer(request.model_copy(update=further))
            assert answer["model"]["ranker"] == pair["champion"]
            if not further:
                assert answer["items"] == plain["items"]
        wait_for(lambda: shadowed(site, "compared", pair) == 3)  # who asks for a variant, or for one item, is left out
        figures = shadow_figures(site.service.telemetry)[(pair["champion"], pair["challenger"])]
        assert figures["same_first"] == expected.same_first
        assert figures["overlap_at_10"] == pytest.approx(expected.overlap)
        assert figures["kendall_tau"] == pytest.approx(2 * expected.in_order - 1)
        assert figures["champion_ms"] > 0 and figures["challenger_ms"] > 0
        assert (figures["dropped"], figures["failed"]) == (0, 0)
        unseen = RankRequest.model_validate({"user_id": "u1", "candidates": ["a", "b"]})
        site.service.answer(unseen)  # no timestamp: the challenger takes that of the champion's answer
        break_challenger(site, lambda: None)
        site.service.answer(request)  # the last in the queue: what fails says that all others are through
        wait_for(lambda: shadowed(site, "failed", pair) == 1)
        assert shadowed(site, "compared", pair) == 4


def test_what_does_not_fit_the_shadow_is_dropped_and_what_fails_in_it_hurts_nobody(
    rolled_out: RolledOutSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    request, go_on = rolled_out.request(), Event()
    with rolled_out.challenged(shadow=True) as site:
        site.rival.look()
        break_challenger(site, lambda: go_on.wait(60))
        room = site.service.settings.shadow_queue
        for _ in range(room + 5):
            assert site.service.answer(request)["model"]["ranker"] == f"{RANKER}/1"
        assert shadowed(site, "dropped") == 5
        go_on.set()
        wait_for(lambda: shadowed(site, "failed") == room)
        assert shadowed(site, "compared") == 0
        assert caplog.text.count("failed in shadow") == 1


def test_the_challenger_follows_its_alias_and_the_champion_answers_alone_without_one(
    rolled_out: RolledOutSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    request, client = rolled_out.request(), mlflow.MlflowClient()

    def answers(variant: str | None = None) -> str:
        found = site.service.answer(request.model_copy(update={"variant": variant}))
        return str(found["model"]["ranker"])

    with rolled_out.challenged(share=1.0) as site:
        site.rival.look()
        assert answers() == f"{RANKER}/3"
        rolled_out.point(2, "challenger")
        golden = rolled_out.artifact(Version(RANKER, "2"), "unit") / "golden.json"
        with altered(golden, None):
            site.rival.look()
        assert answers() == f"{RANKER}/3"
        assert site.service.ready()["refused_challenger"]["version"] == f"{RANKER}/2"
        assert metric(site, "recsys_model_refusal", variant="challenger") == 1
        assert metric(site, "recsys_model_refusal", variant="champion") == 0
        site.rival.look(again=True)
        assert answers() == f"{RANKER}/2"
        assert "refused_challenger" not in site.service.ready()
        rolled_out.point(1, "challenger")  # the champion itself
        site.rival.look()
        assert answers() == f"{RANKER}/1" and "challenger" not in site.service.ready()
        rolled_out.point(3, "challenger")
        site.rival.look()
        rolled_out.point(3)  # promoted, and the alias of the challenger is removed
        client.delete_registered_model_alias(RANKER, "challenger")
        site.watcher.look()
        for _ in range(3):
            site.rival.look()
        assert answers() == answers("champion") == f"{RANKER}/3"
        info = {"ranker": f"{RANKER}/3", "encoder": "", "model_from": "registry"}
        assert metric(site, "recsys_model_info", variant="champion", **info) == 1
        assert metric(site, "recsys_model_info", variant="challenger", **info) == 0
    said = [record.getMessage() for record in caplog.records]
    assert sum("there is no challenger" in line and "no alias 'challenger'" in line for line in said) == 1


def test_a_challenger_of_a_copy_answers_while_the_registry_is_away(rolled_out: RolledOutSite, tmp_path: Any) -> None:
    cache = str(tmp_path / "cache")
    with rolled_out.challenged(cache=cache) as site:
        site.rival.look()
    with unreachable(rolled_out.home), rolled_out.challenged(cache=cache) as site:
        site.rival.look()
        ready = site.service.ready()["challenger"]
        assert (ready["model"]["ranker"], ready["model_from"]) == (f"{RANKER}/3", "cache")


def test_a_challenger_that_was_withdrawn_does_not_come_back_while_the_registry_is_away(
    rolled_out: RolledOutSite, tmp_path: Any
) -> None:
    with rolled_out.challenged(share=1.0, cache=str(tmp_path / "cache")) as site:
        site.rival.look()
        mlflow.MlflowClient().delete_registered_model_alias(RANKER, "challenger")
        site.rival.look()
        with unreachable(rolled_out.home):
            site.rival.look()
            assert "challenger" not in site.service.ready()
            assert site.service.answer(rolled_out.request())["model"]["ranker"] == f"{RANKER}/1"


def test_a_ranking_says_how_probable_it_was_that_this_version_answers(rolled_out: RolledOutSite) -> None:
    request = rolled_out.request()
    with rolled_out.challenged(share=0.25) as site:
        found = {}

        class Log:
            def add(self, request_id: str, *_: Any, propensity: float | None) -> None:
                found[request_id] = propensity

        site.service.ranking_log = Log()  # type: ignore[assignment]
        users = {user in taken(0.25): user for user in USERS}
        before = request.model_copy(update={"user_id": users[False]})
        site.service.answer(before, request_id="without a challenger")
        site.rival.look()
        for is_taken, user in users.items():
            site.service.answer(request.model_copy(update={"user_id": user}), request_id=f"taken: {is_taken}")
        for variant in ("champion", "challenger"):
            site.service.answer(request.model_copy(update={"variant": variant}), request_id=variant)
        break_challenger(site, lambda: None)
        site.service.answer(request.model_copy(update={"user_id": users[True]}), request_id="stood in")
    assert found == {
        "without a challenger": 1.0,
        "taken: True": 0.25,
        "taken: False": 0.75,
        "champion": 1.0,
        "challenger": 1.0,
        "stood in": None,
    }


def test_a_posted_item_is_encoded_for_the_challenger_too(rolled_out: RolledOutSite) -> None:
    rolled_out.point(2, "challenger")
    with rolled_out.challenged() as site:
        site.rival.look()
        before = metric(site, "recsys_texts_encoded_total")
        site.service.writer.add_items([{"item_id": "for both", "title": "A text for both of them"}])
        wait_for(lambda: metric(site, "recsys_texts_encoded_total") == before + 2)


def test_what_the_shadow_finds_is_one_run_for_each_pair_and_what_mlflow_missed_is_added(
    rolled_out: RolledOutSite, caplog: pytest.LogCaptureFixture
) -> None:
    request = rolled_out.request()
    other = register(rolled_out.site, popularity(rolled_out.site, -1.0), None)
    rolled_out.point(3, "challenger")
    with rolled_out.challenged(shadow=True) as site:
        logged = ShadowRuns(site.service.telemetry, site.challenger.options)
        logged.log()  # nothing has been compared: there is no run
        site.rival.look()
        assert shadow_runs(rolled_out) == {}
        site.service.answer(request)
        wait_for(lambda: shadowed(site, "compared") == 1)
        with unreachable(rolled_out.home):
            logged.log()
            logged.log()
        assert caplog.text.count("is not logged") == 1
        site.service.answer(request)
        wait_for(lambda: shadowed(site, "compared") == 2)
        logged.log()
        found = shadow_runs(rolled_out)[f"models:/{RANKER}/3"]
        assert found.info.status == "RUNNING"
        assert found.data.tags["champion"] == f"models:/{RANKER}/1"
        assert found.data.metrics["compared"] == 2
        expected = shadow_figures(site.service.telemetry)[(PAIR["champion"], PAIR["challenger"])]
        assert found.data.metrics == pytest.approx(expected)
        rolled_out.point(int(other.number), "challenger")
        site.rival.look()
        site.service.answer(request)
        wait_for(lambda: len(shadow_figures(site.service.telemetry)) == 2)
        logged.log()
        status = {uri: run.info.status for uri, run in shadow_runs(rolled_out).items()}
        assert status == {f"models:/{RANKER}/3": "FINISHED", other.uri: "RUNNING"}
        logged.log(end=True)
        assert {run.info.status for run in shadow_runs(rolled_out).values()} == {"FINISHED"}


def shadow_runs(site: RolledOutSite) -> dict[str, Any]:
    """The runs of shadows by their challenger."""
    runs = mlflow.MlflowClient().search_runs([tracking.connect()], "tags.challenger LIKE 'models:/%'")
    found = {run.data.tags["challenger"]: run for run in runs}
    assert len(found) == len(runs)
    return found
