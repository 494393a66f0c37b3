"""Ranked rows of chunks of candidates: id, user_id, item_id, score, rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from features.arrays import NO_TIME, Float64
from features.log import Log, Requests
from features.tables.candidates import CandidateChunk
from recsys.batch.partitions import batches_of
from recsys.batch.run import RankedRows
from recsys.metrics.rank_order import ordered
from recsys.ranker.offline_matrix import OfflineScorer

BATCH_ROWS = 50_000
"""Candidate rows whose columns are computed together, unless another number is named."""


@dataclass(frozen=True)
class ScoringSettings:
    """id_column: what the column of the requests' ids is called. default_time: of requests without a time,
    microseconds. top_k: rows kept of each request, None for all. batch_rows: rows whose columns are in memory together,
    which changes no value."""

    id_column: str
    default_time: int
    top_k: int | None = None
    batch_rows: int = BATCH_ROWS


@dataclass(frozen=True)
class CandidateScorer:
    """A `PartitionScorer` of chunks of candidates."""

    scorer: OfflineScorer
    settings: ScoringSettings

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the ranked rows."""
        names = (self.settings.id_column, "user_id", "item_id")
        return pa.schema([*((name, pa.string()) for name in names), ("score", pa.float64()), ("rank", pa.int32())])

    def ranked(self, task: CandidateChunk) -> Iterator[RankedRows]:
        """The rows of a chunk, by request in its order, then by rank."""
        for batch in batches_of(task, self.settings.batch_rows):
            requests = requests_of(batch, self.scorer.index.log, self.settings.default_time)
            table = self._table(batch, self.scorer.scores(requests))
            counts = {
                "requests": len(batch),
                "rows_out": len(table),
                "unknown_users": int((requests.user < 0).sum()),
                "unknown_items": int((requests.item < 0).sum()),
            }
            yield RankedRows(table, counts)

    def _table(self, chunk: CandidateChunk, scores: Float64) -> pa.Table:
        tie = pd.factorize(chunk.item, sort=True)[0].astype(np.int64)
        rows, ranks = ordered(scores, tie, chunk.offsets)
        if self.settings.top_k is not None:
            kept = ranks <= self.settings.top_k
            rows, ranks = rows[kept], ranks[kept]
        request = pa.array(np.repeat(np.arange(len(chunk)), np.diff(chunk.offsets))[rows])
        return pa.Table.from_arrays(
            [
                pa.array(chunk.ids, pa.string()).take(request),
                pa.array(chunk.user, pa.string()).take(request),
                pa.array(chunk.item, pa.string()).take(pa.array(rows)),
                pa.array(scores[rows]),
                pa.array(ranks.astype(np.int32)),
            ],
            schema=self.schema,
        )


def requests_of(chunk: CandidateChunk, data: Log, default_time: int) -> Requests:
    """A chunk in the log's codes; `default_time` is the time of requests without one."""
    queries = chunk.query if any(query is not None for query in chunk.query) else None
    return Requests(
        data.user_codes(chunk.user),
        np.where(chunk.time == NO_TIME, default_time, chunk.time),
        chunk.offsets,
        data.catalog.codes(chunk.item),
        queries,
    )
