"""The load of a table into the online store and its report; shared by the `recsys load-…` commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python
from tqdm import tqdm

from features.errors import InputError
from features.online.events import Impression, RejectedEvent
from features.tables.load import ReadOptions, read_table_rows
from features.tables.reading_warnings import reading_warnings
from features.tables.rejects import FORGOTTEN_USER, Reject, Rejects
from features.tables.table_reader import CheckedBatch, TableReader

AT_ONCE, EVENTS_AT_ONCE = 5_000, 20_000
"""Rows, or lists, and events that go into the store together: each record that they touch is written once."""


@dataclass
class LoadReport:
    """What a load did. table: items, events, impressions or users. rows: of the file. accepted: rows taken, repeats of
    known ones included. changed: items that are new or differ from before. rejected: reason to number of rows (of
    lists, for impressions that the store refused). encoded: texts that had no stored vector. repeats: rows of an item
    or user whose id came before in the same load; the last row counts. warnings: plain sentences.
    """

    table: str
    rows: int = 0
    accepted: int = 0
    changed: int = 0
    encoded: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    repeats: int = 0
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The report of `--json`."""
        return {**to_jsonable_python(self), "seconds": round(self.seconds, 3)}

    def lines(self) -> list[str]:
        """The report for a person."""
        rate = self.rows / max(self.seconds, 1e-9)
        lines = [f"{self.table}: {self.accepted:,} of {self.rows:,} rows in {self.seconds:.1f} s ({rate:,.0f} rows/s)"]
        if self.table == "items":
            lines.append(f"{self.changed:,} items are new or changed, {self.encoded:,} texts were encoded")
        if self.repeats:
            lines.append(f"{self.repeats:,} rows repeat an id; the last row of each counts")
        lines += [f"rejected: {count:,} x {reason}" for reason, count in self.rejected.items()]
        return lines + [f"warning: {warning}" for warning in self.warnings]

    def require_any(self, path: Path) -> None:
        """Raise InputError where no row of the table at `path` was taken, but where all are of forgotten users."""
        if not self.accepted and set(self.rejected) != {FORGOTTEN_USER}:
            reasons = ", ".join(f"{count:,} x {reason}" for reason, count in self.rejected.items())
            raise InputError(f"{self.table} table {str(path)!r}: none of its {self.rows:,} rows was taken: {reasons}")


class Load:
    """A running load: its rejects, progress and duration."""

    def __init__(self, table: str, path: Path, options: ReadOptions, folder: Path | None) -> None:
        """folder: for the rows left out."""
        self.report = LoadReport(table)
        self.rejects = Rejects(folder)
        self._folder = folder
        self._options = options
        self._refused = 0
        self._path = path
        self._started = time.perf_counter()
        self._bar = tqdm(desc=f"load {table}", unit=" rows", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> Load:
        self.rejects.__enter__()
        self.rejects.clear((self.report.table,))
        return self

    def __exit__(self, *error: Any) -> None:
        self.rejects.__exit__(*error)
        self._bar.close()
        self.report.rejected = self.rejects.by_reason(self.report.table)
        self.report.seconds = time.perf_counter() - self._started

    def reader(self, rejects: Rejects) -> TableReader:
        """A reader of the table."""
        return read_table_rows(self._path, self.report.table, self._options, rejects=rejects)

    def batches(self, at_once: int = AT_ONCE) -> Iterator[CheckedBatch]:
        """The batches of the table, cut to a size that a transaction takes well.

        The table is read through once before the first batch: an unusable table leaves the store unchanged.
        """
        with Rejects(self._folder) as first_pass:
            for _ in self.reader(first_pass):
                pass
        reader = self.reader(self.rejects)
        for checked in reader:
            for start in range(0, len(checked.rows), at_once):
                rows = slice(start, start + at_once)
                yield CheckedBatch(checked.file, checked.rows[rows], checked.data.slice(start, at_once))
        self.check(reader)

    def check(self, reader: TableReader) -> None:
        """Fill the report at the end of a table. Raises InputError where more rows are rejected, by the store too, than
        is allowed."""
        report = self.report
        report.rows = reader.n_rows
        report.warnings = tuple(reading_warnings({report.table: reader}))
        self.rejects.check_share(report.table, self._path, report.rows, self._options.files, more=self._refused)

    def done(self, rows: int, accepted: int) -> None:
        """Count rows that have been dealt with."""
        self.report.accepted += accepted
        self._bar.update(rows or accepted)

    def reject(self, checked: CheckedBatch, position: int, reason: str, name: str, value: str) -> None:
        """Count and write down a row of a batch."""
        row = int(checked.rows[position])
        self.rejects.add(self.report.table, Reject(str(checked.file), row, reason, name, value))

    def reject_list(self, impression: Impression, rejection: RejectedEvent) -> None:
        """Count and write down a list; its rows are found by its id."""
        if rejection.code != FORGOTTEN_USER:
            self._refused += len(impression.items) - 1
        reject = Reject(
            str(self._path), 0, rejection.code, "impression_id", f"{impression.impression_id}: {rejection.message}"
        )
        self.rejects.add(self.report.table, reject)
