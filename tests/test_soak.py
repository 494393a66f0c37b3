"""The campaigns of `python -m benchmarks.soak` on a small server, at about a hundredth of their size."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rolled_out_site import RANKER, URI, RolledOutSite, rolled_out_once
from warm_process import Warm

from benchmarks.server_process import ServerProcess
from benchmarks.soak.batch_kills import kill_batches
from benchmarks.soak.hostile import planted, send_hostile
from benchmarks.soak.kills import kill_under_load
from benchmarks.soak.memory import growth
from benchmarks.soak.swaps import swap_under_load
from recsys.registry.names import Version

__all__ = ["rolled_out_once"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(rolled_out_once: RolledOutSite) -> Iterator[ServerProcess]:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as started:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(rolled_out_once.home)
        rolled_out_once.point(1)
        warm = ServerProcess(
            URI,
            rolled_out_once.store,
            "--set",
            "serving.watch_seconds=0.1",
            start_process=lambda *arguments: started.enter_context(Warm("-m", "pipelines.cli", *arguments)),
        )
        with warm:
            yield warm
        assert "Traceback" not in warm.log()


@pytest.fixture
def items(rolled_out_once: RolledOutSite) -> list[str]:
    ids: list[str] = rolled_out_once.site.log.catalog.ids[:30].tolist()
    return ids


def test_kills_lose_no_acknowledged_event_and_count_none_twice(server: ServerProcess, items: list[str]) -> None:
    found = kill_under_load(server, items, 1, random.Random(3))
    assert (found.servers, found.workers) == (1, 0)
    assert found.acknowledged > 0
    assert (found.missing, found.twice, found.failed) == (0, 0, 0)


def test_versions_change_without_a_failed_request(server: ServerProcess, rolled_out_once: RolledOutSite) -> None:
    body = rolled_out_once.request().model_dump(mode="json", exclude_unset=True, exclude={"timestamp"})
    versions = [Version(RANKER, number) for number in ("1", "2", "3")]
    found = swap_under_load(server, "champion", versions, body, 6)
    assert (found.swaps, found.refused, found.failed) == (6, 1, [])
    assert len(found.answers) == len(versions)


def test_no_request_is_the_servers_fault(server: ServerProcess) -> None:
    found = send_hostile(server, 200)
    assert found.failed == []
    assert found.requests > 100 + len(planted())
    assert {200, 413, 422} <= set(found.statuses)


def test_memory_is_that_of_every_process(server: ServerProcess, items: list[str]) -> None:
    found = growth(server, ["a", "b"], items, 500, 300)
    assert len(found.first) == len(found.last) == len(server.processes())
    assert min(found.first) > 1e6
    assert replace(found, last=[2 * size for size in found.first]).largest_ratio == 2


def test_a_batch_that_is_killed_is_resumed_to_the_same_bytes(rolled_out_once: RolledOutSite, tmp_path: Path) -> None:
    data, candidates = rolled_out_once.site.data, tmp_path / "candidates.parquet"
    pq.write_table(pq.read_table(data / "impressions.parquet").slice(0, 1_500), candidates)
    arguments = [str(data), "--candidates", str(candidates), "--model", f"models:/{RANKER}/1"]
    arguments += ["--at", "0", "--partition-rows", "500", "--batch-rows", "100"]
    (tmp_path / "batches").mkdir()
    with ExitStack() as started:

        def start(*words: str) -> Warm:
            return started.enter_context(Warm("-m", "pipelines.cli", *words, cwd=rolled_out_once.home))

        found = kill_batches(arguments, tmp_path / "batches", 1, random.Random(5), start=start)
    assert (found.different, found.left) == (0, 0)
