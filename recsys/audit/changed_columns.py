"""Columns that differ between two computations of the same rows, each with the row that differs most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32
from features.log import Impressions, Log
from features.offline.reader import LogIndex
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
    changed = []
    for column in np.flatnonzero(differs.any(axis=0)).tolist():
        rows = np.flatnonzero(differs[:, column])
        old, new = (matrix[rows, column].astype(np.float64) for matrix in (before, after))
        distance = np.nan_to_num(np.abs(old - new), nan=np.inf)
        most = int(distance.argmax())
        small = distance <= ROUNDING * np.maximum(np.abs(old), np.abs(new))
        changed.append(
            ColumnChange(
                column=column,
                rows=len(rows),
                row=int(rows[most]),
                before=float(old[most]),
                after=float(new[most]),
                largest=float(distance[most]),
                like_rounding=bool(small.all()),
            )
        )
    return changed


def changed_features(
    context: AuditContext, modify: Callable[[Impressions], Log], *, rule: str, cause: str, advice: str
) -> tuple[Finding, ...]:
    """A finding for every feature that may not change and of which any bit differs over a modified log, for the first
    of the context's requests at fixed times that shows it.

    modify: makes the log for impressions that are all requested at one time. cause: what it does, as "after …".
    """
    findings: dict[str, Finding] = {}
    index = context.training.index
    for rows in context.requests_at_fixed_times:
        impressions = rows.impressions
        log = modify(impressions)
        if log is not index.log:
            index = LogIndex(log, index.settings)
        again = context.columns(impressions.requests, index)
        for change in changes(rows.matrix, again):
            name = context.names[change.column]
            feature = context.feature_of(name)
            if feature in context.allowed or feature in findings:
                continue
            row = context.row(impressions, change.row, before=change.before, after=change.after)
            evidence = _evidence(change, "" if name == feature else f" of {name}", len(again), cause)
            findings[feature] = Finding(rule, feature, evidence, advice, row)
    return tuple(findings.values())


def _evidence(change: ColumnChange, column: str, n_rows: int, cause: str) -> str:
    rounding = f", {LIKE_ROUNDING}" if change.like_rounding else ""
    changed = f"{change.rows:,} of {n_rows:,} values{column} changed {cause}"
    return f"{changed}; largest difference: {change.largest:.3g}{rounding}"
