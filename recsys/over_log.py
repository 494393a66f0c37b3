"""The ranker's matrix for lists of a log, chunk by chunk: the offline side of the one scoring function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.definitions import Feature
from features.log import Float32, Float64, Requests
from features.offline import CHUNK_ROWS, LogIndex, request_chunks, slice_requests
from features.reads import Read
from recsys.collaborative.columns import TableSource
from recsys.collaborative.over_log import LoggedTables
from recsys.encoder.model import Encoder
from recsys.unit import ItemTexts, Unit, candidate_matrix, query_vectors


def matrix_over_log(
    features: Sequence[Feature],
    encoder: Encoder,
    index: LogIndex,
    requests: Requests,
    texts: ItemTexts,
    tables: TableSource | None,
    *,
    delay: int,
    timezone: str,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[tuple[str, ...], Float32]:
    """Names and values of every column for requests in a log's codes, (n_rows, n_columns) float32.

    tables: None leaves the collaborative columns out. delay: microseconds that an event needs to become known. Values
    are the same at any chunk.
    """
    index.prepare(_reads(features))
    histories = index.histories(requests, length=encoder.settings.history_length, delay=delay)
    queries = query_vectors(encoder, requests.query)
    names: tuple[str, ...] = ()
    blocks: list[Float32] = []
    for first, end in request_chunks(requests, chunk_rows):
        part, known = slice_requests(requests, histories, first, end)
        reader = index.reader(part, known, delay=delay, timezone=timezone)
        some = None if queries is None else queries[first:end]
        names, block = candidate_matrix(features, encoder.weights, reader, texts, some, tables, delay=delay)
        blocks.append(block)
    if not blocks:
        raise ValueError("expected at least one request to make a matrix of, got none")
    return names, np.concatenate(blocks)


def unit_tables(unit: Unit, index: LogIndex, texts: ItemTexts) -> LoggedTables | None:
    """The collaborative tables that a unit reads over a log, made as they are asked for; None where it reads none."""
    settings = unit.settings.collaborative
    return None if settings is None else LoggedTables(index, texts.vectors, settings)


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
    return unit.ranker.scores(unit_matrix(unit, index, requests, texts, tables=tables), threads=threads)


def unit_matrix(
    unit: Unit, index: LogIndex, requests: Requests, texts: ItemTexts, *, tables: TableSource | None = None
) -> Float32:
    """The columns that a unit's settings name for requests in a log's codes, (n_rows, n_columns). tables: as above."""
    settings = unit.settings
    return matrix_over_log(
        settings.features(),
        unit.encoder,
        index,
        requests,
        texts,
        unit_tables(unit, index, texts) if tables is None else tables,
        delay=settings.event_delay,
        timezone=settings.timezone,
    )[1]


def _reads(features: Sequence[Feature]) -> tuple[Read, ...]:
    return tuple(dict.fromkeys(read for feature in features for read in feature.measure.reads()))
