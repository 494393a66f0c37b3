"""The HTML page of a comparison: paired differences by slice with intervals, and what differs between the trainings."""

from __future__ import annotations

from recsys.evaluation.comparison import Comparison
from recsys.evaluation.report import count, format_interval, verdict
from recsys.evaluation.slices import SliceResult
from recsys.report.charts import IntervalChart, IntervalRow
from recsys.report.page import render

_CLASSES = {"better": "good", "worse": "bad"}


def comparison_page(comparison: Comparison) -> str:
    """A comparison as one HTML document."""
    axis = f"A - B: difference in {comparison.metric}, paired by list, 95% interval over users"
    rows = [_row(comparison, result) for result in comparison.slices]
    whole = comparison.slices[0]
    return render(
        "comparison.html",
        title=f"{comparison.a.name} against {comparison.b.name}",
        comparison=comparison,
        whole=whole,
        verdict_text=comparison.verdict_of(whole),
        verdict_class=_CLASSES.get(verdict(whole.intervals[2]), "quiet"),
        charts=(IntervalChart(rows, "slice", axis, mark_zero=True),),
    )


def _row(comparison: Comparison, result: SliceResult) -> IntervalRow:
    a, b, difference = result.intervals
    values = f"A {format_interval(a)}, B {format_interval(b)}".replace(" ", "\N{NO-BREAK SPACE}")
    size = f"{count(result.n_lists, 'list')} of {count(result.n_users, 'user')}"
    return IntervalRow(
        label=result.name,
        interval=difference,
        figure=format_interval(difference, signed=True),
        note=f"{comparison.verdict_of(result)}; {size}; {values}",
        is_text=bool(result.value),
    )
