"""A table's rows, checked: canonical Arrow batches of what can be used, and a count of what cannot.

`TableReader` makes one pass over a file or folder, batch by batch. A row is rejected when a cell that it needs is
missing or a cell cannot be read; the reason, the field and the value go to `Rejects`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrays import Bool, Int64
from features.errors import InputError
from features.tables.cells import ParsedCells, is_text, mask_of, occurring, parse_cells, read_text, uuids_as_text
from features.tables.encodings import FileOptions, reason_for
from features.tables.formats import columns_of, files_of, raw_batches
from features.tables.null_words import NullWords, has_words, without_null_words
from features.tables.observed import Observed, clock
from features.tables.raw_batch import RawBatch
from features.tables.rejects import Reject, Rejects
from features.tables.schema import CANONICAL, ColumnSpec, Kind, Schema
from features.tables.sources import Source
from features.tables.time_units import TimeUnits
from features.tables.timestamps import EXPECTED, check_zone, read_times

DEFAULT_FILES = FileOptions()
_WITHOUT_TIMES = (
    "only what came before a list may be known when it is ranked, so every row needs its time; if the rows stand in "
    "the order in which they happened, number them and give the numbers as epoch seconds: 1700000001, 1700000002, …; "
    "hours, weekdays and ages then mean nothing"
)
_LIST = r"^\s*\[.*\]\s*$"


@dataclass(frozen=True)
class CheckedBatch:
    """Good rows of one file. data: canonical columns in the order of the schema; a column that the file does not have
    is null. rows: (n,) int64, each row's number in `file`, from 1."""

    file: Path
    rows: Int64
    data: pa.RecordBatch


class TableReader:
    """One pass over a table. Iterate it once; the counts are complete at the end of the pass.

    n_rows, n_kept: rows seen and handed on. naive: columns with times without a zone. columns: names and types of the
    columns of each file. rejects: receives the rows that cannot be used. words: counts of null words in the text
    columns. escaped: cells of each file with quotes escaped by backslashes. bracketed: cells of each category that
    are lists written as text. observed: implausible values in the usable rows. now: microseconds, by which a time
    is in the future; None is the clock's. sources: the files to read, None for all of the path's.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        timezone: str,
        rejects: Rejects,
        files: FileOptions = DEFAULT_FILES,
        now: int | None = None,
        sources: Sequence[Source] | None = None,
    ) -> None:
        self.path = path
        self.schema = schema
        self.n_rows = 0
        self.n_kept = 0
        self.naive: set[str] = set()
        self.words = NullWords()
        self.escaped: Counter[Path] = Counter()
        self.bracketed: Counter[str] = Counter()
        self._timezone = check_zone(timezone)
        self.rejects = rejects
        self._options = files
        self.observed = Observed(schema, clock() if now is None else now)
        self._units = TimeUnits()
        self._lengths: dict[str, int] = {}
        self._pending: list[Reject] = []
        self._files = files_of(path, files.encoding) if sources is None else list(sources)
        self.columns = [columns_of(file) for file in self._files]
        for file, file_columns in zip(self._files, self.columns, strict=True):
            self._check_columns(file.path, list(file_columns))

    @property
    def units(self) -> dict[str, str]:
        """The unit or format of the times, by column."""
        return self._units.descriptions()

    def __iter__(self) -> Iterator[CheckedBatch]:
        """The good rows, batch by batch. Raises InputError at once where no row has a time that all should have, and at
        the end where there was no good row, or more bad ones than the options allow."""
        for column in self.schema.columns:
            if column.kind == "time" and column.non_null:
                self._require_times(column)
        for file, file_columns in zip(self._files, self.columns, strict=True):
            kinds_by_column: dict[str, set[Kind]] = {}
            for column in self.schema.columns:
                kinds_by_column.setdefault(column.field, set()).add(column.kind)
            if self.schema.allow_extra_columns:
                kinds_by_column |= {name: {"any"} for name in file_columns if name not in kinds_by_column}
            for raw in raw_batches(file, kinds_by_column):
                checked = self._checked(raw)
                self.n_kept += len(checked.rows)
                if len(checked.rows):
                    yield checked
        self.check_rejects()

    def check_rejects(self) -> None:
        """Raises InputError where more rows are rejected, or have been since, than the options allow."""
        none_kept = self.n_kept == 0 and (self.n_rows > 0 or not self.schema.may_be_empty)
        self.rejects.check_share(self.schema.table, self.path, self.n_rows, self._options, none_kept=none_kept)

    def _check_columns(self, file: Path, column_names: list[str]) -> None:
        for column in self.schema.columns:
            if column.required and column.field not in column_names:
                why = f" (named in {column.requested_by})" if column.requested_by else ""
                advice = f"; {_WITHOUT_TIMES}" if column.kind == "time" else _other_delimiter(column_names)
                raise InputError(
                    f"file {str(file)!r}: expected a column {column.field!r} in {self.schema.table}{why}, "
                    f"found {sorted(column_names)}{advice}"
                )

    def _require_times(self, column: ColumnSpec) -> None:
        n_rows = 0
        for raw in (raw for file in self._files for raw in raw_batches(file, {column.field: {column.kind}})):
            if has_words(raw.data.column(column.field)):
                return
            n_rows += len(raw.rows)
        if n_rows:
            raise InputError(
                f"{self.schema.table} table {str(self.path)!r}: expected times in column {column.field!r}, found none "
                f"in any of its {n_rows:,} rows; {_WITHOUT_TIMES}"
            )

    def _checked(self, raw: RawBatch) -> CheckedBatch:
        self.n_rows += len(raw.rows) + len(raw.rejects)
        self._pending = list(raw.rejects)
        self.escaped[raw.file] += raw.escaped
        usable = np.ones(len(raw.rows), np.bool_)
        arrays = [self._column(raw, column, usable) for column in self.schema.columns]
        names = list(self.schema.names)
        if self.schema.allow_extra_columns:
            further = [name for name in raw.data.schema.names if name not in {c.field for c in self.schema.columns}]
            arrays += [read_text(raw.data.column(name)).values for name in further]
            names += further
        for reject in sorted(self._pending, key=lambda reject: reject.row):
            self.rejects.add(self.schema.table, reject)
        data = pa.RecordBatch.from_arrays(arrays, names)
        rows = raw.rows
        if not usable.all():
            rows, data = rows[usable], data.filter(pa.array(usable))
        self.observed.add(data, self._units.numeric(raw.file))
        return CheckedBatch(raw.file, rows, data)

    def _column(self, raw: RawBatch, column: ColumnSpec, usable: Bool) -> pa.Array:
        """The canonical column. Rows that it makes unusable are cleared from `usable` and rejected, once each."""
        if column.field in raw.data.schema.names:
            cells = self._distinct(raw, raw.data.column(column.field), column)
        else:
            cells = ParsedCells(pa.nulls(len(raw.rows), CANONICAL.get(column.kind, pa.null())))
        if column.optional_date:
            self._empty(raw, column, cells, usable)
            return cells.values
        for bad, reason in cells.problems:
            self._reject(raw, column, bad, reason, usable)
        if column.kind == "category":
            self.bracketed[column.field] += int(mask_of(pc.match_substring_regex(cells.values, _LIST)).sum())
        if column.non_null and cells.values.null_count:
            self._reject(raw, column, mask_of(cells.values.is_null()), "missing_value", usable)
        return cells.values

    def _distinct(self, raw: RawBatch, array: pa.Array, column: ColumnSpec) -> ParsedCells:
        """The cells of a column; of text, whose parsing is slow, each distinct cell is read once."""
        if not pa.types.is_dictionary(array.type):
            if column.kind in ("text", "any") or not is_text(array.type):
                cells, words = self._cells(raw, array, column)
                self.words.add(column, words)
                return cells
            array = array.dictionary_encode()
        cells, words = self._cells(raw, array.dictionary, column)
        self.words.add(column, None if words is None else words.take(array.indices))
        rows = array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False)
        problems = tuple((np.append(bad, False)[rows], reason) for bad, reason in cells.problems)
        return ParsedCells(cells.values.take(array.indices), problems)

    def _cells(self, raw: RawBatch, array: pa.Array, column: ColumnSpec) -> tuple[ParsedCells, pa.Array | None]:
        """The canonical cells, and their null words, null elsewhere; None where no cell has one."""
        text = read_text(uuids_as_text(array) if column.kind == "id" else array)
        values, words = without_null_words(text.values, column)
        try:
            if column.kind == "time":
                cells = self._times(raw.file, values, column)
            else:
                cells = parse_cells(values, column, textual=raw.is_text_format)
        except (InputError, pa.ArrowException) as error:
            raise InputError(f"file {str(raw.file)!r}, {self.schema.table}: {' '.join(str(error).split())}") from error
        problems = [(bad, reason_for(raw.source.encoding) if raw.is_text_format else why) for bad, why in text.problems]
        problems += cells.problems
        if column.kind == "vector":
            problems += occurring((self._wrong_length(cells.values, column), "vector_length"))
        return ParsedCells(cells.values, tuple(problems)), words

    def _times(self, file: Path, array: pa.Array, column: ColumnSpec) -> ParsedCells:
        unit = self._units.of(file, column.name)
        times = read_times(array, timezone=self._timezone, unit=unit, is_event_time=column.is_event_time)
        if times is None:
            raise InputError(f"column {column.field!r}: expected times as timestamps, {EXPECTED}, got {array.type}")
        self._units.add(file, column.name, times, text=pa.types.is_large_string(array.type))
        if times.naive:
            self.naive.add(column.name)
        return times

    def _wrong_length(self, values: pa.Array, column: ColumnSpec) -> Bool:
        lengths = pc.list_value_length(values)
        present = lengths.drop_null()
        if column.name not in self._lengths and len(present):
            self._lengths[column.name] = present[0].as_py()
        return mask_of(pc.not_equal(lengths, self._lengths.get(column.name, 0)))

    def _empty(self, raw: RawBatch, column: ColumnSpec, cells: ParsedCells, usable: Bool) -> None:
        """Count the cells of an optional date that cannot be read; they are null already, their rows stay usable."""
        rows = np.flatnonzero(
            np.logical_or.reduce([np.zeros_like(usable), *(bad for bad, _ in cells.problems)]) & usable
        )
        if len(rows):
            where = f"row {raw.rows[rows[0]]} of {raw.file.name}"
            self.observed.empty(column, len(rows), where, raw.value(int(rows[0]), column.field))

    def _reject(self, raw: RawBatch, column: ColumnSpec, bad: Bool, reason: str, usable: Bool) -> None:
        self._pending += raw.rejected(bad & usable, reason, column.field)
        usable &= ~bad


def _other_delimiter(column_names: list[str]) -> str:
    """Advice for an error about a file whose single column seems to hold several."""
    delimiters = [delimiter for delimiter in (";", "\t", "|", ",") if delimiter in column_names[0]]
    if len(column_names) > 1 or not delimiters:
        return ""
    return f"; its columns seem to be separated by {delimiters[0]!r}, expected ',' in .csv, tabs in .tsv"
