"""Features of any number of requests over a log, chunk by chunk on a few threads.

Memory beside the log, its index and the result is bounded by the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from features.arrays import Float32
from features.definitions.builtin import required_aggregates
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from features.log import Requests, chunk_bounds, slice_requests
from features.matrix.columns import feature_matrix
from features.offline.reader import LogIndex, OfflineReader

CHUNK_ROWS = 262_144
"""Candidate rows looked up together: the more, the nearer to each other the probes of a counter, and the faster."""


def for_each_chunk(
    index: LogIndex,
    requests: Requests,
    features: Sequence[Feature],
    use: Callable[[OfflineReader, int, int], None],
    *,
    history_length: int = 50,
    delay: int = 0,
    timezone: str = "UTC",
    threads: int = 2,
    chunk_rows: int = CHUNK_ROWS,
) -> None:
    """Call `use` with a reader of each chunk of requests and the bounds of its requests, on `threads` threads.

    The reader answers what `features` read. Chunks have at most `chunk_rows` candidate rows: they bound the memory
    beside the index, and change no value. delay: microseconds that an event needs to become known.
    """
    index.prepare(required_aggregates(features), threads=threads)
    chunk_rows = min(chunk_rows, -(-requests.n_rows // max(1, threads)))

    def read(bounds: tuple[int, int]) -> None:
        part = slice_requests(requests, *bounds)
        history = index.histories(part, length=history_length, delay=delay)
        use(index.reader(part, history, delay=delay, timezone=timezone), *bounds)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(read, chunk_bounds(requests.offsets, chunk_rows)))


def log_matrix(
    features: Sequence[Feature],
    index: LogIndex,
    requests: Requests,
    *,
    history_length: int = 50,
    delay: int = 0,
    timezone: str = "UTC",
    threads: int = 2,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[tuple[str, ...], Float32]:
    """`feature_matrix` of any number of requests: the same values at any chunk and number of threads."""
    names = column_names(features)
    matrix = np.empty((requests.n_rows, len(names)), np.float32)

    def fill(reader: OfflineReader, first: int, end: int) -> None:
        feature_matrix(features, reader, matrix[requests.offsets[first] : requests.offsets[end]])

    for_each_chunk(
        index,
        requests,
        features,
        fill,
        history_length=history_length,
        delay=delay,
        timezone=timezone,
        threads=threads,
        chunk_rows=chunk_rows,
    )
    return names, matrix
