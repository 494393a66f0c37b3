"""Logged rankings against the tables: the columns that a server read, and the same columns computed offline.

Every value that the server logged for a candidate must equal, to the last bit, the one that the tables of a data
directory give for the same user, item and time; NaN equals NaN. Whatever a training reads of these lists is then what
the server read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.arrays import Bool, Float32, Int64, Strings, offsets_of
from features.clock import format_time
from features.errors import InputError
from features.log import Log, Requests
from features.tables.logged_columns import FEATURE
from features.tables.logged_rankings import logged_tables
from recsys.audit.differences import Difference, DifferenceTally, difference_lines
from recsys.audit.finding import Row
from recsys.metrics.jsonable import jsonable
from recsys.ranker.offline_matrix import OfflineScorer

_COLUMNS = (
    "impression_id",
    "user_id",
    "timestamp",
    "query",
    "item_id",
    "position",
    "described",
    "history_given",
    "rung",
    "ranker",
)
_OWN = "lists that came with a history or with columns of items"
_VERSION = "lists of another version"
_RUNG = "lists of another rung"


@dataclass(frozen=True)
class LoggedReport:
    """ranker: NAME/VERSION. lists, rows, values: what was compared. left_out: lists that were not, by reason. first,
    last: times of the lists, microseconds. seconds: of the whole."""

    ranker: str
    lists: int
    rows: int
    values: int
    left_out: Mapping[str, int]
    first: int
    last: int
    differences: tuple[Difference, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no value differs."""
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys audit --logged --json`."""
        return {
            "passed": self.passed,
            **jsonable(self),
            "first": format_time(self.first),
            "last": format_time(self.last),
            "differences": [difference.as_dict() for difference in self.differences],
            "seconds": round(self.seconds, 3),
        }

    def lines(self) -> list[str]:
        """The report for a person; the last line is the figure."""
        of_what = f"{self.rows:,} candidates in {self.lists:,} lists that {self.ranker} ranked"
        return [
            f"lists from {format_time(self.first)} to {format_time(self.last)}, {self.seconds:.0f} s in all",
            *(f"left out: {count:,} {reason}" for reason, count in self.left_out.items()),
            *difference_lines(self.differences, self.values, of_what),
        ]


@dataclass(frozen=True)
class _Lists:
    """Lists of one rung. ids: (n,). items: (n_rows,). logged: the columns as they were logged, (n_rows, n_columns)."""

    ids: Strings
    requests: Requests
    items: Strings
    logged: Float32

    def row(self, row: int, *, before: float, after: float) -> Row:
        """A candidate, named for the report."""
        position = int(np.searchsorted(self.requests.offsets, row, side="right")) - 1
        moment = int(self.requests.time[position])
        return Row(str(self.items[row]), moment, str(self.ids[position]), before=before, after=after)


def compare_logged(folder: Path, ranker: str, scorers: Mapping[str, OfflineScorer]) -> LoggedReport:
    """Compare the rankings of one version in a log with the tables. scorers: by rung, over the log of the tables.

    Raises InputError where the log cannot be used, or holds no such ranking.
    """
    started = time.perf_counter()
    tally, left_out = DifferenceTally(), Counter[str]()
    times: list[Int64] = []
    rows = values = 0
    for table in logged_tables(folder, _COLUMNS, features=FEATURE):
        starts = np.flatnonzero(table.column("position").to_numpy() == 1)
        for rung, chosen in _chosen(table, starts, ranker, tuple(scorers), left_out).items():
            scorer = scorers[rung]
            names = scorer.ranking_model.settings.columns
            lists = _lists(table, starts, chosen, names, scorer.index.log)
            tally.add(names, scorer.matrix(lists.requests), lists.logged, lists.row)
            times.append(lists.requests.time)
            rows += lists.requests.n_rows
            values += lists.logged.size
    if not times:
        others = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "no list at all"
        raise InputError(
            f"logged rankings {str(folder)!r}: expected lists that {ranker} ranked on the rungs {sorted(scorers)}, "
            f"found {others}"
        )
    every = np.concatenate(times)
    return LoggedReport(
        ranker=ranker,
        lists=len(every),
        rows=rows,
        values=values,
        left_out=dict(sorted(left_out.items())),
        first=int(every.min()),
        last=int(every.max()),
        differences=tally.differences(),
        seconds=time.perf_counter() - started,
    )


def _chosen(
    table: pa.Table, starts: Int64, ranker: str, rungs: tuple[str, ...], left_out: Counter[str]
) -> dict[str, Bool]:
    """Masks over the lists of a file, (n,), by rung; those of none are counted."""
    heads = table.select(["ranker", "rung"]).take(pa.array(starts))
    versions, rung = (_texts(heads, name) for name in ("ranker", "rung"))
    own = np.asarray(table.column("described").to_numpy() | table.column("history_given").to_numpy(), np.bool_)
    own = np.logical_or.reduceat(own, starts) if len(starts) else np.zeros(0, np.bool_)
    of_version = versions == ranker
    on_rung = np.isin(rung.astype(str), rungs)
    counts = {_VERSION: ~of_version, _RUNG: of_version & ~on_rung, _OWN: of_version & on_rung & own}
    left_out.update({reason: int(mask.sum()) for reason, mask in counts.items() if mask.any()})
    masks = {name: of_version & ~own & (rung == name) for name in rungs}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _lists(table: pa.Table, starts: Int64, chosen: Bool, names: tuple[str, ...], log: Log) -> _Lists:
    """Lists of a mask, in the log's codes."""
    lengths = np.diff(np.append(starts, len(table)))
    rows = table.filter(pa.array(np.repeat(chosen, lengths)))
    heads = table.take(pa.array(starts[chosen]))
    query = _texts(heads, "query")
    items = _texts(rows, "item_id")
    requests = Requests(
        log.user_codes(_texts(heads, "user_id")),
        heads.column("timestamp").cast(pa.int64()).to_numpy(),
        offsets_of(lengths[chosen]),
        log.catalog.codes(items),
        query if any(text is not None for text in query) else None,
    )
    found = {name: FEATURE + name for name in names if FEATURE + name in table.schema.names}
    missing = np.full(len(rows), np.nan, np.float32)
    logged = [rows.column(found[name]).to_numpy() if name in found else missing for name in names]
    return _Lists(_texts(heads, "impression_id"), requests, items, np.column_stack(logged).astype(np.float32))


def _texts(table: pa.Table, name: str) -> Strings:
    return np.array(table.column(name).to_pylist(), object)
