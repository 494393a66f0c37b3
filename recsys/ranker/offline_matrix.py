"""The ranker's matrix for lists of a log, chunk by chunk: the offline side of the one scoring function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Float32, Float64
from features.definitions.event_measures import Feature
from features.log import Requests
from features.offline.matrix import CHUNK_ROWS, for_each_chunk
from features.offline.reader import LogIndex, OfflineReader
from recsys.collaborative.columns import TableSource
from recsys.collaborative.offline import OfflineSnapshots
from recsys.encoder.snapshots import TextModel, group_by_encoder
from recsys.ranker.matrix import ItemTexts, candidate_matrix, encode_queries, ranker_columns
from recsys.ranker.model import Unit
from recsys.ranker.text_snapshots import RepresentationSchedule


def build_matrix(
    features: Sequence[Feature],
    model: TextModel,
    index: LogIndex,
    requests: Requests,
    texts: ItemTexts,
    tables: TableSource | None,
    *,
    delay: int,
    timezone: str,
    threads: int = 2,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[tuple[str, ...], Float32]:
    """Names and values of every column for requests in a log's codes, (n_rows, n_columns) float32.

    tables: None leaves the collaborative columns out. delay: microseconds that an event needs to become known. Values
    are the same at any chunk and number of threads.
    """
    if not len(requests):
        raise ValueError("expected at least one request to make a matrix of, got none")
    queries = encode_queries(model, requests.query)
    names = tuple(column.name for column in ranker_columns(features, collaborative=tables is not None))
    matrix = np.empty((requests.n_rows, len(names)), np.float32)

    def fill(reader: OfflineReader, first: int, end: int) -> None:
        some = None if queries is None else queries[first:end]
        block = candidate_matrix(features, model.weights, reader, texts, some, tables, delay=delay)[1]
        matrix[requests.offsets[first] : requests.offsets[end]] = block

    for_each_chunk(
        index,
        requests,
        features,
        fill,
        history_length=model.history_length,
        delay=delay,
        timezone=timezone,
        threads=threads,
        chunk_rows=chunk_rows,
    )
    return names, matrix


def matrix_over_states(
    features: Sequence[Feature],
    texts: RepresentationSchedule,
    index: LogIndex,
    requests: Requests,
    *,
    delay: int,
    timezone: str,
    threads: int = 2,
) -> tuple[tuple[str, ...], Float32]:
    """As `build_matrix`, with every request's columns from the state of the encoder that scores its time."""
    names: tuple[str, ...] = ()
    matrix: Float32 | None = None
    for number, positions in group_by_encoder(texts.states, requests.time):
        part = requests.take(positions)
        names, block = build_matrix(
            features,
            texts.states[number].model,
            index,
            part,
            texts.of(number),
            texts.tables(number, index),
            delay=delay,
            timezone=timezone,
            threads=threads,
        )
        if len(positions) == len(requests):
            return names, block
        if matrix is None:
            matrix = np.empty((requests.n_rows, len(names)), np.float32)
        shift = np.repeat(requests.offsets[positions] - part.offsets[:-1], part.lengths())
        matrix[shift + np.arange(len(block))] = block
    if matrix is None:
        raise ValueError("expected at least one request to make a matrix of, got none")
    return names, matrix


def unit_tables(unit: Unit, index: LogIndex, texts: ItemTexts) -> OfflineSnapshots | None:
    """The collaborative tables that a unit reads over a log, made as they are asked for; None where it reads none."""
    settings = unit.settings.collaborative
    return None if settings is None else OfflineSnapshots(index, texts.vectors, settings)


def scores_over_log(
    unit: Unit,
    index: LogIndex,
    requests: Requests,
    texts: ItemTexts,
    *,
    threads: int,
    tables: TableSource | None = None,
) -> Float64:
    """Scores of a unit for requests in a log's codes, (n_rows,). tables: as `unit_tables`, for more than one call."""
    matrix = unit_matrix(unit, index, requests, texts, threads=threads, tables=tables)
    return unit.ranker.scores(matrix, threads=threads)


def unit_matrix(
    unit: Unit,
    index: LogIndex,
    requests: Requests,
    texts: ItemTexts,
    *,
    threads: int,
    tables: TableSource | None = None,
) -> Float32:
    """The columns that a unit's settings name for requests in a log's codes, (n_rows, n_columns). tables: as above."""
    settings = unit.settings
    return build_matrix(
        settings.features(),
        unit.encoder,
        index,
        requests,
        texts,
        unit_tables(unit, index, texts) if tables is None else tables,
        delay=settings.event_delay,
        timezone=settings.timezone,
        threads=threads or 2,
    )[1]
