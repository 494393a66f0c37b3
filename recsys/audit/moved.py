"""Columns that moved between two computations of the same rows, each with the row that moved most plainly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from features.log import Float32, Impressions
from recsys.audit.context import AuditContext
from recsys.audit.finding import Finding


def moved(
    context: AuditContext, lists: Impressions, before: Float32, after: Float32, *, rule: str, by: str, advice: str
) -> Iterator[Finding]:
    """A finding for every feature of which any column differs in a bit; NaN equals NaN.

    before, after: (n_rows, n_columns) of the same lists. by: what was done in between, as "when …".
    """
    differs = (before != after) & ~(np.isnan(before) & np.isnan(after))
    told: dict[str, list[int]] = {}
    for column in np.flatnonzero(differs.any(axis=0)).tolist():
        told.setdefault(context.feature_of(context.names[column]), []).append(column)
    for feature, columns in told.items():
        if feature in context.allowed:
            continue
        column = columns[0]
        rows = np.flatnonzero(differs[:, column])
        example = int(rows[0])
        named = "" if context.names[column] == feature else f" in {context.names[column]}"
        values = (float(before[example, column]), float(after[example, column]))
        yield Finding(
            rule,
            feature,
            f"{len(rows)} of {len(before)} values{named} moved {by}",
            advice,
            context.row(lists, example, before=values[0], after=values[1]),
        )
