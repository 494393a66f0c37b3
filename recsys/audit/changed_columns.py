"""Columns that differ between two computations of the same rows, each with the row that differs most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32
from features.log import Impressions
from recsys.audit.context import AuditContext
from recsys.audit.finding import Finding

ROUNDING = 1e-5
"""Relative difference up to which two float32 values differ as rounding makes them differ."""
LIKE_ROUNDING = (
    "as small as rounding: arithmetic that changes with the CPU or the batch is a likelier cause than a leak"
)


@dataclass(frozen=True)
class ColumnChange:
    """A column of which some bit differs; NaN equals NaN.

    column: its position. rows: how many differ. row: the one that differs most, and before, after: its values.
    largest: their difference, infinite where one of them is NaN. like_rounding: no row differs by more than `ROUNDING`
    of its value.
    """

    column: int
    rows: int
    row: int
    before: float
    after: float
    largest: float
    like_rounding: bool


def changes(before: Float32, after: Float32) -> list[ColumnChange]:
    """Every column in which two matrices of the same rows, (n_rows, n_columns), differ."""
    differs = (before != after) & ~(np.isnan(before) & np.isnan(after))
    found = []
    for column in np.flatnonzero(differs.any(axis=0)).tolist():
        rows = np.flatnonzero(differs[:, column])
        one, other = (matrix[rows, column].astype(np.float64) for matrix in (before, after))
        distance = np.nan_to_num(np.abs(one - other), nan=np.inf)
        most = int(distance.argmax())
        small = distance <= ROUNDING * np.maximum(np.abs(one), np.abs(other))
        found.append(
            ColumnChange(
                column=column,
                rows=len(rows),
                row=int(rows[most]),
                before=float(one[most]),
                after=float(other[most]),
                largest=float(distance[most]),
                like_rounding=bool(small.all()),
            )
        )
    return found


def moved(
    context: AuditContext, lists: Impressions, before: Float32, after: Float32, *, rule: str, by: str, advice: str
) -> Iterator[Finding]:
    """A finding for every feature of which any column differs in a bit.

    before, after: (n_rows, n_columns) of the same lists. by: what was done in between, as "after …".
    """
    reported: set[str] = set()
    for change in changes(before, after):
        name = context.names[change.column]
        feature = context.feature_of(name)
        if feature in context.allowed or feature in reported:
            continue
        reported.add(feature)
        of = "" if name == feature else f" of {name}"
        small = f", {LIKE_ROUNDING}" if change.like_rounding else ""
        yield Finding(
            rule,
            feature,
            f"{change.rows:,} of {len(before):,} values{of} changed {by}; largest difference: {change.largest:.3g}"
            f"{small}",
            advice,
            context.row(lists, change.row, before=change.before, after=change.after),
        )
