"""The ranker's matrix for impressions of a log, chunk by chunk: the offline side of scoring."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.arrays import Float32, Float64
from features.definitions.builtin import required_aggregates
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from features.log import Requests
from features.matrix.columns import FeaturePlan
from features.offline.reader import CHUNK_ROWS, LogIndex, OfflineReader, OfflineSettings
from recsys.collaborative.columns import TableSource
from recsys.collaborative.offline import OfflineSnapshots
from recsys.encoder.snapshots import group_by_encoder
from recsys.encoder.text_model import TextModel
from recsys.ranker.column_names import TEXT_SCORE
from recsys.ranker.lightgbm_ranker import select_columns
from recsys.ranker.matrix import ItemRepresentations, candidate_matrix, encode_queries, fitted_columns
from recsys.ranker.model import RankingModel
from recsys.ranker.text_snapshots import RepresentationSchedule


def build_matrix(
    features: Sequence[Feature],
    model: TextModel,
    index: LogIndex,
    requests: Requests,
    texts: ItemRepresentations,
    tables: TableSource | None,
    *,
    read: tuple[str, ...] | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Float32:
    """The columns `ranker_columns` for requests in a log's codes, (n_rows, n_columns) float32.

    tables, read: as in `candidate_matrix`. The threads of the index's settings each compute a chunk at a
    time; values are the same at any chunk size and number of threads. Raises ValueError without a request.
    """
    if not len(requests):
        raise ValueError("expected at least one request to make a matrix of, got none")
    fitted = fitted_columns(read, tables)
    queries = encode_queries(model, requests.query) if TEXT_SCORE in fitted else None
    plan = FeaturePlan(features)
    matrix = np.empty((requests.n_rows, len(plan.names) + len(fitted)), np.float32)

    def fill(chunk: tuple[slice, OfflineReader]) -> None:
        positions, reader = chunk
        rows = slice(requests.offsets[positions.start], requests.offsets[positions.stop])
        chunk_queries = None if queries is None else queries[positions]
        matrix[rows] = candidate_matrix(plan, model.weights, reader, texts, chunk_queries, tables, read=read)[1]

    chunks = index.chunks(requests, required_aggregates(features), chunk_rows=chunk_rows)
    with ThreadPoolExecutor(index.settings.threads) as pool:
        list(pool.map(fill, chunks))
    return matrix


def build_matrix_by_encoder(
    features: Sequence[Feature], texts: RepresentationSchedule, index: LogIndex, requests: Requests
) -> Float32:
    """As `build_matrix`, with every request's columns from the encoder that scores its time."""
    n_columns = len(column_names(features)) + len(texts.columns)
    matrix = np.empty((requests.n_rows, n_columns), np.float32)
    for number, positions in group_by_encoder(texts.states, requests.time):
        model, tables = texts.states[number].model, texts.tables(number, index)
        block = build_matrix(
            features, model, index, requests.take(positions), texts.of(number), tables, read=texts.read
        )
        if len(positions) == len(requests):
            return block
        matrix[requests.rows_of(positions)] = block
    return matrix


@dataclass(frozen=True)
class OfflineScorer:
    """A ranking model over a log. index: of the log, with any settings. texts: of the log's items, as the model's
    `texts`. threads: of LightGBM, 0 is one a core; the columns are computed on as many, or on two.
    """

    ranking_model: RankingModel
    index: LogIndex
    texts: ItemRepresentations
    threads: int = 0

    def scores(self, requests: Requests) -> Float64:
        """Scores of requests in the log's codes, (n_rows,), higher is better."""
        return self.ranking_model.ranker.scores(self.matrix(requests), threads=self.threads)

    def matrix(self, requests: Requests) -> Float32:
        """The columns that the model's settings name, (n_rows, n_columns). Raises ValueError without a request."""
        model, columns = self.ranking_model, self.ranking_model.settings.columns
        matrix = build_matrix(
            model.features, model.encoder, self._index, requests, self.texts, self._tables, read=columns
        )
        names = (*column_names(model.features), *fitted_columns(columns, self._tables))
        return select_columns(matrix, names, columns)

    def prepare(self) -> None:
        """Sort the counters that the model reads, which else the first scores do."""
        self._index.prepare(required_aggregates(self.ranking_model.features))

    def reader(self, requests: Requests) -> OfflineReader:
        """The past of requests in the log's codes, read as the model reads it."""
        return self._index.reader(requests)

    @cached_property
    def _index(self) -> LogIndex:
        settings = self.ranking_model.settings
        return self.index.with_settings(OfflineSettings(settings.data, settings.history_length, self.threads or 2))

    @cached_property
    def _tables(self) -> OfflineSnapshots | None:
        """The collaborative tables that the model reads, each built on first use."""
        settings = self.ranking_model.settings.collaborative
        return None if settings is None else OfflineSnapshots(self._index, self.texts.vectors, settings)
