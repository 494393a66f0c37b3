"""The log of rankings: what a row holds, what is dropped and counted, which files go, and how a log becomes tables."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from redis_server import RedisServer, redis_running
from small_ranking_model import SmallSite, small_site
from test_ladder import with_fallback

from features.clock import DAY, HOUR, SECOND, format_time
from features.offline.reader import LogIndex
from features.online.state import OnlineState
from features.tables.load import load_log
from features.tables.logged_columns import FEATURE, LOGGED
from features.tables.logged_impressions import write_logged_impressions
from pipelines.data_options import read_options_of_model
from pipelines.load import events_into, load_items_into
from recsys.audit.logged import LoggedReport, compare_logged
from recsys.config import ServingConfig
from recsys.errors import ServerError
from recsys.online.open_state import open_state
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.serving.app import create_app
from recsys.serving.ranking_files import RankingFiles
from recsys.serving.ranking_log import open_ranking_log
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService

RANKER = "small-ranker/1"


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@contextmanager
def opened(site: SmallSite, place: str) -> Iterator[OnlineState]:
    """A store with everything of the small site."""
    with open_state(place, with_fallback(site).settings, create=True) as state:
        load_items_into(state, site.ranking_model, site.data / "items.parquet")
        for table in ("events", "impressions"):
            events_into(state, site.data / f"{table}.parquet")
        yield state


@pytest.fixture(scope="module")
def state(site: SmallSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineState]:
    with opened(site, str(tmp_path_factory.mktemp("log") / "store")) as state:
        yield state


@contextmanager
def logging_service(site: SmallSite, state: OnlineState, folder: Path, **settings: Any) -> Iterator[RankService]:
    """A service whose rankings are on disk when the block ends."""
    config = ServingConfig(budget_ms=0, log_rankings=str(folder), **settings)
    service = RankService(with_fallback(site), state, config, ranker=RANKER, encoder="small-encoder/1")
    with closing(service), open_ranking_log(config, service.telemetry) as service.ranking_log:
        yield service


def logged_frame(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)


def request(candidates: list[Any], **further: Any) -> RankRequest:
    return RankRequest.model_validate({"user_id": "u1", "candidates": candidates, **further})


def ids_of(site: SmallSite, n: int) -> list[str]:
    return [str(item) for item in site.log.catalog.ids[:n]]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows_counted(service: RankService, outcome: str) -> float:
    return service.telemetry.registry.get_sample_value("recsys_logged_rows_total", {"outcome": outcome}) or 0.0


def test_a_long_query_counts_as_the_rows_that_it_takes(site: SmallSite, state: OnlineState, tmp_path: Path) -> None:
    long = "a" * 40_000  # in each of four rows, as much as 400 rows
    with logging_service(site, state, tmp_path, log_file_rows=100, log_file_seconds=1000) as service:
        service.answer(request(ids_of(site, 4), query=long))
        wait_for(lambda: rows_counted(service, "written") == 4)  # full with one list
        service.answer(request(ids_of(site, 4)))
    assert sorted(len(pd.read_parquet(path)) for path in tmp_path.glob("*.parquet")) == [4, 4]


def test_a_row_is_a_candidate_with_what_the_ranker_read_and_gave(
    site: SmallSite, state: OnlineState, tmp_path: Path
) -> None:
    ids = ids_of(site, 6)
    with logging_service(site, state, tmp_path) as service:
        answer = service.answer(request([*ids, {"item_id": "new", "title": "A new title"}, "unknown"], top_k=3))
        service.champion.times.add("text", 4, 10.0)  # no time for text: another rung, which reads other columns
        lower = service.answer(request(ids[:4]), budget=service.budget(1000))
    frame = logged_frame(tmp_path)
    rows = frame[frame["impression_id"] == answer["request_id"]].sort_values("position")
    assert rows["item_id"].tolist()[:3] == [item["item_id"] for item in answer["items"]]
    assert rows["score"].tolist()[:3] == [item["score"] for item in answer["items"]]
    assert rows["position"].tolist() == list(range(1, 9))
    assert rows["shown"].tolist() == [True] * 3 + [False] * 5
    assert set(rows.loc[rows["described"], "item_id"]) == {"new"}
    assert set(rows["item_id"]) == {*ids, "new", "unknown"}
    constant = rows[["user_id", "rung", "ranker", "encoder", "propensity", "history_given"]].drop_duplicates()
    assert constant.to_numpy().tolist() == [["u1", "full", RANKER, "small-encoder/1", 1.0, False]]
    columns = [FEATURE + name for name in site.ranking_model.settings.columns]
    matrix = rows[columns].to_numpy(np.float32)
    assert np.array_equal(site.ranking_model.ranker.scores(matrix, threads=1), rows["score"].to_numpy())

    fallback = site.ranked.rankers["behaviour"]
    below = frame[frame["impression_id"] == lower["request_id"]].sort_values("position")
    assert set(below["rung"]) == {"no_text"}
    matrix = below[[FEATURE + name for name in fallback.columns]].to_numpy(np.float32)
    assert np.array_equal(fallback.scores(matrix, threads=1), below["score"].to_numpy())
    (path,) = tmp_path.glob("*.parquet")
    table = pq.read_table(path).filter((pq.read_table(path)["rung"].to_pandas() == "no_text").to_numpy())
    only_full = set(columns) - {FEATURE + name for name in fallback.columns}
    assert only_full and all(table[name].null_count == 4 for name in only_full)
    assert pq.read_schema(path).names[: len(LOGGED)] == LOGGED.names
    assert rows_counted(service, "written") == 12


def test_a_ranking_without_the_store_is_logged_without_features(
    site: SmallSite, state: OnlineState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    with logging_service(site, state, tmp_path) as service:
        monkeypatch.setattr(state, "snapshot", away)
        answer = service.answer(request(["b", "a"], timestamp=1_700_000_000))
        monkeypatch.undo()
    frame = logged_frame(tmp_path)
    assert frame["item_id"].tolist() == [item["item_id"] for item in answer["items"]] == ["b", "a"]
    assert frame["rung"].tolist() == ["caller_order"] * 2
    assert frame["score"].tolist() == [2.0, 1.0]
    assert [moment.timestamp() for moment in frame["timestamp"]] == [1_700_000_000] * 2
    assert set(frame.columns) == set(LOGGED.names)


def test_the_share_is_drawn_by_request_id_and_all_workers_agree(
    site: SmallSite, state: OnlineState, tmp_path: Path
) -> None:
    ids = [f"request-{number}" for number in range(4000)]
    with logging_service(site, state, tmp_path / "a", log_share=0.25) as service:
        assert service.ranking_log is not None
        taken = [request_id for request_id in ids if service.ranking_log.takes(request_id)]
        for request_id in (taken[0], next(name for name in ids if name not in set(taken))):
            service.answer(request(ids_of(site, 2)), request_id=request_id)
    with logging_service(site, state, tmp_path / "b", log_share=0.25) as other:
        assert other.ranking_log is not None
        assert [request_id for request_id in ids if other.ranking_log.takes(request_id)] == taken
    assert abs(len(taken) / len(ids) - 0.25) < 0.03
    assert logged_frame(tmp_path / "a")["impression_id"].unique().tolist() == [taken[0]]
    for share, n in ((0.0, 0), (1.0, len(ids))):
        with logging_service(site, state, tmp_path / "c", log_share=share) as service:
            assert service.ranking_log is not None
            assert sum(map(service.ranking_log.takes, ids)) == n


def test_what_does_not_fit_is_dropped_and_counted_and_a_disk_that_fails_hurts_no_ranking(
    site: SmallSite, state: OnlineState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ids_of(site, 4)
    with logging_service(site, state, tmp_path, log_file_rows=5) as service:
        started, go_on = [], []

        def hangs(self: RankingFiles, table: Any, now: int) -> None:
            started.append(len(table))
            wait_for(lambda: bool(go_on))
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(RankingFiles, "write", hangs)
        answers = [service.answer(request(ids)) for _ in range(2)]  # 8 rows, more than 5: a file is begun
        wait_for(lambda: bool(started))
        answers += [service.answer(request(ids)) for _ in range(3)]  # 2 times 5 rows may wait, so there is no room
        assert rows_counted(service, "dropped") == 12
        go_on.append(True)
    assert all([item["item_id"] for item in answer["items"]] for answer in answers)
    assert started == [8]
    assert (rows_counted(service, "failed"), rows_counted(service, "written")) == (8, 0)
    assert not list(tmp_path.iterdir())


def test_files_are_written_by_rows_and_by_seconds_and_never_seen_in_part(
    site: SmallSite, state: OnlineState, tmp_path: Path
) -> None:
    ids = ids_of(site, 4)
    with logging_service(site, state, tmp_path, log_file_rows=10, log_file_seconds=0.2) as service:
        for _ in range(5):
            service.answer(request(ids))
        wait_for(lambda: rows_counted(service, "written") == 20)  # the last ones by time
        service.answer(request(ids))
    frames = [pd.read_parquet(path) for path in sorted(tmp_path.glob("*"))]
    assert sum(map(len, frames)) == 24
    assert max(map(len, frames)) <= 13
    assert all((frame.groupby("impression_id").size() == 4).all() for frame in frames)


def named(folder: Path, age_days: float, now: int, size: int) -> Path:
    moment = format_time(now - round(age_days * DAY)).replace("-", "").replace(":", "")
    path = folder / f"rankings-{moment[:15]}.000000Z-host-1-{size:08x}.parquet"
    path.write_bytes(bytes(size))
    return path


def test_files_go_by_age_and_the_oldest_first_by_size_and_others_stay(tmp_path: Path) -> None:
    now = time.time_ns() // 1000
    paths = [named(tmp_path, age, now, 1000 + number) for number, age in enumerate((9, 6, 5, 4, 0))]
    mine = tmp_path / "rankings-mine.parquet"
    mine.write_bytes(bytes(5000))
    RankingFiles(tmp_path, max_gb=1, days=7).prune(now)
    assert [path.exists() for path in paths] == [False, True, True, True, True]
    RankingFiles(tmp_path, max_gb=2.5e-6, days=7).prune(now)
    assert [path.exists() for path in paths] == [False, False, False, True, True]
    assert mine.exists()


def test_what_a_killed_process_left_goes_after_an_hour(tmp_path: Path) -> None:
    now = time.time_ns() // 1000
    old, new = (tmp_path / f".rankings-{name}.parquet.new.partial" for name in ("old", "new"))
    for path, hours in ((old, 2), (new, 0)):
        path.write_bytes(b"half")
        os.utime(path, (now / SECOND - 3600 * hours,) * 2)
    RankingFiles(tmp_path, max_gb=1, days=7).prune(now)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_cannot_be_made_refuses_the_start(site: SmallSite, state: OnlineState, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ServerError, match=r"for logged rankings cannot be written.*--log-rankings"),
        logging_service(site, state, tmp_path / "file" / "log"),
    ):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def with_new_rows(site: SmallSite, folder: Path, events: list[dict[str, Any]], imported: Path) -> Path:
    """The site's tables with events that came later and imported lists beside its own."""
    shutil.copytree(site.data, folder)
    later = pd.DataFrame(events)
    later["timestamp"] = pd.to_datetime(later["timestamp"], unit="us", utc=True)
    before = pd.read_parquet(folder / "events.parquet")
    pd.concat([before, later]).to_parquet(folder / "events.parquet")
    lists = folder / "impressions"
    lists.mkdir()
    (folder / "impressions.parquet").rename(lists / "before.parquet")
    shutil.copy(imported / "impressions.parquet", lists / "logged.parquet")
    return folder


def compared(site: SmallSite, data: Path, folder: Path) -> LoggedReport:
    """What `recsys audit --logged` compares."""
    served = with_fallback(site)
    log, _ = load_log(data, read_options_of_model(served.settings))
    scorer = OfflineScorer(served, LogIndex(log), served.texts(log.catalog), 1)
    columns = served.settings.model_copy(update={"columns": served.settings.fallback_columns})
    behaviour = OfflineScorer(
        type(served)(columns, served.fallback, served.encoder, served.lexical), scorer.index, scorer.texts, 1
    )
    return compare_logged(folder, RANKER, {"full": scorer, "no_text": behaviour})


@pytest.mark.parametrize("kind", ["folder", "redis"])
def test_what_was_served_and_logged_is_what_the_tables_give_after_the_import(
    kind: str, site: SmallSite, server: RedisServer, tmp_path: Path
) -> None:
    start = int(site.log.impressions.requests.time.max()) + HOUR
    users, ids = [str(user) for user in site.log.users[:6]], ids_of(site, 40)
    events: list[dict[str, Any]] = []
    place = server.place() if kind == "redis" else str(tmp_path / "store")
    with opened(site, place) as state, logging_service(site, state, tmp_path / "log") as service:
        service.served.online.refresh(start)
        service.champion.times.add("text", 7, 1000.0)
        client = TestClient(create_app(service))
        for number in range(24):
            user, moment = users[number % 6], start + 10 * number * SECOND
            body: dict[str, Any] = {"user_id": user, "timestamp": moment, "candidates": ids[number : number + 12]}
            headers = {}
            if number % 4 == 3:
                body["candidates"], headers = body["candidates"][:7], {"X-Budget-Ms": "1000"}
            answer = client.post("/v1/rank", json=body, headers=headers).json()
            assert answer["rung"] == ("no_text" if headers else "full")
            shown = [item["item_id"] for item in answer["items"]]
            common = {"user_id": user, "impression_id": answer["request_id"]}
            click = common | {"item_id": shown[number % 3], "timestamp": moment + SECOND}
            said = {**common, "event_type": "impression", "items": shown, "timestamp": moment}
            accepted = client.post("/v1/events", json={"events": [said, click]}).json()
            assert accepted["accepted"] == 2, accepted
            events.append(click)
    pd.DataFrame(events).assign(
        timestamp=lambda frame: pd.to_datetime(frame["timestamp"], unit="us", utc=True)
    ).to_parquet(tmp_path / "clicks.parquet")
    report = write_logged_impressions(tmp_path / "log", tmp_path / "clicks.parquet", tmp_path / "imported")
    assert (report.impressions, report.clicked, report.clicks, report.outside) == (24, 24, 24, 0)
    data = with_new_rows(site, tmp_path / "data", events, tmp_path / "imported")
    found = compared(site, data, tmp_path / "log")
    assert found.differences == (), "\n".join(found.lines())
    assert (found.lists, found.rows, found.left_out) == (24, 18 * 12 + 6 * 7, {})

    without = with_new_rows(site, tmp_path / "without", events[:1], tmp_path / "imported")
    lost = compared(site, without, tmp_path / "log")
    assert "user_click_recency" in {difference.column for difference in lost.differences}  # a second earlier
