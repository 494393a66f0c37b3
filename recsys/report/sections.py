"""The sections of a report: the values that each shows. Its words are in `templates/sections/KEY.html`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from recsys.evaluation.report import LIFT_METRIC, count, format_interval
from recsys.evaluation.slices import FEW_USERS, SliceResult
from recsys.metrics.bootstrap import Interval
from recsys.metrics.ranking import METRICS
from recsys.ranker.shap import ColumnContribution
from recsys.report import figures
from recsys.report.charts import IntervalChart, IntervalRow, ReliabilityChart
from recsys.report.content import ReportData

CONTRIBUTION_COLUMNS = 20
CLEAR_DIRECTION = 0.5

Values = Mapping[str, object]


@dataclass(frozen=True)
class ReportSection:
    """A section. key: its anchor and the name of its template. values: what the template shows, None where the report
    has nothing for it."""

    key: str
    title: str
    values: Callable[[ReportData], Values | None]


def _results(report: ReportData) -> Values:
    test = report.evaluation.test
    columns = {metric: {name: metrics[metric] for name, metrics in test.methods.items()} for metric in METRICS}
    return {"test": test, "few_users": FEW_USERS, "charts": figures.method_intervals(test).charts, "columns": columns}


def _lifts(report: ReportData) -> Values | None:
    evaluation = report.evaluation
    if not evaluation.lifts:
        return None
    return {"charts": figures.lift_intervals(evaluation.lifts, evaluation.test).charts}


def _slices(report: ReportData) -> Values | None:
    comparison = report.comparison
    if comparison is None or not report.slices:
        return None
    axis = f"{comparison.method} over {comparison.over}: difference in {LIFT_METRIC}, 95% interval over users"
    chart = IntervalChart([_slice_row(result) for result in report.slices], "slice", axis, mark_zero=True)
    return {"comparison": comparison, "few_users": FEW_USERS, "charts": (chart,)}


def _slice_row(result: SliceResult) -> IntervalRow:
    before, after, difference = result.intervals
    few = " (few)" if result.n_users < FEW_USERS else ""
    values = f"{format_interval(before)} to {format_interval(after)}".replace(" ", "\N{NO-BREAK SPACE}")
    return IntervalRow(
        label=result.name,
        interval=difference,
        figure=format_interval(difference, signed=True),
        note=f"{count(result.n_lists, 'list')} of {count(result.n_users, 'user')}{few}; {values}",
        is_text=bool(result.value),
    )


def _cold(report: ReportData) -> Values | None:
    slices = {"cold items": report.evaluation.cold_items, "cold users": report.evaluation.cold_users}
    if not any(slice_.n_lists for slice_ in slices.values()):
        return None
    columns = {
        name: {method: metrics[LIFT_METRIC] for method, metrics in slice_.methods.items()}
        for name, slice_ in slices.items()
    }
    return {"slices": slices, "columns": columns}


def _curves(report: ReportData) -> Values | None:
    charts = [chart for curve in report.curves for chart in figures.learning_curves(curve).charts]
    return {"charts": charts} if charts else None


def _gains(report: ReportData) -> Values | None:
    if report.gains is None or not report.gains.gain:
        return None
    return {"gains": report.gains, "charts": figures.feature_importance(report.gains).charts}


def _contributions(report: ReportData) -> Values | None:
    summary = report.contributions
    if summary is None or not summary.columns:
        return None
    largest = summary.columns[:CONTRIBUTION_COLUMNS]
    decimals = _decimals(largest[0].size.mean)
    rows = [
        IntervalRow(column.column, column.size, _size(column.size, decimals), _direction(column)) for column in largest
    ]
    axis = "mean |contribution| to the score, 95% interval over users"
    return {"summary": summary, "charts": (IntervalChart(rows, "column", axis, from_zero=True),)}


def _decimals(largest: float) -> int:
    """Decimals that show three digits of the largest value."""
    return max(2, 2 - int(np.floor(np.log10(largest)))) if largest > 0 else 2


def _size(interval: Interval, decimals: int) -> str:
    mean, low, high = (f"{value:.{decimals}f}" for value in (interval.mean, interval.low, interval.high))
    return mean if interval.low != interval.low else f"{mean} [{low}, {high}]"


def _direction(contribution: ColumnContribution) -> str:
    direction = contribution.direction
    if direction != direction:
        return "no direction"
    if abs(direction) < CLEAR_DIRECTION:
        effect = "both ways"
    else:
        effect = "higher raises the score" if direction > 0 else "higher lowers the score"
    return f"{effect}, r {direction:+.2f}"


def _calibration(report: ReportData) -> Values | None:
    if report.calibration is None:
        return None
    chart = ReliabilityChart(
        report.calibration.bins,
        caption="Dots on the diagonal are right on average; lines are 95% intervals over users.",
        x="predicted click probability",
        y="clicked share of rows",
    )
    return {"calibration": report.calibration, "charts": (chart,)}


def _examples(report: ReportData) -> Values | None:
    if report.examples is None or report.comparison is None:
        return None
    return {"examples": report.examples, "comparison": report.comparison}


def _data(report: ReportData) -> Values | None:
    return {"summary": report.summary, "notes": report.notes} if report.summary else None


SECTIONS = (
    ReportSection("results", "Results", _results),
    ReportSection("lifts", "Lifts", _lifts),
    ReportSection("slices", "Slices", _slices),
    ReportSection("cold", "Cold items and users", _cold),
    ReportSection("curves", "Learning curves", _curves),
    ReportSection("gains", "What the trees split on", _gains),
    ReportSection("contributions", "What moves the scores", _contributions),
    ReportSection("calibration", "Scores as probabilities", _calibration),
    ReportSection("examples", "Lists that changed", _examples),
    ReportSection("data", "Data, slices and models", _data),
)
"""The sections in their order; to add one, add a line and its template."""
