"""`recsys data rankings`: logged rankings as an impressions table, with the clicks that came.

Every shown list becomes an impression, with the position of each item, clicked or not: one without a click counts as an
impression too. Its time is that which it was ranked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.atomic_files import atomic_folder
from features.clock import format_time
from features.tables.impressions import ImpressionTable
from features.tables.load import ReadOptions
from features.tables.logged_clicks import LabelledLists, label_logged
from features.tables.rejects import Rejects
from features.tables.schema import CANONICAL

_SCHEMA = pa.schema(
    [
        ("impression_id", CANONICAL["id"]),
        ("user_id", CANONICAL["id"]),
        ("timestamp", CANONICAL["time"]),
        ("item_id", CANONICAL["id"]),
        ("clicked", CANONICAL["label"]),
        ("position", CANONICAL["count"]),
        ("query", CANONICAL["text"]),
    ]
)
_AT_ONCE = 20_000


@dataclass(frozen=True)
class LoggedImpressionsReport:
    """file: that was written. impressions, rows, clicked: lists, their items, and those with a click. outside, clicks,
    elsewhere: as in `LabelledLists`. repeated: rankings that a later one of the same id replaces. cut: lists of which
    `top_k` left candidates out. own_columns: lists that the request itself described in part. first, last: times of the
    lists; None without any. rejected: rows of events left out, by reason."""

    file: str
    impressions: int
    rows: int
    clicked: int
    outside: int
    clicks: int
    elsewhere: int
    repeated: int
    cut: int
    own_columns: int
    first: str | None
    last: str | None
    rejected: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for a person."""
        n_other = self.clicks - self.clicked - self.elsewhere
        notes = [
            (self.outside, "lists are before or after the events table, so that nobody knows their clicks: left out"),
            (self.repeated, "rankings are left out, since a later one has the same impression_id"),
            (self.elsewhere, "clicks name an impression_id that is not in the log"),
            (n_other, "clicks belong to no logged list"),
            (self.cut, "lists were cut by top_k: columns within the list will differ from those that were served"),
            (self.own_columns, "lists came with a history or columns of items that the tables may not have"),
        ]
        return [
            f"{self.impressions:,} impressions with {self.rows:,} items and {self.clicked:,} clicks: {self.file}",
            *([f"lists from {self.first} to {self.last}"] if self.first else []),
            *(f"{count:,} {text}" for count, text in notes if count),
            *(f"rejected: {count:,} x {reason}" for reason, count in self.rejected.items()),
        ]


def write_logged_impressions(
    log: Path, events: Path, out: Path, options: ReadOptions | None = None
) -> LoggedImpressionsReport:
    """Write the rankings of a log as impressions.parquet into the new folder `out`, with the clicks of an events table.

    Raises InputError where log or events cannot be used, where no list is in the period of the events, or where `out`
    holds anything; then nothing is written.
    """
    options = options or ReadOptions()
    with atomic_folder(out) as target, Rejects(target / "rejects") as rejects:
        labelled = label_logged(log, events, options, rejects=rejects)
        with pq.ParquetWriter(target / "impressions.parquet", _SCHEMA, compression="zstd") as writer:
            for batch in _batches(labelled.lists.table):
                writer.write_table(batch)
        return _report(labelled, out, rejects)


def _batches(table: ImpressionTable) -> Iterator[pa.Table]:
    """The rows of the impressions, some lists at a time."""
    for start in range(0, len(table), _AT_ONCE):
        end = min(start + _AT_ONCE, len(table))
        rows = slice(table.offsets[start], table.offsets[end])
        owner = np.repeat(np.arange(start, end), np.diff(table.offsets[start : end + 1]))
        yield pa.table(
            [
                table.ids[owner].decoded(),
                table.user[owner].decoded(),
                table.time[owner],
                table.item[rows].decoded(),
                table.label[rows],
                table.position[rows],
                table.query[owner].decoded(),
            ],
            schema=_SCHEMA,
        )


def _report(labelled: LabelledLists, out: Path, rejects: Rejects) -> LoggedImpressionsReport:
    lists = labelled.lists
    table = lists.table
    return LoggedImpressionsReport(
        file=str(out / "impressions.parquet"),
        impressions=len(table),
        rows=len(table.label),
        clicked=labelled.matched,
        outside=labelled.outside,
        clicks=labelled.clicks,
        elsewhere=labelled.elsewhere,
        repeated=lists.repeated,
        cut=int(lists.cut.sum()),
        own_columns=int(lists.own_columns.sum()),
        first=format_time(int(table.time[0])),
        last=format_time(int(table.time[-1])),
        rejected=rejects.by_reason("events"),
    )
