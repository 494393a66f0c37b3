"""The ranker's matrix for lists of a log, chunk by chunk: the offline side of the one scoring function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.definitions import Feature
from features.log import Float32, Float64, Requests
from features.log_matrix import CHUNK_ROWS, read_in_chunks
from features.offline import LogIndex, OfflineReader
from recsys.encoder.model import Encoder
from recsys.unit import ItemTexts, Unit, candidate_matrix, query_vectors, ranker_columns


def matrix_over_log(
    features: Sequence[Feature],
    encoder: Encoder,
    index: LogIndex,
    requests: Requests,
    texts: ItemTexts,
    *,
    delay: int,
    timezone: str,
    threads: int = 2,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[tuple[str, ...], Float32]:
    """Names and values of every column for requests in a log's codes, (n_rows, n_columns) float32.

    delay: microseconds that an event needs to become known. Values are the same at any chunk and number of threads.
    """
    if not len(requests):
        raise ValueError("expected at least one request to make a matrix of, got none")
    queries = query_vectors(encoder, requests.query)
    names = tuple(column.name for column in ranker_columns(features))
    matrix = np.empty((requests.n_rows, len(names)), np.float32)

    def fill(reader: OfflineReader, first: int, end: int) -> None:
        some = None if queries is None else queries[first:end]
        block = candidate_matrix(features, encoder.weights, reader, texts, some)[1]
        matrix[requests.offsets[first] : requests.offsets[end]] = block

    read_in_chunks(
        index,
        requests,
        features,
        fill,
        history_length=encoder.settings.history_length,
        delay=delay,
        timezone=timezone,
        threads=threads,
        chunk_rows=chunk_rows,
    )
    return names, matrix


def scores_over_log(unit: Unit, index: LogIndex, requests: Requests, texts: ItemTexts, *, threads: int) -> Float64:
    """Scores of a unit for requests in a log's codes, (n_rows,)."""
    settings = unit.settings
    matrix = matrix_over_log(
        settings.features(),
        unit.encoder,
        index,
        requests,
        texts,
        delay=settings.event_delay,
        timezone=settings.timezone,
        threads=threads or 2,
    )[1]
    return unit.ranker.scores(matrix, threads=threads)
