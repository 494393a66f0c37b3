"""`python -m benchmarks.features`: the built-in catalogue, places included, for millions of candidate rows.

Measured is what a nightly job does: from a log in memory to the whole matrix, index and histories made anew each time,
on two threads. Beside it stand the look-ups alone that the same columns need, with `pandas.merge_asof`
(`benchmarks.bare_lookups`, on one thread: it holds the interpreter's lock), in the same run. Seconds are the best of
three, by the clock and of the processor: on a machine with other work the latter say more. Peak memory is that of the
process after the first matrix, before pandas has done anything. Text columns, from random vectors and terms,
and collaborative ones are measured apart.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import random_array

from benchmarks.bare_lookups import lookups_of, time_of_merges
from benchmarks.report import Result, command
from benchmarks.simulated_log import COLUMN, LIST_SIZE, simulated_log
from benchmarks.spent import best_of, time_of
from features.definitions.builtin import catalogue, required_aggregates
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from features.log import Log, Requests, slice_requests
from features.matrix.columns import feature_matrix
from features.offline.reader import LogIndex, OfflineReader, OfflineSettings
from pipelines.stopwatch import peak_rss_mb
from recsys.collaborative.columns import collaborative_matrix
from recsys.collaborative.offline import OfflineSnapshots
from recsys.collaborative.snapshot import TableSettings
from recsys.config import CollaborativeConfig
from recsys.encoder.scoring import text_features, untrained_head
from recsys.ranker.tfidf import TermRows, lexical_column

SEED = 1
ENOUGH = 250_000
"""Candidate rows a second that are asked for."""
_DIM, _TERMS, _TERMS_A_TEXT = 384, 20_000, 12


@dataclass(frozen=True)
class Size:
    """How large the log is, and how many of its lists are given text columns."""

    events: int
    lists: int
    users: int
    items: int
    text_lists: int


FULL = Size(events=5_000_000, lists=100_000, users=200_000, items=50_000, text_lists=5_000)
QUICK = Size(events=1_000_000, lists=25_000, users=50_000, items=20_000, text_lists=1_000)


def measure(quick: bool) -> list[Result]:
    """Columns of the built-in catalogue for millions of candidate rows, against the bare look-ups they need."""
    size = QUICK if quick else FULL
    log = simulated_log(events=size.events, lists=size.lists, users=size.users, items=size.items, seed=SEED)
    features = catalogue(categories={COLUMN: log.catalog.categories[COLUMN].values[:200]})
    requests, lookups = log.impressions.requests, lookups_of(features)
    spent = [time_of(lambda: _matrix(features, log, requests, threads=2))]
    peak = peak_rss_mb()
    bare = [time_of_merges(lookups, log, requests)]
    for _ in range(2):
        spent.append(time_of(lambda: _matrix(features, log, requests, threads=2)))
        bare.append(time_of_merges(lookups, log, requests))
    alone = _best(lambda: _matrix(features, log, requests, threads=1))
    rows, two, merges = requests.n_rows, best_of(spent), best_of(bare)
    over = two.wall / merges.wall
    return [
        Result("columns", len(column_names(features)), f"of {len(features)} features, {len(lookups)} look-ups"),
        Result("candidate_rows_per_second", rows / two.wall, "rows a second", ENOUGH, rows / two.wall / ENOUGH),
        Result("over_bare_lookups", over, "seconds to those of merge_asof", 1.0, over),
        Result("over_bare_lookups_one_thread", alone / merges.wall, "the same on one thread", 1.0, alone / merges.wall),
        Result("over_bare_lookups_cpu", two.cpu / merges.cpu, "the same in processor time", 1.0, two.cpu / merges.cpu),
        Result("seconds_from_log_to_matrix", two.wall, f"s, {rows:,} rows, {size.events:,} events", merges.wall, over),
        Result("cpu_seconds_from_log_to_matrix", two.cpu, "s of all threads", merges.cpu, two.cpu / merges.cpu),
        Result("seconds_of_index", _best(lambda: _index(features, log)), "s of these", two.wall),
        Result("linearity", _linearity(features, log), "seconds of all lists to 4 times those of every 4th", 1.0),
        Result("peak_rss_mb", peak, "MB, the log and the matrix included"),
        *_text(log, size),
        *_collaborative(log, size),
    ]


def _index(features: tuple[Feature, ...], log: Log) -> LogIndex:
    index = LogIndex(log)
    _fill(features, index, slice_requests(log.impressions.requests, 0, 1))
    return index


def _matrix(features: tuple[Feature, ...], log: Log, requests: Requests, *, threads: int) -> None:
    _fill(features, LogIndex(log, OfflineSettings(threads=threads)), requests)


def _fill(features: tuple[Feature, ...], index: LogIndex, requests: Requests) -> None:
    """Compute the features of all requests into one matrix, a chunk on each thread of the index."""
    matrix = np.empty((requests.n_rows, len(column_names(features))), np.float32)

    def fill(chunk: tuple[slice, OfflineReader]) -> None:
        part, reader = chunk
        matrix[requests.offsets[part.start] : requests.offsets[part.stop]] = feature_matrix(features, reader)[1]

    with ThreadPoolExecutor(index.settings.threads) as pool:
        list(pool.map(fill, index.chunks(requests, required_aggregates(features))))


def _linearity(features: tuple[Feature, ...], log: Log) -> float:
    """Seconds of all lists over four times the seconds of every fourth, index and all that is made once left out."""
    index, every = _index(features, log), log.impressions.requests
    some = every.take(np.arange(0, len(every), 4))
    of_some = _best(lambda: _fill(features, index, some))
    return _best(lambda: _fill(features, index, every)) / (4 * of_some)


def _text(log: Log, size: Size) -> list[Result]:
    """Rows a second of the text columns of the latest lists."""
    rng = np.random.default_rng(SEED)
    vectors = rng.normal(size=(size.items + 1, _DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[-1] = np.nan
    drawn = random_array((size.items + 1, _TERMS), density=_TERMS_A_TEXT / _TERMS, format="csr", rng=rng)
    bounds = drawn.indptr.astype(np.int64)
    terms = TermRows(bounds[:-1], bounds[1:], drawn.indices.astype(np.int32), drawn.data, _TERMS)
    n = len(log.impressions)
    requests = slice_requests(log.impressions.requests, n - size.text_lists, n)
    histories = LogIndex(log).histories(requests)
    head, rows = untrained_head(_DIM), size.text_lists * LIST_SIZE
    text = _best(lambda: text_features(head, vectors, requests, histories))
    lexical = _best(lambda: lexical_column(terms, requests, histories))
    return [
        Result("text_rows_per_second", rows / text, f"rows a second on one thread, {_DIM} wide"),
        Result("lexical_rows_per_second", rows / lexical, f"rows a second on one thread, {_TERMS_A_TEXT} terms a text"),
    ]


def _collaborative(log: Log, size: Size) -> list[Result]:
    """Seconds of one making of the collaborative tables, and rows a second of their columns for the latest lists."""
    n = len(log.impressions)
    index, requests = LogIndex(log), slice_requests(log.impressions.requests, n - size.text_lists, n)
    reader = index.reader(requests)
    vectors = np.random.default_rng(SEED).normal(size=(size.items + 1, _DIM)).astype(np.float32)
    settings = TableSettings(
        first_build=int(requests.time[0]),
        build_interval=1 << 60,
        **CollaborativeConfig().model_dump(exclude={"tables"}),
    )
    source = OfflineSnapshots(index, vectors, settings)
    made = time_of(lambda: source.snapshot(settings.first_build)).wall
    columns = _best(lambda: collaborative_matrix(source, reader, vectors, settings.columns))
    rows = size.text_lists * LIST_SIZE
    return [
        Result("tables_seconds", made, f"s for a making, {size.events:,} events of {size.items:,} items"),
        Result("collaborative_rows_per_second", rows / columns, "rows a second on one thread, seven columns"),
    ]


def _best(work: Callable[[], object]) -> float:
    return best_of([time_of(work) for _ in range(3)]).wall


if __name__ == "__main__":
    command(measure)
