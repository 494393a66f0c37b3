"""What is logged of one answer, and the rows that it becomes; `features.tables.logged_columns` has the columns."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa

from features.tables.logged_columns import FEATURE, LOGGED
from recsys.serving.request_parsing import ParsedRequest
from recsys.serving.rungs import Ranking, ScoredCandidates

_ROW_CHARACTERS = 400
"""Characters of a query that take as much as a row with a hundred columns."""


@dataclass(frozen=True)
class LoggedRanking:
    """One answer. time: microseconds. candidates: ids, in the order of the request. described: those that came with
    columns. n_shown: items of the answer. names: of ranker and encoder."""

    request_id: str
    user: str | None
    time: int
    query: str | None
    candidates: Sequence[str]
    described: Collection[str]
    history_given: bool
    n_shown: int
    rung: str
    names: Mapping[str, str | None]
    propensity: float | None
    scored: ScoredCandidates

    @classmethod
    def of(
        cls,
        request_id: str,
        parsed: ParsedRequest,
        ranking: Ranking,
        names: Mapping[str, str | None],
        *,
        propensity: float | None,
    ) -> LoggedRanking:
        """What is logged of a request and its ranking; it holds on to no snapshot of the store."""
        if ranking.reader is not None:
            moment = ranking.reader.time
        else:
            moment = time.time_ns() // 1000 if parsed.time is None else parsed.time
        return cls(
            request_id,
            parsed.request.user_id,
            moment,
            parsed.request.query or None,
            parsed.candidates,
            frozenset(parsed.described),
            parsed.history is not None,
            len(ranking.items),
            ranking.rung,
            names,
            propensity,
            ranking.scored,
        )

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def weight(self) -> int:
        """Its size in memory and in a table, in ordinary rows: its query stands in each of its rows."""
        return weight_of(len(self), self.query)


def weight_of(n: int, query: str | None) -> int:
    """`LoggedRanking.weight` of n candidates."""
    return n + n * len(query or "") // _ROW_CHARACTERS


def table_of(rankings: Sequence[LoggedRanking]) -> pa.Table:
    """The rows of rankings, those that read the same columns together; null where others read more."""

    def columns_of(ranking: LoggedRanking) -> tuple[str, ...]:
        return ranking.scored.columns

    alike = groupby(sorted(rankings, key=columns_of), columns_of)
    tables = [_table(list(group), columns) for columns, group in alike]
    return pa.concat_tables(tables, promote_options="default")


def _table(rankings: Sequence[LoggedRanking], columns: Sequence[str]) -> pa.Table:
    """The rows of rankings that read the same columns."""
    lengths = [len(ranking) for ranking in rankings]

    def repeated(values: Sequence[object], name: str) -> pa.Array:
        return pa.array(values, LOGGED.field(name).type).take(pa.array(owner))

    owner = np.repeat(np.arange(len(rankings)), lengths)
    position = np.concatenate([np.arange(1, n + 1, dtype=np.int32) for n in lengths])
    items = [ranking.candidates[row] for ranking in rankings for row in ranking.scored.rows.tolist()]
    came = [ranking.described for ranking in rankings for _ in range(len(ranking))]
    shown = position <= np.repeat([ranking.n_shown for ranking in rankings], lengths)
    arrays = [
        repeated([ranking.request_id for ranking in rankings], "impression_id"),
        repeated([ranking.user for ranking in rankings], "user_id"),
        repeated([ranking.time for ranking in rankings], "timestamp"),
        repeated([ranking.query for ranking in rankings], "query"),
        pa.array(items, pa.string()),
        pa.array(position),
        pa.array(np.concatenate([ranking.scored.scores[ranking.scored.rows] for ranking in rankings])),
        pa.array(shown),
        pa.array([item in described for item, described in zip(items, came, strict=True)], pa.bool_()),
        repeated([ranking.history_given for ranking in rankings], "history_given"),
        repeated([ranking.rung for ranking in rankings], "rung"),
        repeated([ranking.names["ranker"] for ranking in rankings], "ranker"),
        repeated([ranking.names["encoder"] for ranking in rankings], "encoder"),
        repeated([ranking.propensity for ranking in rankings], "propensity"),
    ]
    table = pa.table(arrays, schema=LOGGED)
    values = [ranking.scored.values[ranking.scored.rows] for ranking in rankings if ranking.scored.values is not None]
    if not values:
        return table
    matrix = np.concatenate(values).T
    features = [pa.array(np.ascontiguousarray(column)) for column in matrix]
    fields = [pa.field(f"{FEATURE}{name}", pa.float32()) for name in columns]
    return pa.table([*table.columns, *features], schema=pa.schema([*LOGGED, *fields]))
