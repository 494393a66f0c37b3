"""Rule `columns`: an undeclared numeric column of items or users must not predict their later events.

For the first time of each later slice: of the items with an event before it, the partial rank correlation of the
column with the number of events after it, given the number before it (Spearman's, of residuals of ranks). A column
known beforehand may correlate with popularity, which the earlier count already contains; a total taken at the end of
the log correlates with later events. Its 95% interval (Fisher's z) must not lie beyond `audit.column_correlation`.

A column that exceeds the bound without a leak, such as a release year on a site whose users prefer new items, is
declared in `features.known_at`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from features.arrays import Float64, Int32, Int64
from features.log import Log
from recsys.audit.context import SLICES, AuditContext, column_of
from recsys.audit.finding import Finding, Row, RuleResult

RULE = "columns"
FEWEST = 30
"""With fewer items or users that have a value and an event, a column is not tested."""


@dataclass(frozen=True)
class StaticColumn:
    """A numeric column: of items or of users. values: (n,) by code, NaN where missing. owner: (n_events,) whose click
    each is, -1 for an unknown user's."""

    feature: str
    column: str
    values: Float64
    owner: Int32


def static_columns(context: AuditContext) -> RuleResult:
    """The rule; see the module."""
    subjects = undeclared_columns(context)
    findings = [finding for subject in subjects if (finding := _finding(context, subject)) is not None]
    declared = len(context.training.config.features.known_at)
    examined = f"{len(subjects)} undeclared numeric columns of items and users, {declared} declared"
    return RuleResult(RULE, examined, tuple(findings))


def undeclared_columns(context: AuditContext) -> list[StaticColumn]:
    """The numeric columns that features read and that are neither in `features.known_at` nor allowed."""
    log, known_at = context.log, context.training.config.features.known_at
    subjects = []
    for feature in context.features:
        column = column_of(feature)
        if column is None or column in known_at or feature.name in context.allowed:
            continue
        if column in log.catalog.numbers:
            subjects.append(StaticColumn(feature.name, column, log.catalog.numbers[column][:-1], log.events.item))
        elif (values := user_numbers(log, column)) is not None:
            subjects.append(StaticColumn(feature.name, column, values, log.events.user))
    return subjects


def user_numbers(log: Log, column: str) -> Float64 | None:
    """A numeric column of the users table by user code, None where there is none of that name."""
    if log.attributes is None or column not in log.attributes:
        return None
    values = log.attributes[column]
    if values.dtype.kind not in "iufb":
        return None
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _finding(context: AuditContext, subject: StaticColumn) -> Finding | None:
    log, sliced = context.log, context.training.sliced
    most = context.training.config.audit.column_correlation
    for name in SLICES:
        timestamp = int(log.impressions.requests.time[getattr(sliced, name)[0]])
        earlier, later = counts_around(log, subject, timestamp)
        measured = (earlier > 0) & ~np.isnan(subject.values)
        rho, margin = partial_rank_correlation(subject.values[measured], later[measured], earlier[measured])
        least = abs(rho) - margin
        if least <= most:
            continue
        code = int(np.flatnonzero(measured)[np.argmax(later[measured])])
        evidence = (
            f"column {subject.column!r} ranks the events after the first list of {name} with a correlation of "
            f"{rho:+.2f} (at least {least:.2f}, expected at most {most}) beyond those before it, over "
            f"{int(measured.sum()):,} with an event; the row has {earlier[code]} events before and {later[code]} after"
        )
        advice = (
            f"if it is known beforehand say so, features.known_at={{{subject.column}: publication}}; "
            "else drop it, or name it in features.allow_known_after"
        )
        row = Row(_id(log, subject, code), timestamp, after=float(subject.values[code]))
        return Finding(RULE, subject.feature, evidence, advice, row)
    return None


def counts_around(log: Log, subject: StaticColumn, timestamp: int) -> tuple[Int64, Int64]:
    """Clicks of each item or user before a timestamp and from then on, (n,) each."""
    counted = log.events.positive & (subject.owner >= 0)
    n, late = len(subject.values), log.events.time >= timestamp
    earlier, later = (np.bincount(subject.owner[counted & selected], minlength=n)[:n] for selected in (~late, late))
    return earlier, later


def partial_rank_correlation(values: Float64, later: Int64, earlier: Int64) -> tuple[float, float]:
    """Spearman's correlation of values and later counts given earlier ones, and half its 95% interval (Fisher's z).

    0 and 1 where fewer than `FEWEST` are given, or one of the three is constant.
    """
    n = len(values)
    if n < FEWEST:
        return 0.0, 1.0
    *ranks, control = (rankdata(counts) for counts in (values, later, earlier))
    design = np.column_stack([np.ones(n), control])
    residuals = [rank - design @ np.linalg.lstsq(design, rank, rcond=None)[0] for rank in ranks]
    deviations = [float(residual.std()) for residual in residuals]
    if min(deviations) < 1e-9 * n:
        return 0.0, 1.0
    rho = float(np.clip(np.mean(residuals[0] * residuals[1]) / (deviations[0] * deviations[1]), -0.999999, 0.999999))
    z, half = math.atanh(rho), 1.96 / math.sqrt(n - 4)
    return rho, abs(rho) - math.tanh(max(0.0, abs(z) - half))


def _id(log: Log, subject: StaticColumn, code: int) -> str:
    return str(log.catalog.ids[code] if subject.owner is log.events.item else f"(user {log.users[code]})")
