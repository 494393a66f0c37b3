"""The figures of a training and its evaluation. The report shows them in its sections; a run also holds each as a file.

Titles say how much data a figure stands on. `recsys.report.page.figure_page` writes a figure as a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.evaluation.report import LIFT_METRIC, Slice, count, format_interval, verdict
from recsys.evaluation.slices import SliceResult
from recsys.metrics.bootstrap import Interval
from recsys.report.charts import BarChart, Chart, IntervalChart, IntervalRow, LineChart
from recsys.report.content import Curve, Gains

GAIN_COLUMNS = 30
LIFT_WORDS = {
    "ranker_over_behaviour": "what text adds to counts and recency",
    "ranker_over_behaviour_lexical": "what the encoder adds to matching words",
    "ranker_over_text": "what behaviour adds to the text encoder",
    "text_over_text_frozen": "what training on clicks added to the base model",
    "text_over_text_head": "what training the upper layers added to the head",
}


@dataclass(frozen=True)
class Figure:
    """One or several charts under a title."""

    title: str
    charts: tuple[Chart, ...]


def method_intervals(test: Slice) -> Figure:
    """Every method's mean nDCG@10 with its interval, in the order of the evaluation."""
    intervals = {name: metrics[LIFT_METRIC] for name, metrics in test.methods.items()}
    axis = f"mean {LIFT_METRIC} over lists, 95% interval over users"
    return Figure(f"Test lists: {_size(test)}", (IntervalChart(_rows(intervals), "method", axis),))


def lift_intervals(lifts: Mapping[str, Interval], test: Slice) -> Figure:
    """Paired differences with their intervals and a line at zero. test: the lists they are means over."""
    rows = []
    for name, interval in lifts.items():
        note = "; ".join(text for text in (LIFT_WORDS.get(name, ""), verdict(interval)) if text)
        rows.append(IntervalRow(name.replace("_over_", " over "), interval, _signed(interval), note))
    axis = f"difference in {LIFT_METRIC}, paired by list, 95% interval over users"
    return Figure(f"Lift: {_size(test)}", (IntervalChart(rows, "comparison", axis, mark_zero=True),))


def slice_intervals(slices: Sequence[SliceResult], columns: Sequence[str]) -> Figure:
    """The mean nDCG@10 of one method over slices of the lists. columns: names of each slice's intervals."""
    column = columns.index(LIFT_METRIC)
    rows = [
        IntervalRow(
            label=result.name,
            interval=result.intervals[column],
            figure=format_interval(result.intervals[column]),
            note=_size(result),
            is_text=bool(result.value),
        )
        for result in slices
    ]
    chart = IntervalChart(rows, "slice", f"mean {LIFT_METRIC}, 95% interval over users")
    return Figure(f"Slices of the lists: {LIFT_METRIC}", (chart,))


def learning_curves(curve: Curve) -> Figure:
    """Training loss, where measured, and validation nDCG@10 by step, with phases and the best validated step."""
    points, step = curve.points, curve.step
    starts = [i for i in range(len(points)) if i == 0 or points[i].phase != points[i - 1].phase]
    phases = [(points[i].phase.replace("_", " "), i) for i in starts] if len(starts) > 1 else []
    sizes = f"{count(curve.n_train, 'training list')}, {count(curve.n_valid, 'validation list')}"
    charts = []
    loss, ndcg = [point.loss for point in points], [point.ndcg_at_10 for point in points]
    if np.isfinite(loss).any():
        name = "training loss"
        charts.append(LineChart(loss, f"{curve.title}: {name}; {sizes}", step, name, phases))
    if np.isfinite(ndcg).any():
        name, best = "validation nDCG@10", int(np.nanargmax(ndcg))
        caption = f"{curve.title}: {name}, best {ndcg[best]:.4f} at {step} {best + 1}; {sizes}"
        charts.append(LineChart(ndcg, caption, step, name, phases, mark_best=True))
    return Figure(f"{curve.title}: {sizes}", tuple(charts))


def feature_importance(gains: Gains) -> Figure:
    """The columns with the largest share of the trees' total gain."""
    total = sum(gains.gain.values())
    ranked = sorted(gains.gain.items(), key=lambda pair: (-pair[1], pair[0]))[:GAIN_COLUMNS]
    shares = {name: 100 * value / total if total > 0 else 0.0 for name, value in ranked}
    title = (
        f"Feature importance: {len(shares)} of {count(len(gains.gain), 'column')}, {count(gains.n_rows, 'row')}, "
        f"{count(gains.n_trees, 'tree')}"
    )
    return Figure(title, (BarChart(shares, "column", "share of the total gain, %"),))


def ablation_charts(
    notes: Mapping[str, str],
    quality: Mapping[str, Interval],
    lifts: Mapping[str, Interval],
    cold_lifts: Mapping[str, Interval],
    *,
    over: str,
    test: Slice,
) -> Figure:
    """Variants of the ablation: nDCG@10, and the paired difference to variant `over`, on all lists and on cold items.

    All by a variant's name. notes: text below each name.
    """
    row_name = "variant"
    charts = (
        IntervalChart(_rows(quality, notes), row_name, f"mean {LIFT_METRIC}, 95% interval over users"),
        *(
            IntervalChart(
                [IntervalRow(name, interval, _signed(interval)) for name, interval in intervals.items()],
                row_name,
                f"difference to {over}, paired{suffix}",
                mark_zero=True,
            )
            for intervals, suffix in ((lifts, ""), (cold_lifts, ", cold items"))
        ),
    )
    return Figure(f"Ablation of the text: {count(test.n_lists, 'test list')} of {count(test.n_users, 'user')}", charts)


def _rows(intervals: Mapping[str, Interval], notes: Mapping[str, str] | None = None) -> list[IntervalRow]:
    notes = notes or {}
    return [
        IntervalRow(name, interval, format_interval(interval), notes.get(name, ""))
        for name, interval in intervals.items()
    ]


def _signed(interval: Interval) -> str:
    return format_interval(interval, signed=True)


def _size(slice_: Slice | SliceResult) -> str:
    return f"{count(slice_.n_lists, 'list')} of {count(slice_.n_users, 'user')}"
