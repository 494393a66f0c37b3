"""A server of two worker processes on one store: what one acknowledges counts at the other, and none is missed. It has
a challenger in shadow, whose figures are those of both."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow
import pytest
from mlflow.entities import Run
from rolled_out_site import (
    RANKER,
    URI,
    RolledOutSite,
    popularity,
    register,
    rolled_out,
    rolled_out_once,
)
from warm_process import Warm, run_warm

__all__ = ["rolled_out", "rolled_out_once"]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="several workers need a system other than Windows")
CLI = ("-m", "pipelines.cli", "serve", "--model", URI)
SHADOW = ("--shadow", "--set", "serving.shadow_log_seconds=0.5")
TOGETHER = re.compile(r"processes: worker 1 (\d+), worker 2 (\d+)")
AGAIN = re.compile(r"worker (\d) is ready again, process (\d+)")


@dataclass(frozen=True)
class Workers:
    """A server of two workers."""

    parent: Warm
    address: str

    def pids(self) -> dict[int, int]:
        """The process of each worker."""
        log = self.parent.stderr()
        first = TOGETHER.search(log)
        assert first is not None
        found = {1: int(first[1]), 2: int(first[2])}
        return found | {int(number): int(pid) for number, pid in AGAIN.findall(log)}

    def wait(self, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + 300
        while not happened():
            assert self.parent.poll() is None, self.parent.stderr()
            assert time.monotonic() < deadline, self.parent.stderr()
            time.sleep(0.05)

    @contextmanager
    def connection_to(self, number: int) -> Iterator[httpx.Client]:
        """A connection that one worker has taken, since the others were paused."""
        others = [pid for other, pid in self.pids().items() if other != number]
        with httpx.Client(base_url=self.address, timeout=60) as client:
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            try:
                assert client.get("/health/ready").status_code == 200
            finally:
                for pid in others:
                    os.kill(pid, signal.SIGCONT)
            yield client

    def metric(self, line: str) -> float:
        found = re.search(rf"^{re.escape(line)} (\S+)$", httpx.get(f"{self.address}/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def home(rolled_out_once: RolledOutSite) -> Iterator[RolledOutSite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(rolled_out_once.home)
        rolled_out_once.point(3)
        assert register(rolled_out_once.site, popularity(rolled_out_once.site, -1.0), None).number == "4"
        yield rolled_out_once


@pytest.fixture(scope="module")
def workers(home: RolledOutSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    log = tmp_path_factory.mktemp("log")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ("--store", home.store, "--port", str(port), "--workers", "2", "--log-rankings", str(log))
    with Warm(*CLI, *arguments, *SHADOW) as parent:
        server = Workers(parent, f"http://127.0.0.1:{port}")
        server.wait(lambda: TOGETHER.search(parent.stderr()))
        yield server
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(60) == 0
        assert "Traceback" not in parent.stderr()
        assert "are killed" not in parent.stderr()
    (run,) = shadow_runs()
    assert run.info.status == "FINISHED"
    processes = {path.name.split("-")[-2] for path in log.glob("rankings-*.parquet")}
    assert len(processes) > 1, "each worker logs what it ranked, to the end"


def shadow_runs() -> list[Run]:
    """The runs of MLflow that compare a challenger."""
    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.challenger = 'models:/{RANKER}/4'"))


def scores(client: httpx.Client, items: list[str]) -> dict[str, float]:
    body = {"user_id": "nobody", "candidates": items}
    answer = client.post("/v1/rank", json=body, headers={"X-Budget-Ms": "0"})
    return {item["item_id"]: item["score"] for item in answer.raise_for_status().json()["items"]}


def click(client: httpx.Client, item: str, number: int) -> None:
    event = {"user_id": f"w{number}", "item_id": item, "timestamp": time.time(), "event_id": f"{item}-{number}"}
    assert client.post("/v1/events", json={"events": [event]}).json() == {"accepted": 1, "rejected": []}


def test_what_one_worker_acknowledged_counts_in_the_next_ranking_of_every_worker(workers: Workers) -> None:
    assert "answers at" in workers.parent.stderr()
    assert "with 2 workers" in workers.parent.stderr()
    with workers.connection_to(1) as first, workers.connection_to(2) as second:
        items = [item["item_id"] for item in first.get("/v1/examples").json()["items"]][:5]
        assert scores(first, items) == scores(second, items)
        for number in range(6):
            writer, reader = (first, second) if number % 2 else (second, first)
            before = scores(reader, items)[items[0]]
            click(writer, items[0], number)
            assert scores(reader, items)[items[0]] > before
        first.post("/v1/items", json={"items": [{"item_id": "new", "title": "first"}]})
        assert second.get("/v1/items/new").json()["title"] == "first"
        assert scores(second, ["new", "unknown"]) == scores(first, ["new", "unknown"])


def test_metrics_are_those_of_all_workers(workers: Workers) -> None:
    accepted = 'recsys_events_total{outcome="accepted"}'
    before = workers.metric(accepted)
    with workers.connection_to(1) as first, workers.connection_to(2) as second:
        click(first, "m", 1)
        click(second, "m", 2)
        page = {client.get("/metrics").text.count("recsys_model_info{") for client in (first, second)}
    assert workers.metric(accepted) == before + 2
    assert workers.metric('recsys_processes{kind="worker"}') == 2
    assert page == {2}  # the champion and the challenger


def test_any_worker_answers_with_the_challenger_and_its_shadow_is_one_run_of_the_server(workers: Workers) -> None:
    pair = f'challenger="{RANKER}/4",champion="{RANKER}/3"'
    compared = f'recsys_shadow_requests_total{{{pair},outcome="compared"}}'
    with workers.connection_to(1) as first, workers.connection_to(2) as second:
        items = [item["item_id"] for item in first.get("/v1/examples").json()["items"]][:5]
        for client in (first, second):
            workers.wait(lambda client=client: "challenger" in client.get("/health/ready").json())
            body = {"user_id": "u", "candidates": items, "variant": "challenger"}
            answer = client.post("/v1/rank", json=body, headers={"X-Budget-Ms": "0"}).json()
            assert answer["model"]["ranker"] == f"{RANKER}/4"
            before = workers.metric(compared)
            scores(client, items)
            workers.wait(lambda before=before: workers.metric(compared) > before)
    n = workers.metric(compared)
    workers.wait(lambda: [run.data.metrics["compared"] for run in shadow_runs()] == [n])
    (run,) = shadow_runs()
    assert run.data.metrics["kendall_tau"] < 0  # the same column, the other way round
    assert run.info.status == "RUNNING"


def test_a_killed_worker_is_replaced_and_what_it_acknowledged_is_there(workers: Workers) -> None:
    accepted = workers.metric('recsys_events_total{outcome="accepted"}')
    with workers.connection_to(1) as client:
        items = [item["item_id"] for item in client.get("/v1/examples").json()["items"]][:5]
        before = scores(client, items)[items[0]]
        click(client, items[0], 100)
        after = scores(client, items)[items[0]]
    killed = workers.pids()[1]
    os.kill(killed, signal.SIGKILL)
    n_before = 0
    while workers.pids()[1] == killed:
        with httpx.Client(base_url=workers.address, timeout=60) as client:
            assert scores(client, items)[items[0]] == after > before
        n_before += 1
        assert n_before < 10_000, workers.parent.stderr()
    assert "worker 1 ended: killed by SIGKILL" in workers.parent.stderr()
    with workers.connection_to(1) as replaced:
        assert scores(replaced, items)[items[0]] == after
    assert workers.metric('recsys_process_restarts_total{kind="worker"}') == 1
    assert workers.metric('recsys_events_total{outcome="accepted"}') == accepted + 1


def test_a_start_that_fails_is_one_line(home: RolledOutSite, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = ("--port", str(taken.getsockname()[1]))
        done = run_warm(*CLI, "--store", home.store, *port, "--workers", "2")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "it is in use" in done.stderr
    missing = str(tmp_path / "none")
    done = run_warm(*CLI, "--store", missing, "--port", "0", "--workers", "2")
    alone = run_warm(*CLI, "--store", missing, "--port", "0")
    assert done == alone
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
