"""`python -m benchmarks.serving`: rankings and events over HTTP, beside LightGBM's own predict on ready rows.

Trains on a simulated site with the encoder's layers frozen, fills an LMDB store, and starts `recsys serve` as a process
of its own. Requests name a known user and random items; the client runs on the same machine. `predict` is
`Booster.predict` of the same trees on as many rows of random numbers, on one thread, in turn with the requests. Works
in a temporary folder.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.report import Result, command
from benchmarks.server_process import ServerProcess
from features.clock import format_time
from pipelines.load import load_events, load_items
from pipelines.process import one_blas_thread
from pipelines.simulate import simulate
from pipelines.train import train
from recsys.config import load_config
from recsys.ranker.lightgbm_ranker import TreeRanker
from recsys.registry import versions

SEED, NAME = 7, "served"
CLIENTS, EVENTS_AT_ONCE = 16, 100
_SETTINGS = ("encoder.fine_tune_epochs=0", "final_training=false", "registered=ranker")


@dataclass(frozen=True)
class Site:
    """What requests are made of. uri: of the ranker's version."""

    uri: str
    users: Sequence[str]
    items: Sequence[str]
    generator: random.Random = field(default_factory=lambda: random.Random(SEED))

    def ranking(self, candidates: int) -> bytes:
        """The body of a request for so many candidates."""
        items = self.generator.sample(self.items, candidates)
        return json.dumps({"user_id": self.generator.choice(self.users), "candidates": items}).encode()

    def events(self) -> bytes:
        """The body of a batch of clicks of now."""
        now = format_time(time.time_ns() // 1000)
        clicks = [
            {
                "user_id": self.generator.choice(self.users),
                "item_id": self.generator.choice(self.items),
                "event_type": "click",
                "timestamp": now,
                "event_id": f"{self.generator.getrandbits(64):x}",
            }
            for _ in range(EVENTS_AT_ONCE)
        ]
        return json.dumps({"events": clicks}).encode()


class Client:
    """One kept connection to the server."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: bytes) -> float:
        """Seconds of one request. Raises RuntimeError for any answer but 200."""
        started = time.perf_counter()
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{path}: expected 200, got {answer.status}: {text[:300]!r}")
        return time.perf_counter() - started


def measure(quick: bool) -> list[Result]:
    """Latency and rate of rankings and events over HTTP, on one machine with the client."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    one_blas_thread()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        uri = trained_site(Path("site"), quick=quick)
        return measure_served(Path("site"), uri, Path("store"), (100, 500), rounds=5 if quick else 15)


def trained_site(data: Path, *, quick: bool) -> str:
    """Simulate a site and train on it; the URI of its ranker."""
    users, items, impressions = (1_000, 800, 6_000) if quick else (5_000, 2_000, 40_000)
    simulate(data, seed=SEED, users=users, items=items, impressions=impressions)
    return train(data, load_config(None, _SETTINGS), name=NAME).models.ranker.uri


def measure_served(data: Path, uri: str, store: Path, sizes: Sequence[int], *, rounds: int) -> list[Result]:
    """`measure` of a version on the tables that it was trained on. sizes: candidates of a request. The working folder
    is that of the training."""
    load_items(data / "items.parquet", str(store), uri)
    load_events(data / "events.parquet", str(store), uri)
    site = Site(uri, ids_of(data, "user_id"), ids_of(data, "item_id"))
    with ServerProcess(uri, str(store), "--set", "serving.budget_ms=0") as server:
        return [*_latencies(site, server.port, sizes, rounds), *_rates(site, server.port, sizes[0], rounds)]


def ids_of(data: Path, column: str) -> list[str]:
    """Users or items of a site's events."""
    table = pq.read_table(data / "events.parquet", columns=[column])
    ids: list[str] = table[column].drop_null().unique().to_pylist()
    return ids


def _latencies(site: Site, port: int, sizes: Sequence[int], rounds: int) -> Iterator[Result]:
    """Median over rounds of the median and the 99th percentile of requests, each beside `predict` in the same round."""
    ranker = versions.load(site.uri).ranking_model.ranker
    assert isinstance(ranker, TreeRanker)
    client, trees = Client(port), ranker.booster
    for candidates in sizes:
        rows = np.random.default_rng(SEED).random((candidates, len(ranker.columns)))
        _milliseconds(lambda n=candidates: client.post("/v1/rank", site.ranking(n)), 30)  # type: ignore[misc]
        figures = []
        for _ in range(rounds):
            bare = _milliseconds(lambda x=rows: _seconds(lambda: trees.predict(x, num_threads=1)), 30)  # type: ignore[misc]
            whole = _milliseconds(lambda n=candidates: client.post("/v1/rank", site.ranking(n)), 100)  # type: ignore[misc]
            figures.append((np.median(whole), np.quantile(whole, 0.99), np.median(bare)))
        median, slow, predict = (float(value) for value in np.median(figures, axis=0))
        beside = f"of {candidates} candidates, beside predict of as many rows, {ranker.n_trees} trees"
        yield Result(f"rank_{candidates}_p50", median, f"ms {beside}", predict, median / predict)
        yield Result(f"rank_{candidates}_p99", slow, f"ms {beside}", predict, slow / predict)


def _rates(site: Site, port: int, candidates: int, rounds: int) -> Iterator[Result]:
    """Requests of several clients a second, and events that are acknowledged a second."""
    bodies = [site.ranking(candidates) for _ in range(40 * rounds)]
    batches = [site.events() for _ in range(10 * rounds)]
    for name, path, requests, each in (
        (f"rankings_per_second_of_{CLIENTS}_clients", "/v1/rank", bodies, 1),
        ("events_per_second", "/v1/events", batches, EVENTS_AT_ONCE),
    ):
        n_clients = CLIENTS if each == 1 else 1
        shares = [requests[start::n_clients] for start in range(n_clients)]
        with ThreadPoolExecutor(n_clients) as pool:
            seconds = _seconds(lambda: list(pool.map(lambda share: _post_all(port, path, share), shares)))  # noqa: B023
        yield Result(name, each * len(requests) / seconds, f"{path}, {n_clients} connections, {each} a request")


def _post_all(port: int, path: str, bodies: Sequence[bytes]) -> None:
    client = Client(port)
    for body in bodies:
        client.post(path, body)


def _milliseconds(run: Callable[[], float], times: int) -> np.ndarray:
    return 1000 * np.array([run() for _ in range(times)])


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    command(measure)
