"""Rule `single_column_auc`: the AUC of each single column on the ranker slice, on valid and on test.

An honest column is about as good on each of them, or changes from one to the next as time goes by. One that was fitted
on the labels of a slice, as a target encoding is, ranks that slice far better than both others (or a slice it was not
fitted on far worse); one that is nearly perfect is likely to be the label itself. Where a column is missing for some
candidates of a list, whether it is there counts as a column too.

The difference of two slices has the standard error that their own intervals (bootstrap over users) give when taken as
independent. Less `DEVIATIONS` of these it must stay below `audit.auc_gap`: some hundred figures are compared at once.
A slice with few lists or users says nothing.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32, Int64
from recsys.audit.auc import list_aucs
from recsys.audit.context import AuditContext, Rows
from recsys.audit.finding import Finding, Row, RuleResult
from recsys.metrics.bootstrap import Interval, count_clusters, mean_intervals

RULE = "lone_auc"
PRESENCE = "whether it is missing"
DEVIATIONS = 4.0
"""Standard errors; 95% intervals have 1.96, which one honest figure in 20 leaves."""
FEWEST_LISTS, FEWEST_USERS = 30, 20
"""With fewer users the bootstrap's intervals are too narrow (docs/evaluation.md)."""
_HALF_WIDTH = 1.96


@dataclass(frozen=True)
class Gap:
    """How much better (worse below 0) a column ranks slice `name` than the one of the others that it ranks most alike:
    mean, and the least that the difference may be in size."""

    name: str
    mean: float
    low: float


def single_column_auc(context: AuditContext) -> RuleResult:
    """The rule; see the module."""
    settings = context.training.config
    columns = context.raw_columns()
    aucs = {
        name: slice_aucs(rows, columns, resamples=settings.evaluation.resamples, seed=settings.seed)
        for name, rows in context.slices.items()
        if has_enough_data(rows)
    }
    findings: list[Finding] = []
    for position, (column, presence) in enumerate(
        itertools.product((context.names[i] for i in columns), ("", PRESENCE))
    ):
        by_slice = {name: values[position] for name, values in aucs.items()}
        if any(finding.feature == column for finding in findings):
            continue
        problem, slice_name = _problem(by_slice, gap=settings.audit.auc_gap, most=settings.audit.auc_most)
        if problem:
            row = best_row(context, context.slices[slice_name], context.names.index(column), presence)
            subject = f"{presence} says too much: {problem}" if presence else problem
            findings.append(Finding(RULE, column, subject, _ADVICE, row))
    counts = ", ".join(f"{len(rows.impressions):,} of {name}" for name, rows in context.slices.items())
    return RuleResult(RULE, f"{len(columns)} columns alone on lists: {counts}", tuple(findings))


_ADVICE = (
    "find where it reads labels or later events (a target encoding is fitted on older clicks alone); "
    "what is known only afterwards goes into features.allow_known_after"
)


def has_enough_data(rows: Rows) -> bool:
    """Whether a slice has enough lists and users to say anything of a column."""
    impressions = rows.impressions
    return len(impressions) >= FEWEST_LISTS and count_clusters(impressions.requests.user) >= FEWEST_USERS


def slice_aucs(rows: Rows, columns: list[int], *, resamples: int, seed: int) -> tuple[Interval, ...]:
    """Mean AUC of each column, and of whether it is missing, in turn: (2 * n_columns) intervals."""
    requests = rows.impressions.requests
    values = list_aucs(with_presence(rows.matrix, columns), rows.impressions.label, requests.offsets).auc
    return mean_intervals(values, requests.user, resamples=resamples, seed=seed)


def with_presence(matrix: Float32, columns: list[int] | Int64) -> Float32:
    """Chosen columns, each followed by 1 where it has a value and 0 where it is missing, (n_rows, 2 * n_columns)."""
    chosen = matrix[:, columns]
    return np.stack([chosen, (~np.isnan(chosen)).astype(np.float32)], axis=2).reshape(len(matrix), -1)


def outlier_slice(aucs: dict[str, Interval]) -> Gap | None:
    """The slice that a column ranks most plainly unlike the others, better than each of them or worse than each; None
    for fewer than two slices. AUCs on either side of 0.5 are a difference too."""
    gaps = [_gap(name, aucs) for name in aucs] if len(aucs) > 1 else []
    return max(gaps, key=lambda gap: gap.low, default=None)


def _gap(name: str, aucs: dict[str, Interval]) -> Gap:
    strongest = max(aucs.values(), key=lambda auc: abs(auc.mean - 0.5))
    direction = 1.0 if strongest.mean >= 0.5 else -1.0
    others = [auc for slice_name, auc in aucs.items() if slice_name != name]
    gaps = [direction * (aucs[name].mean - auc.mean) for auc in others]
    side = 1.0 if gaps[0] >= 0 else -1.0
    least = [side * gap - DEVIATIONS * standard_error(aucs[name], auc) for gap, auc in zip(gaps, others, strict=True)]
    nearest = min(zip(least, gaps, strict=True))
    return Gap(name, nearest[1], nearest[0])


def standard_error(first: Interval, second: Interval) -> float:
    """Of the difference of two means by their 95% intervals, taken as independent."""
    return math.hypot((first.high - first.low) / 2, (second.high - second.low) / 2) / _HALF_WIDTH


def _problem(aucs: dict[str, Interval], *, gap: float, most: float) -> tuple[str, str]:
    """What is wrong with a column, and in which slice it shows; empty for nothing."""
    best = max(aucs, key=lambda name: _beyond_half(aucs[name]), default="")
    if best and _beyond_half(aucs[best]) > most - 0.5:
        return f"it ranks {best} nearly perfectly, {auc_text(aucs)}; such a value is hardly known beforehand", best
    outlier = outlier_slice(aucs)
    if outlier is None or outlier.low <= gap:
        return "", ""
    how = "better" if outlier.mean > 0 else "worse"
    return (
        f"it ranks {outlier.name} {how} than the other slices by {abs(outlier.mean):.3f} (at least {outlier.low:.3f}, "
        f"expected at most {gap}), {auc_text(aucs)}"
    ), max(aucs, key=lambda name: abs(aucs[name].mean - 0.5))


def _beyond_half(auc: Interval) -> float:
    """How far the interval lies from 0.5, 0 where it covers it."""
    return max(auc.low - 0.5, 0.5 - auc.high, 0.0)


def auc_text(aucs: dict[str, Interval]) -> str:
    """Mean AUC by slice, for a report."""
    return "AUC " + ", ".join(f"{auc.mean:.3f} on {name}" for name, auc in aucs.items())


def best_row(context: AuditContext, rows: Rows, column: int, presence: str) -> Row:
    """The clicked row of a slice that stands furthest above the unclicked ones of its list, or below."""
    impressions = rows.impressions
    chosen = 1 if presence else 0
    values = with_presence(rows.matrix, [column])[:, [chosen]]
    aucs = list_aucs(values, impressions.label, impressions.requests.offsets).auc[:, 0]
    position = int(np.nanargmax(np.abs(aucs - 0.5)))
    first, end = impressions.requests.offsets[position], impressions.requests.offsets[position + 1]
    row = int(first + np.flatnonzero(impressions.label[first:end] > 0)[0])
    return context.row(impressions, row, after=float(rows.matrix[row, column]))
