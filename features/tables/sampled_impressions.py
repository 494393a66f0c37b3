"""`recsys data slates`: impressions sampled from events alone, one for each user's first click on an item.

A sampled impression is that item and negatives: items that the user has no event on. No feature may reveal the clicked
item:

- By a repeat. The user has no earlier event on any of the items. Where another event on the clicked item came just
  before the click (a view), the impression has the time of that event; where it came longer before, no impression is
  made, and the report counts it.
- By a count, above all by zero. Negatives are items of the clicks that follow the impression's time, since these have
  the same past as the clicked item. Half are drawn by how often they occur there, half evenly over the items there. In
  expectation and at each time, the share of items never clicked before is the same among negatives and clicked items.
  Items published later than the impression are never drawn.

The choice of an item depends on its future, so every row is marked `sampled`: no user saw these impressions.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.atomic_files import atomic_file
from features.errors import InputError
from features.log import Log
from features.tables.formats import find_table
from features.tables.load import ReadOptions, load_log
from features.tables.negative_sampling import FirstClicks, SampledImpressions, first_clicks, slates
from features.tables.schema import WRITTEN_IMPRESSIONS

logger = logging.getLogger(__name__)

DEFAULT_SIZE = 20
DEFAULT_WINDOW = 1_000
_TOGETHER = 20_000


@dataclass(frozen=True)
class SlateReport:
    """Figures of the written impressions. lists_shorter: impressions for which too few negatives were left.
    never_seen_*: share of the clicked and of the other candidates without an earlier click. skipped_*: first clicks
    that make no impression."""

    file: str
    impressions: int
    rows: int
    lists_shorter: int
    never_seen_clicked: float
    never_seen_unclicked: float
    skipped_touched_before: int
    skipped_unknown_user: int
    skipped_nothing_else: int

    def as_dict(self) -> dict[str, object]:
        """The figures by name, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures for a person, a line each."""
        return [
            f"made {self.impressions:,} lists with {self.rows:,} candidates: {self.file}",
            f"never clicked before: {self.never_seen_clicked:.1%} of the clicked, "
            f"{self.never_seen_unclicked:.1%} of the other candidates; {self.lists_shorter:,} lists are shorter",
            f"no list for {self.skipped_touched_before:,} clicks on items touched before, "
            f"{self.skipped_unknown_user:,} of unknown users, {self.skipped_nothing_else:,} with nothing else to show",
        ]


def write_slates(
    folder: Path,
    *,
    size: int = DEFAULT_SIZE,
    seed: int = 0,
    window: int = DEFAULT_WINDOW,
    options: ReadOptions | None = None,
) -> SlateReport:
    """Samples impressions from the events in `folder` and writes them there as impressions.parquet, in batches.

    Raises InputError where there is an impressions table already, and where no impression can be made.
    """
    existing = find_table(folder, "impressions")
    if existing is not None:
        raise InputError(
            f"{str(existing)!r}: expected no impressions table beside the events; move it away to make lists"
        )
    log, tables = load_log(folder, options)
    for warning in tables.warnings:
        logger.info("warning: %s", warning)
    firsts = first_clicks(log.events)
    out = folder / "impressions.parquet"
    written: Counter[str] = Counter()
    with atomic_file(out) as path:
        with pq.ParquetWriter(path, WRITTEN_IMPRESSIONS, compression="zstd") as writer:
            for batch in slates(log.events, log.catalog, firsts, size=size, seed=seed, window=window, block=_TOGETHER):
                writer.write_table(_table(batch, written["impressions"], log))
                written += _counts(batch)
        if not written["impressions"]:
            raise InputError(
                f"events of {str(folder)!r}: expected clicks of known users on two items or more, "
                "found none that makes a list"
            )
    return _report(out, written, firsts)


def _table(batch: SampledImpressions, first: int, log: Log) -> pa.Table:
    row, column = np.nonzero(batch.item >= 0)
    ids = pa.array([f"s{number:09d}" for number in range(first, first + len(batch.user))], pa.string())
    columns = [
        ids.take(pa.array(row)),
        pa.array(log.users[batch.user[row]], pa.string()),
        pa.array(batch.time[row], pa.timestamp("us", tz="UTC")),
        pa.array(log.catalog.ids[batch.item[row, column]], pa.string()),
        pa.array((column + 1).astype(np.int32)),
        pa.array((column == batch.clicked[row]).astype(np.int8)),
        pa.array(np.ones(len(row), bool)),
    ]
    return pa.table(columns, schema=WRITTEN_IMPRESSIONS)


def _counts(batch: SampledImpressions) -> Counter[str]:
    present = batch.item >= 0
    return Counter(
        impressions=len(batch.user),
        rows=int(present.sum()),
        shorter=int((~present.all(axis=1)).sum()),
        never_seen=int(batch.never_seen.sum()),
        never_seen_clicked=int(batch.never_seen[np.arange(len(batch.user)), batch.clicked].sum()),
    )


def _report(out: Path, written: Counter[str], firsts: FirstClicks) -> SlateReport:
    n, n_clicked = written["impressions"], written["never_seen_clicked"]
    return SlateReport(
        file=str(out),
        impressions=n,
        rows=written["rows"],
        lists_shorter=written["shorter"],
        never_seen_clicked=n_clicked / n,
        never_seen_unclicked=(written["never_seen"] - n_clicked) / (written["rows"] - n),
        skipped_touched_before=firsts.n_seen_before,
        skipped_unknown_user=firsts.unknown_user,
        skipped_nothing_else=len(firsts.user) - n,
    )
