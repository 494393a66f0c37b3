"""Versions in motion: what a server answers with while the alias of its model moves, and while the registry is away."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import httpx
import mlflow
import pytest
from rolled_out_site import (
    NAME,
    RANKER,
    URI,
    RolledOutSite,
    altered,
    popularity,
    register,
    rolled_out,
    rolled_out_once,
    scores,
    unreachable,
)
from warm_process import Warm

from features.errors import StoreMismatch
from features.online.reader import OnlineReader
from features.online.state import StateSnapshot
from pipelines.load import events_into, load_items_into
from recsys.errors import ModelError, ModelNotFound, RegistryUnreachable
from recsys.online.open_state import open_existing_state, open_state
from recsys.registry.model_cache import MANIFEST
from recsys.registry.names import Version
from recsys.rollout.source import BESIDE
from recsys.serving.request_parsing import parse_request
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService

__all__ = ["rolled_out", "rolled_out_once"]
ENCODER = Version(f"{NAME}-encoder", "2")
CHAMPION = {"variant": "champion"}


def ranker(number: int) -> str:
    return f"{RANKER}/{number}"


def metric(service: RankService, name: str, labels: dict[str, str] | None = None) -> float | None:
    return service.telemetry.registry.get_sample_value(name, labels)


def test_every_answer_is_wholly_of_one_version_while_versions_change(rolled_out: RolledOutSite) -> None:
    request, alone = rolled_out.request(), {}
    for number in (1, 2, 3):
        rolled_out.point(number)
        with rolled_out.served() as (service, _):
            alone[ranker(number)] = scores(service.rank(request))
    assert len({tuple(found.values()) for found in alone.values()}) == 3
    rolled_out.point(1)
    stopped, seen = Event(), set()

    def rank_until_stopped() -> int:
        n = 0
        while not stopped.is_set():
            answer = service.rank(request)
            version = answer["model"]["ranker"]
            assert scores(answer) == alone[version]
            seen.add((version, answer["model"]["encoder"]))
            n += 1
        return n

    with rolled_out.served() as (service, watcher), ThreadPoolExecutor(3) as pool:
        counts = [pool.submit(rank_until_stopped) for _ in range(3)]
        try:
            for number in (2, 3, 1, 3, 2):
                rolled_out.point(number)
                watcher.look()
                assert service.ready()["model"]["ranker"] == ranker(number)
        finally:
            stopped.set()
        assert all(count.result() > 0 for count in counts)
        assert metric(service, "recsys_model_swaps_total", CHAMPION) == 5
        labels = {"ranker": ranker(2), "encoder": f"{NAME}-encoder/2", "model_from": "registry"} | CHAMPION
        assert metric(service, "recsys_model_info", labels) == 1
    assert seen == {(ranker(1), f"{NAME}-encoder/1"), (ranker(2), f"{NAME}-encoder/2"), (ranker(3), None)}


def test_a_version_that_was_replaced_is_released_and_posted_items_have_the_new_one_s_vectors(
    rolled_out: RolledOutSite,
) -> None:
    with rolled_out.served() as (service, watcher):
        old = weakref.ref(service.served.ranking_model)
        rolled_out.point(2)
        watcher.look()
        assert old() is None
        before = metric(service, "recsys_texts_encoded_total")
        service.writer.add_items([{"item_id": "fresh", "title": "A text that nobody has met"}])
        assert metric(service, "recsys_texts_encoded_total") == (before or 0) + 1
        service.served.online.encoder.encode_texts(["a", "b"])
        rolled_out.point(1)
        watcher.look()
        encoded = metric(service, "recsys_texts_encoded_total")
        rolled_out.point(2)
        watcher.look()  # back to what was served before: every vector is in the store
        assert metric(service, "recsys_texts_encoded_total") == encoded


@contextmanager
def broken(site: RolledOutSite, how: str) -> Iterator[None]:
    """Version 2 with a fault."""
    unit, encoder = site.artifact(Version(RANKER, "2"), "unit"), site.artifact(ENCODER, "encoder")
    path, data = {
        "golden": (unit / "golden.json", None),
        "encoder": (encoder / "encoder.json", None),
        "mismatch": (unit / "unit.json", None),
        "missing": (unit / "lexical.json", None),
    }[how]
    if how == "golden":
        golden = json.loads(path.read_bytes())
        data = json.dumps(golden | {"scores": [score + 1 for score in golden["scores"]]}).encode()
    elif how == "encoder":
        data = path.read_bytes().replace(b'"fingerprint": "', b'"fingerprint": "0')
    elif how == "mismatch":
        settings = json.loads(path.read_bytes())
        data = json.dumps(settings | {"encoder_fingerprint": "0" * 32}).encode()
    with altered(path, data):
        yield


REASONS = {
    "golden": "scores its golden requests",
    "encoder": "the files have been altered",
    "mismatch": "was trained on scores of encoder",
    "missing": "lexical.json",
}


def test_a_broken_version_is_refused_each_time_and_the_old_one_goes_on(
    rolled_out: RolledOutSite, caplog: pytest.LogCaptureFixture
) -> None:
    with rolled_out.served() as (service, watcher):
        before = scores(service.rank(rolled_out.request()))
        for how, reason in REASONS.items():
            rolled_out.point(2)
            with broken(rolled_out, how):
                watcher.look()
                ready = service.ready()
                assert (ready["model"]["ranker"], ready["refused"]["version"]) == (ranker(1), ranker(2))
                assert reason in ready["refused"]["reason"]
            assert scores(service.rank(rolled_out.request())) == before
            watcher.look()  # repaired, but nobody says so
            assert service.ready()["model"]["ranker"] == ranker(1)
            if how != "missing":
                rolled_out.point(1)
                watcher.look()
                assert "refused" not in service.ready()
        said = [record for record in caplog.records if f"{ranker(2)} is refused" in record.getMessage()]
        assert len(said) == len(REASONS) == metric(service, "recsys_model_refused_total", CHAMPION)
        assert metric(service, "recsys_model_refusal", CHAMPION) == 1
        watcher.look(again=True)
        assert (service.ready()["model"]["ranker"], "refused" in service.ready()) == (ranker(2), False)


def test_files_that_cannot_be_fetched_are_refused_and_an_alias_that_moves_back_clears_it(
    rolled_out: RolledOutSite,
) -> None:
    folder = rolled_out.artifact(Version(RANKER, "2"), "unit").parents[1]
    with rolled_out.served() as (service, watcher):
        rolled_out.point(2)
        away = folder.rename(rolled_out.home / "away")
        try:
            watcher.look()
            assert "holds no 'unit'" in service.ready()["refused"]["reason"]
        finally:
            away.rename(folder)
        rolled_out.point(1)
        watcher.look()
        assert "refused" not in service.ready()
        assert metric(service, "recsys_model_refusal", CHAMPION) == 0


def test_a_version_that_needs_more_than_the_store_keeps_is_refused_with_the_commands_that_rebuild_it(
    rolled_out: RolledOutSite, tmp_path: Path
) -> None:
    narrow = popularity(rolled_out.site)
    settings = narrow.settings.model_copy(update={"categories": {}, "template": "{title}"})
    narrow_store = str(tmp_path / "narrow")
    with open_state(narrow_store, settings, create=True):
        pass
    with pytest.raises(StoreMismatch, match="'category'"), rolled_out.served(store=narrow_store):
        pass
    number = int(register(rolled_out.site, replace(narrow, settings=settings), None).number)
    rolled_out.point(number)
    with rolled_out.served(store=narrow_store) as (service, watcher):
        rolled_out.point(1)
        watcher.look()
        reason = service.ready()["refused"]["reason"]
        assert f"`recsys load-items FILE --store NEW --model models:/{ranker(1)}`" in reason
        assert service.ready()["model"]["ranker"] == ranker(number)


def test_a_store_that_a_small_version_made_answers_a_large_one_to_the_last_bit(
    rolled_out: RolledOutSite, tmp_path: Path
) -> None:
    store, small = str(tmp_path / "store"), popularity(rolled_out.site)
    with open_state(store, small.settings, create=True) as state:
        load_items_into(state, small, rolled_out.site.data / "items.parquet")
        for table in ("events", "impressions"):
            events_into(state, rolled_out.site.data / f"{table}.parquet")
    request = rolled_out.request()
    with rolled_out.served() as (expected, _), rolled_out.served(store=store) as (found, _):
        assert scores(found.rank(request)) == scores(expected.rank(request))


def reader_of(service: RankService, view: StateSnapshot, request: RankRequest) -> OnlineReader:
    """What a service reads of a request's past."""
    return parse_request(request, service.served, service.settings).reader(view)


def test_a_shorter_history_reads_the_newest_part_of_a_longer_one(rolled_out: RolledOutSite) -> None:
    model = rolled_out.site.ranking_model
    short = replace(model, settings=model.settings.model_copy(update={"history_length": 2}))
    request = rolled_out.request()
    with open_existing_state(rolled_out.store) as state:
        service = RankService(short, state, ranker="short/1", encoder=None)
        with state.snapshot() as view:
            long = RankService(model, state, ranker="long/1", encoder=None)
            newest = [
                reader.catalog.ids[reader.histories.items.codes].tolist()
                for reader in (reader_of(owner, view, request) for owner in (service, long))
            ]
    assert len(newest[1]) > 2
    assert newest[0] == newest[1][-2:]
    longer = model.settings.model_copy(update={"history_length": 51})
    with open_existing_state(rolled_out.store) as state, pytest.raises(StoreMismatch, match="50, but 51 is wanted"):
        RankService(replace(model, settings=longer), state, ranker="longer/1", encoder=None)


def test_while_the_registry_is_away_the_server_goes_on_and_says_so_once(
    rolled_out: RolledOutSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with rolled_out.served() as (service, watcher):
        with unreachable(rolled_out.home):
            for _ in range(3):
                watcher.look()
            assert metric(service, "recsys_registry_reachable") == 0
            assert service.ready()["model"]["ranker"] == ranker(1)
        rolled_out.point(3)
        watcher.look()
        assert metric(service, "recsys_registry_reachable") == 1
        assert service.ready()["model"]["ranker"] == ranker(3)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("goes on" in line for line in lines) == 1
    assert sum("answers again" in line for line in lines) == 1


def test_a_server_starts_from_its_copy_while_the_registry_is_away(rolled_out: RolledOutSite, tmp_path: Path) -> None:
    cache, request = str(tmp_path / "cache"), rolled_out.request()
    with (
        unreachable(rolled_out.home),
        pytest.raises(RegistryUnreachable, match=r"mlflow\.db"),
        rolled_out.served(cache=cache),
    ):
        pass
    with rolled_out.served(cache=cache) as (service, watcher):
        rolled_out.point(2)
        watcher.look()
        assert service.ready()["model_from"] == "registry"
        expected = scores(service.rank(request))
    with ExitStack() as stack:
        with unreachable(rolled_out.home):
            service, watcher = stack.enter_context(rolled_out.served(cache=cache))
            watcher.look()
            assert (service.ready()["model_from"], service.ready()["model"]["ranker"]) == ("cache", ranker(2))
            assert metric(service, "recsys_registry_reachable") == 0
            assert scores(service.rank(request)) == expected
        watcher.look()
        assert (service.ready()["model_from"], service.ready()["model"]["ranker"]) == ("registry", ranker(2))
        assert metric(service, "recsys_model_swaps_total", CHAMPION) == 0
    newest = max(Path(cache).glob(f"*/{MANIFEST}"), key=lambda path: int(json.loads(path.read_bytes())["kept"]))
    damaged = next(newest.parent.glob("unit/ranker.txt"))
    with unreachable(rolled_out.home), altered(damaged, b"tree"), rolled_out.served(cache=cache) as (service, _):
        assert service.ready()["model"]["ranker"] == ranker(1)  # the copy before, since that one is damaged


def test_a_registry_that_has_no_such_alias_is_believed(rolled_out: RolledOutSite, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    with rolled_out.served(cache=cache) as (service, watcher):
        mlflow.MlflowClient().delete_registered_model_alias(RANKER, "champion")
        watcher.look()
        assert service.ready()["model"]["ranker"] == ranker(1)
    with pytest.raises(ModelNotFound, match="no alias 'champion'"), rolled_out.served(cache=cache):
        pass


def test_a_broken_champion_at_a_start_leaves_the_last_good_version(rolled_out: RolledOutSite, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    with rolled_out.served(cache=cache):
        pass
    rolled_out.point(2)
    with broken(rolled_out, "golden"):
        with rolled_out.served(cache=cache) as (service, _):
            ready = service.ready()
            assert (ready["model"]["ranker"], ready["model_from"]) == (ranker(1), "cache")
            assert ready["refused"]["version"] == ranker(2)
        with pytest.raises(ModelError, match="golden"), rolled_out.served():
            pass


def test_the_two_versions_that_served_last_are_kept_beside_the_store(rolled_out: RolledOutSite, tmp_path: Path) -> None:
    store = shutil.copytree(rolled_out.store, tmp_path / "store")
    with rolled_out.served(cache=None, store=str(store)) as (_, watcher):
        for number in (2, 3, 2):
            rolled_out.point(number)
            watcher.look()
    manifests = [json.loads(path.read_bytes()) for path in Path(f"{store}{BESIDE}").glob(f"*/{MANIFEST}")]
    assert sorted(manifest["ranker"][1] for manifest in manifests) == ["2", "3"]
    assert {manifest["uri"] for manifest in manifests} == {URI}


def test_sighup_makes_a_server_look_at_once(rolled_out: RolledOutSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ("--store", rolled_out.store, "--model", URI, "--port", str(port), "--set", "serving.watch_seconds=0")
    with Warm("-m", "pipelines.cli", "serve", *arguments) as process:
        assert served_by(port, process) == {"ranker": ranker(1), "encoder": f"{NAME}-encoder/1"}
        rolled_out.point(3)
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while served_by(port, process)["ranker"] != ranker(3):
            assert time.monotonic() < deadline, process.stderr()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert f"{ranker(3)} answers" in process.stderr()


def served_by(port: int, process: Warm) -> dict[str, str | None]:
    """The versions that /health/ready names, once it answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5)
            if answer.status_code == 200:
                assert answer.json()["model_from"] == "registry"
                return dict(answer.json()["model"])
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(process.stderr())
