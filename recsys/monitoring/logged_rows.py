"""The columns and scores that a server logged for the rankings of one version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.arrays import Bool, Float32, Float64, Int64
from features.clock import format_time
from features.errors import InputError
from features.tables.logged_columns import FEATURE
from features.tables.logged_rankings import logged_tables

FULL = "full"
_HEADS = ("impression_id", "position", "rung", "ranker")
_ROWS = (*_HEADS, "timestamp", "user_id", "item_id", "score")


@dataclass(frozen=True)
class LoggedRows:
    """columns: that some list has. matrix: (n_rows, n_columns). score, user: (n_rows,), of codes, negative for unknown.
    items: distinct ids among the rows. n_all: lists of the version before some were chosen. start, end: ISO 8601."""

    columns: tuple[str, ...]
    matrix: Float32
    score: Float64
    user: Int64
    items: tuple[str, ...]
    n_lists: int
    n_users: int
    n_all: int
    start: str
    end: str


def read_logged_rows(
    folder: Path, ranker: str, columns: Collection[str], *, most: int, lists: Collection[str] | None = None
) -> LoggedRows:
    """The rankings of a version by all that it reads, or `most` of them at even distances.

    lists: impression ids to choose from, None for all. Raises InputError where the log cannot be used or has none.
    """
    n_all = sum(len(_starts(table, ranker, lists)[0]) for table in logged_tables(folder, _HEADS))
    if not n_all:
        raise InputError(
            f"logged rankings {str(folder)!r}: expected lists that {ranker} ranked on the rung {FULL!r}, found none; "
            "name with --model a version that was served"
        )
    wanted = np.zeros(n_all, np.bool_)
    wanted[np.linspace(0, n_all - 1, min(most, n_all)).astype(np.int64)] = True
    parts, seen = [], 0
    for table in logged_tables(folder, _ROWS, features=FEATURE):
        starts, lengths = _starts(table, ranker, lists)
        chosen = wanted[seen : seen + len(starts)]
        seen += len(starts)
        rows = [np.arange(a, a + n) for a, n in zip(starts[chosen], lengths[chosen], strict=True)]
        if rows:
            parts.append(table.take(pa.array(np.concatenate(rows))))
    return _logged_rows(
        parts, [name for name in columns if any(FEATURE + name in part.schema.names for part in parts)], n_all
    )


def _starts(table: pa.Table, ranker: str, lists: Collection[str] | None) -> tuple[Int64, Int64]:
    """First row and length of each list of the version in a file."""
    starts = np.flatnonzero(table.column("position").to_numpy() == 1)
    lengths = np.diff(np.append(starts, len(table)))
    heads = table.select(list(_HEADS)).take(pa.array(starts)).to_pydict()
    chosen: Bool = np.array(
        [
            version == ranker and rung == FULL and (lists is None or name in lists)
            for version, rung, name in zip(heads["ranker"], heads["rung"], heads["impression_id"], strict=True)
        ],
        np.bool_,
    )
    return starts[chosen], lengths[chosen]


def _logged_rows(parts: list[pa.Table], columns: list[str], n_all: int) -> LoggedRows:
    users: dict[str, int] = {}
    codes: list[int] = []
    blocks, times = [], []
    for part in parts:
        codes += [-1 if user is None else users.setdefault(user, len(users)) for user in part["user_id"].to_pylist()]
        blocks.append(np.column_stack([np.zeros((len(part), 0)), *(_column(part, name) for name in columns)]))
        times.append(part["timestamp"].cast(pa.int64()).to_numpy())
    every = np.concatenate(times)
    first = np.concatenate([part["position"].to_numpy() for part in parts]) == 1
    user = np.array(codes, np.int64)
    nobody = user < 0
    user[nobody] = -1 - np.cumsum(first)[nobody]
    return LoggedRows(
        columns=tuple(columns),
        matrix=np.concatenate(blocks).astype(np.float32),
        score=np.concatenate([part["score"].to_numpy() for part in parts]),
        user=user,
        items=tuple(sorted({str(item) for part in parts for item in part["item_id"].to_pylist()})),
        n_lists=int(first.sum()),
        n_users=len(np.unique(user)),
        n_all=n_all,
        start=format_time(int(every.min())),
        end=format_time(int(every.max())),
    )


def _column(part: pa.Table, name: str) -> Float64:
    if FEATURE + name not in part.schema.names:
        return np.full(len(part), np.nan)
    return np.asarray(part.column(FEATURE + name).to_numpy(), np.float64)
