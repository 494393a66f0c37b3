"""Columns that differ between two computations of the same candidates, over many lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from features.arrays import Float32
from recsys.audit.changed_columns import LIKE_ROUNDING, changes
from recsys.audit.finding import Row
from recsys.metrics.jsonable import jsonable


@dataclass(frozen=True)
class Difference:
    """A column that differs. rows: in how many. largest: largest difference of two numbers, infinite where one of them
    is missing. row: the one that differs most, offline value before, online value after. like_rounding: no row differs
    by more than rounding would make it."""

    column: str
    rows: int
    largest: float
    row: Row
    like_rounding: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON: a difference between a number and a missing value is None."""
        figures = {"column": self.column, "rows": self.rows, "largest": jsonable(self.largest)}
        return {**figures, "row": self.row.as_dict()}


class _RowNamer(Protocol):
    """Names a row of two matrices, with the value of each."""

    def __call__(self, row: int, *, before: float, after: float) -> Row: ...


@dataclass
class DifferenceTally:
    """Differences so far, by column."""

    _columns: dict[str, Difference | None] = field(default_factory=dict)

    def add(self, names: Sequence[str], offline: Float32, online: Float32, row_of: _RowNamer) -> None:
        """Add two matrices of the same candidates, (n_rows, n_columns). names: of the columns."""
        self._columns = dict.fromkeys(names) | self._columns
        for change in changes(offline, online):
            row = row_of(change.row, before=change.before, after=change.after)
            name = names[change.column]
            new = Difference(name, change.rows, change.largest, row, change.like_rounding)
            earlier = self._columns[name]
            if earlier is None:
                self._columns[name] = new
                continue
            largest = max(earlier, new, key=lambda difference: difference.largest)
            like_rounding = earlier.like_rounding and new.like_rounding
            self._columns[name] = replace(largest, rows=earlier.rows + new.rows, like_rounding=like_rounding)

    def differences(self) -> tuple[Difference, ...]:
        """One for every column that differs, in the order of the columns."""
        return tuple(difference for difference in self._columns.values() if difference is not None)


def difference_lines(differences: Iterable[Difference], n_values: int, of_what: str) -> list[str]:
    """Differences for a person; the last line is the figure. of_what: describes the values."""
    lines, n = [], 0
    for difference in differences:
        small = f", {LIKE_ROUNDING}" if difference.like_rounding else ""
        lines.append(
            f"{difference.column}: {difference.rows:,} rows differ, by {difference.largest:.6g} at most{small}"
        )
        lines.append(f"    row: {difference.row}")
        n += difference.rows
    return [*lines, f"{n:,} differences in {n_values:,} values: {of_what}"]
