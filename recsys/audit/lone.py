"""Rule `lone_auc`: how well each column ranks alone, on the ranker slice, on valid and on test.

An honest column is about as good on each of them. One that was fitted on the labels of a slice, as a target encoding
is, ranks that slice far better; one that is nearly perfect is likely to be the label itself. Where a column is missing
for some candidates of a list, whether it is there counts as a column too.

The difference of two slices has the standard error that their own intervals (bootstrap over users) give when taken as
independent. Less `DEVIATIONS` of these it must stay below `audit.auc_gap`: some hundred figures are compared at once.
A slice with few lists or users says nothing.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from features.log import Float32, Int64
from recsys.audit.auc import list_aucs
from recsys.audit.context import AuditContext, Rows
from recsys.audit.finding import Checked, Finding, Row
from recsys.bootstrap import Interval, count_clusters, mean_intervals

RULE = "lone_auc"
PRESENCE = "whether it is missing"
DEVIATIONS = 4.0
"""Standard errors; 95% intervals have 1.96, which one honest figure in 20 leaves."""
FEWEST_LISTS, FEWEST_USERS = 30, 20
"""With fewer users the bootstrap's intervals are too narrow (docs/evaluation.md)."""
_HALF_WIDTH = 1.96


@dataclass(frozen=True)
class Gap:
    """How much better a column ranks slice `better` than slice `worse`: mean, and the least that it may be."""

    better: str
    worse: str
    mean: float
    low: float


def lone_auc(context: AuditContext) -> Checked:
    """The rule; see the module."""
    settings = context.chain.config
    columns = context.raw_columns()
    aucs = {
        name: slice_aucs(rows, columns, resamples=settings.evaluation.resamples, seed=settings.seed)
        for name, rows in context.slices.items()
        if tells(rows)
    }
    findings: list[Finding] = []
    for place, (column, kind) in enumerate(itertools.product((context.names[i] for i in columns), ("", PRESENCE))):
        own = {name: values[place] for name, values in aucs.items()}
        if any(one.feature == column for one in findings):
            continue
        what, where = _problem(own, gap=settings.audit.auc_gap, most=settings.audit.auc_most)
        if what:
            row = best_row(context, context.slices[where], context.names.index(column), kind)
            subject = f"{kind} says too much: {what}" if kind else what
            findings.append(Finding(RULE, column, subject, _ADVICE, row))
    lists = ", ".join(f"{len(rows.impressions):,} of {name}" for name, rows in context.slices.items())
    return Checked(RULE, f"{len(columns)} columns alone on lists: {lists}", tuple(findings))


_ADVICE = (
    "find where it reads labels or later events (a target encoding is fitted on older clicks alone); "
    "what is known only afterwards goes into features.allow_known_after"
)


def tells(rows: Rows) -> bool:
    """Whether a slice has enough lists and users to say anything of a column."""
    lists = rows.impressions
    return len(lists) >= FEWEST_LISTS and count_clusters(lists.requests.user) >= FEWEST_USERS


def slice_aucs(rows: Rows, columns: list[int], *, resamples: int, seed: int) -> tuple[Interval, ...]:
    """Mean AUC of each column, and of whether it is missing, in turn: (2 * n_columns) intervals."""
    requests = rows.impressions.requests
    values = list_aucs(with_presence(rows.matrix, columns), rows.impressions.label, requests.offsets).auc
    return mean_intervals(values, requests.user, resamples=resamples, seed=seed)


def with_presence(matrix: Float32, columns: list[int] | Int64) -> Float32:
    """Chosen columns, each followed by 1 where it has a value and 0 where it is missing, (n_rows, 2 * n_columns)."""
    chosen = matrix[:, columns]
    return np.stack([chosen, (~np.isnan(chosen)).astype(np.float32)], axis=2).reshape(len(matrix), -1)


def widest_gap(aucs: dict[str, Interval], *, deviations: float = DEVIATIONS) -> Gap | None:
    """The two slices between which a column differs most plainly, the one that it ranks better first; AUCs on either
    side of 0.5 are a difference too. None for fewer than two slices."""
    pairs = itertools.permutations(aucs, 2)
    ordered = [(one, other) for one, other in pairs if _strength(aucs[one]) >= _strength(aucs[other])]
    gaps = [_gap(one, other, aucs, deviations) for one, other in ordered]
    return max(gaps, key=lambda gap: gap.low, default=None)


def _strength(auc: Interval) -> float:
    return abs(auc.mean - 0.5)


def _gap(better: str, worse: str, aucs: dict[str, Interval], deviations: float) -> Gap:
    one, other = aucs[better], aucs[worse]
    direction = 1.0 if one.mean >= 0.5 else -1.0
    mean = direction * (one.mean - other.mean)
    half = math.hypot((one.high - one.low) / 2, (other.high - other.low) / 2)
    return Gap(better, worse, mean, mean - half * deviations / _HALF_WIDTH)


def _problem(aucs: dict[str, Interval], *, gap: float, most: float) -> tuple[str, str]:
    """What is wrong with a column, and in which slice it shows; empty for nothing."""
    best = max(aucs, key=lambda name: _beyond_half(aucs[name]), default="")
    if best and _beyond_half(aucs[best]) > most - 0.5:
        return f"it ranks {best} nearly perfectly, {auc_text(aucs)}; such a value is hardly known beforehand", best
    widest = widest_gap(aucs)
    if widest is not None and widest.low > gap:
        return (
            f"it ranks {widest.better} better than {widest.worse} by {widest.mean:.3f} (at least {widest.low:.3f}, "
            f"expected at most {gap}), {auc_text(aucs)}"
        ), widest.better
    return "", ""


def _beyond_half(auc: Interval) -> float:
    """How far the interval lies from 0.5, 0 where it covers it."""
    return max(auc.low - 0.5, 0.5 - auc.high, 0.0)


def auc_text(aucs: dict[str, Interval]) -> str:
    """Mean AUC by slice, for a report."""
    return "AUC " + ", ".join(f"{auc.mean:.3f} on {name}" for name, auc in aucs.items())


def best_row(context: AuditContext, rows: Rows, column: int, kind: str) -> Row:
    """The clicked row of a slice that stands furthest above the unclicked ones of its list, or below."""
    lists = rows.impressions
    chosen = 1 if kind else 0
    values = with_presence(rows.matrix, [column])[:, [chosen]]
    aucs = list_aucs(values, lists.label, lists.requests.offsets).auc[:, 0]
    place = int(np.nanargmax(np.abs(aucs - 0.5)))
    first, end = lists.requests.offsets[place], lists.requests.offsets[place + 1]
    row = int(first + np.flatnonzero(lists.label[first:end] > 0)[0])
    return context.row(lists, row, after=float(rows.matrix[row, column]))
