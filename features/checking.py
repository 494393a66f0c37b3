"""A table's rows, checked: canonical Arrow batches of what can be used, and a count of what cannot.

`TableReader` makes one pass over a file or folder, batch by batch. A row is rejected when a cell that it needs is
missing or a cell cannot be read; the reason, the field and the value go to `Rejects`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.cells import is_text, mask_of, read_cells, read_text
from features.errors import InputError
from features.log import Bool, Int64
from features.observed import Observed, clock
from features.raw import RawBatch
from features.reading import columns_of, files_of, raw_batches
from features.rejects import Reject, Rejects
from features.schema import CANONICAL, Column, Schema
from features.time_units import TimeUnits
from features.times import EXPECTED, check_zone, read_times

_Read = tuple[pa.Array, tuple[tuple[Bool, str], ...]]
"""Canonical values, and masks of the rows that cannot be read, each with its reason."""


@dataclass(frozen=True)
class Checked:
    """Good rows of one file. data: canonical columns in the order of the schema; a column that the file does not have
    is null. rows: (n,) int64, each row's number in `file`, from 1."""

    file: Path
    rows: Int64
    data: pa.RecordBatch


class TableReader:
    """One pass over a table. Iterate it once; the counts stand when it is through.

    n_rows, n_kept: rows seen and handed on. naive: columns with times without a zone. columns: the columns of each
    file. observed: what stands out in the rows that are kept. now: microseconds, by which a time is in the future; None
    is the clock's.
    """

    def __init__(self, path: Path, schema: Schema, *, timezone: str, rejects: Rejects, now: int | None = None) -> None:
        self.path = path
        self.schema = schema
        self.n_rows = 0
        self.n_kept = 0
        self.naive: set[str] = set()
        self.observed = Observed(schema, clock() if now is None else now)
        self._timezone = check_zone(timezone)
        self._rejects = rejects
        self._units = TimeUnits()
        self._lengths: dict[str, int] = {}
        self._pending: list[Reject] = []
        self._files = files_of(path)
        self.columns = [columns_of(file) for file in self._files]
        for file, found in zip(self._files, self.columns, strict=True):
            self._check_columns(file, list(found))

    @property
    def units(self) -> dict[str, str]:
        """How the times of each column are written."""
        return self._units.said()

    def __iter__(self) -> Iterator[Checked]:
        """The good rows, batch by batch. Raises InputError at the end where there was not one."""
        ids = frozenset(column.field for column in self.schema.columns if column.kind == "id")
        for file, found in zip(self._files, self.columns, strict=True):
            names = list(dict.fromkeys(column.field for column in self.schema.columns))
            if self.schema.extras:
                names += [name for name in found if name not in names]
            for raw in raw_batches(file, names, ids):
                checked = self._checked(raw)
                self.n_kept += len(checked.rows)
                if len(checked.rows):
                    yield checked
        if self.n_kept == 0:
            self._fail_without_rows()

    def _check_columns(self, file: Path, found: list[str]) -> None:
        for column in self.schema.columns:
            if column.required and column.field not in found:
                why = f" (named in {column.wanted_by})" if column.wanted_by else ""
                raise InputError(
                    f"file {str(file)!r}: expected a column {column.field!r} in {self.schema.table}{why}, "
                    f"found {sorted(found)}"
                )

    def _fail_without_rows(self) -> None:
        name = f"{self.schema.table} table {str(self.path)!r}"
        first = self._rejects.first(self.schema.table)
        if self.n_rows == 0 or first is None:
            raise InputError(f"{name}: expected at least one row, found none")
        raise InputError(
            f"{name}: none of its {self.n_rows} rows can be used; the first: row {first.row}, {first.reason}, "
            f"field {first.field!r}, value {first.value!r}"
        )

    def _checked(self, raw: RawBatch) -> Checked:
        self.n_rows += len(raw.rows) + len(raw.rejects)
        self._pending = list(raw.rejects)
        kept = np.ones(len(raw.rows), np.bool_)
        arrays = [self._column(raw, column, kept) for column in self.schema.columns]
        names = list(self.schema.names)
        if self.schema.extras:
            further = [name for name in raw.data.schema.names if name not in {c.field for c in self.schema.columns}]
            arrays += [read_text(raw.data.column(name)).values for name in further]
            names += further
        for reject in sorted(self._pending, key=lambda one: one.row):
            self._rejects.add(self.schema.table, reject)
        data = pa.RecordBatch.from_arrays(arrays, names)
        rows = raw.rows
        if not kept.all():
            rows, data = rows[kept], data.filter(pa.array(kept))
        self.observed.add(data, self._units.numeric(raw.file))
        return Checked(raw.file, rows, data)

    def _column(self, raw: RawBatch, column: Column, kept: Bool) -> pa.Array:
        """The canonical column; rows that it spoils are cleared from `kept`, once each, and reported."""
        if column.field not in raw.data.schema.names:
            values = pa.nulls(len(raw.rows), CANONICAL.get(column.kind, pa.null()))
            if column.filled:
                self._reject(raw, column, np.ones(len(raw.rows), np.bool_), "missing_value", kept)
            return values
        values, problems = self._distinct(raw.file, raw.data.column(column.field), column, textual=raw.textual)
        if column.optional_date:
            self._empty(raw, column, problems, kept)
            return values
        for bad, reason in problems:
            self._reject(raw, column, bad, reason, kept)
        if column.filled and values.null_count:
            self._reject(raw, column, mask_of(values.is_null()), "missing_value", kept)
        return values

    def _distinct(self, file: Path, array: pa.Array, column: Column, *, textual: bool) -> _Read:
        """The values of a column; of text, whose parsing is slow, each distinct cell is read once."""
        if not pa.types.is_dictionary(array.type):
            if column.kind in ("text", "any") or not is_text(array.type):
                return self._values(file, array, column, textual=textual)
            array = array.dictionary_encode()
        values, problems = self._values(file, array.dictionary, column, textual=textual)
        rows = array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False)
        spread = tuple((np.append(bad, False)[rows], reason) for bad, reason in problems if bad.any())
        return values.take(array.indices), spread

    def _values(self, file: Path, array: pa.Array, column: Column, *, textual: bool) -> _Read:
        text = read_text(array)
        values, problems = self._read(file, text.values, column, textual=textual)
        return values, (*text.problems, *problems)

    def _read(self, file: Path, array: pa.Array, column: Column, *, textual: bool) -> _Read:
        try:
            if column.kind == "time":
                return self._times(file, array, column)
            cells = read_cells(array, column, textual=textual)
        except (InputError, pa.ArrowException) as error:
            raise InputError(f"file {str(file)!r}, {self.schema.table}: {' '.join(str(error).split())}") from error
        if column.kind == "vector":
            wrong = self._wrong_length(cells.values, column)
            return cells.values, (*cells.problems, (wrong, "vector_length"))
        return cells.values, cells.problems

    def _times(self, file: Path, array: pa.Array, column: Column) -> _Read:
        unit = self._units.of(file, column.name)
        times = read_times(array, timezone=self._timezone, unit=unit, moment=column.moment)
        if times is None:
            raise InputError(f"column {column.field!r}: expected times as timestamps, {EXPECTED}, got {array.type}")
        self._units.add(file, column.name, times, text=pa.types.is_large_string(array.type))
        if times.naive:
            self.naive.add(column.name)
        return times.values, ((times.mixed, "time_unit_mixed"), (times.unreadable, "unreadable_time"))

    def _wrong_length(self, values: pa.Array, column: Column) -> Bool:
        lengths = pc.list_value_length(values)
        present = lengths.drop_null()
        if column.name not in self._lengths and len(present):
            self._lengths[column.name] = present[0].as_py()
        return mask_of(pc.not_equal(lengths, self._lengths.get(column.name, 0)))

    def _empty(self, raw: RawBatch, column: Column, problems: tuple[tuple[Bool, str], ...], kept: Bool) -> None:
        """Count the cells of an optional date that are none, which are null already; their rows are kept."""
        rows = np.flatnonzero(np.logical_or.reduce([np.zeros_like(kept), *(mask for mask, _ in problems)]) & kept)
        if len(rows):
            value = _shown(raw.data.column(column.field)[int(rows[0])].as_py())
            self.observed.empty(column, len(rows), f"row {raw.rows[rows[0]]} of {raw.file.name}", value)

    def _reject(self, raw: RawBatch, column: Column, bad: Bool, reason: str, kept: Bool) -> None:
        given = raw.data.column(column.field) if column.field in raw.data.schema.names else None
        for index in np.flatnonzero(bad & kept):
            value = None if given is None else _shown(given[int(index)].as_py())
            self._pending.append(Reject(str(raw.file), int(raw.rows[index]), reason, column.field, value))
        kept &= ~bad


def _shown(value: object) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
