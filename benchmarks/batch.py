"""`python -m benchmarks.batch`: seconds and memory of `recsys score`, as the number of candidate rows grows.

A version of 300 trees with 63 leaves is trained on a small site; the log and the candidates are made at size: clicks by
Zipf's law, texts of the simulated site, lists of 100 items. Each size is scored by a process of its own, the command as
a user starts it. Beside it stands LightGBM's bare predict of the version's trees, all threads, on a ready matrix of
random numbers with the version's columns. The encoder is an untrained one of one layer; its vectors come from the cache
after the first run.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Result, command
from benchmarks.simulated_log import simulated_log
from benchmarks.sizing import SETTINGS, save_untrained_encoder
from pipelines.process import one_blas_thread
from pipelines.simulate import simulate
from pipelines.train import train
from recsys.config import load_config
from recsys.ranker.lightgbm_ranker import TreeRanker
from recsys.registry import versions

SEED, LIST_ROWS, PREDICTED_ROWS = 7, 100, 200_000
TREES = ("ranker.max_trees=300", "ranker.min_trees=300", "ranker.num_leaves=63", "ranker.min_data_in_leaf=5")


@dataclass(frozen=True)
class LogAmounts:
    """Of a log. rows: of candidates, one run for each."""

    events: int
    users: int
    items: int
    rows: tuple[int, ...]


QUICK = LogAmounts(200_000, 20_000, 10_000, (20_000, 200_000))
FULL = LogAmounts(5_000_000, 100_000, 100_000, (100_000, 1_000_000, 2_000_000, 10_000_000))


def measure(quick: bool) -> list[Result]:
    """Seconds and memory of `recsys score` by candidate rows, beside bare predict; quick: in some minutes."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    one_blas_thread()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ["RECSYS_CACHE"] = str(Path(folder) / "cache")
        simulate(Path("site"), seed=SEED, users=200, items=300, impressions=2_500)
        save_untrained_encoder(Path("base"), Path("site"))
        config = load_config(None, (*SETTINGS, *TREES, "encoder.base_model=base"))
        uri = train(Path("site"), config, name="batch").models.ranker.uri
        return list(measure_batches(Path("site"), uri, Path("log"), QUICK if quick else FULL))


def measure_batches(site: Path, uri: str, folder: Path, amounts: LogAmounts) -> Iterator[Result]:
    """`measure` of a version. site: whose texts the items get. folder: new, for the tables."""
    _write_log(site, folder, amounts)
    rate = predicted_rows_per_second(uri)
    earlier = None
    for rows in amounts.rows:
        candidates = folder / "candidates.parquet"
        _write_candidates(candidates, rows, amounts)
        seconds, megabytes = _score(folder, candidates, folder.with_name(f"scored-{rows}"), uri)
        growth = None if earlier is None else seconds / earlier
        yield Result(f"seconds_of_{rows}_rows", seconds, "s, against the size before", earlier, growth)
        yield Result(
            f"rows_per_second_of_{rows}", rows / seconds, "rows/s, against predict", rate, rows / seconds / rate
        )
        yield Result(f"peak_megabytes_of_{rows}_rows", megabytes, "MB")
        earlier = seconds


def predicted_rows_per_second(uri: str) -> float:
    """LightGBM's predict of a version's trees on random numbers, the best of three."""
    ranker = versions.load(uri).ranking_model.ranker
    if not isinstance(ranker, TreeRanker):
        raise RuntimeError(f"expected trees, got {type(ranker).__name__}")
    booster = ranker.booster
    matrix = np.random.default_rng(SEED).normal(size=(PREDICTED_ROWS, booster.num_feature()))
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        booster.predict(matrix, num_threads=os.cpu_count() or 1)
        spent.append(time.perf_counter() - start)
    return PREDICTED_ROWS / min(spent)


def _write_log(site: Path, folder: Path, amounts: LogAmounts) -> None:
    folder.mkdir()
    log = simulated_log(events=amounts.events, lists=1, users=amounts.users, items=amounts.items, seed=SEED)
    known = pq.read_table(site / "items.parquet")
    rows = known.take(pa.array(np.arange(amounts.items) % len(known)))
    titles = [f"{title} {n}" for n, title in enumerate(rows.column("title").to_pylist())]
    rows = rows.set_column(rows.column_names.index("item_id"), "item_id", pa.array(_ids("n", amounts.items)))
    rows = rows.set_column(rows.column_names.index("title"), "title", pa.array(titles))
    pq.write_table(rows, folder / "items.parquet")
    events = {
        "user_id": pa.array(_ids("u", amounts.users)).take(pa.array(log.events.user)),
        "item_id": pa.array(_ids("n", amounts.items)).take(pa.array(log.events.item)),
        "timestamp": pa.array(log.events.time, pa.timestamp("us", tz="UTC")),
    }
    pq.write_table(pa.table(events), folder / "events.parquet")


def _write_candidates(path: Path, rows: int, amounts: LogAmounts) -> None:
    """Requests of LIST_ROWS distinct items."""
    rng = np.random.default_rng(SEED)
    requests = rows // LIST_ROWS
    item = (rng.integers(0, amounts.items, (requests, 1)) + np.arange(LIST_ROWS) * 37) % amounts.items
    request = np.repeat(np.arange(requests), LIST_ROWS)
    user = np.repeat(rng.integers(0, amounts.users, requests), LIST_ROWS)
    table = {
        "request_id": pa.array(_ids("r", requests)).take(pa.array(request)),
        "user_id": pa.array(_ids("u", amounts.users)).take(pa.array(user)),
        "item_id": pa.array(_ids("n", amounts.items)).take(pa.array(item.ravel())),
    }
    pq.write_table(pa.table(table), path)


def _ids(letter: str, number: int) -> list[str]:
    return [f"{letter}{n:07}" for n in range(number)]


def _score(folder: Path, candidates: Path, out: Path, uri: str) -> tuple[float, float]:
    """Seconds and peak MB of the command. Raises RuntimeError where it fails."""
    arguments = ["score", str(folder), "--candidates", str(candidates), "--out", str(out), "--model", uri]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "pipelines.cli", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"recsys {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


if __name__ == "__main__":
    command(measure)
