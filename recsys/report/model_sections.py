"""Sections of a report on the models: learning curves, what the trees split on, what moves the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.evaluation.report import count
from recsys.metrics.bootstrap import Interval
from recsys.ranker.shap import ColumnContribution
from recsys.report.charts import Series, Strip, bars, interval_chart, line_chart
from recsys.report.content import Curve, ReportData
from recsys.report.html import Html, element, join, paragraph

GAIN_COLUMNS = 25
CONTRIBUTION_COLUMNS = 20
CLEAR_DIRECTION = 0.5


def curves_section(content: ReportData) -> Html | None:
    """Loss and validation metric by step of both trainings."""
    shown = [figure for curve in content.curves for figure in _figures(curve)]
    if not shown:
        return None
    how = paragraph(
        "Training stops when validation does not get better, and the best step is kept. A curve that still rises at "
        "its end would gain from longer training; loss that falls while validation falls too is learning by heart."
    )
    return join([element("div", {"class": "charts"}, *shown), element("div", {"class": "how"}, how)])


def gains_section(content: ReportData) -> Html | None:
    """Share of the trees' gain by column."""
    gains = content.gains
    if gains is None or not gains.gain:
        return None
    total = sum(gains.gain.values())
    ranked = sorted(gains.gain.items(), key=lambda pair: (-pair[1], pair[0]))[:GAIN_COLUMNS]
    shares = {name: 100 * value / total if total > 0 else 0.0 for name, value in ranked}
    size = (
        f"The {len(shares)} largest of {count(len(gains.gain), 'column')}; {count(gains.n_trees, 'tree')} on "
        f"{count(gains.n_rows, 'candidate row')}."
    )
    how = paragraph(
        "How much of the training loss the splits on a column took away. Of columns that say the same, one may take it "
        "all. A count over one set of trees: it has no interval, and other seeds give other shares."
    )
    chart = bars(shares, of="column", axis="share of the total gain, %")
    return join([paragraph(size), chart, element("div", {"class": "how"}, how)])


def contributions_section(content: ReportData) -> Html | None:
    """Mean absolute SHAP values with direction."""
    found = content.contributions
    if found is None or not found.columns:
        return None
    shown = found.columns[:CONTRIBUTION_COLUMNS]
    decimals = _decimals(shown[0].size.mean)
    rows = [Strip(one.column, one.size, _size(one.size, decimals), _direction(one)) for one in shown]
    size = (
        f"SHAP values of {count(found.n_rows, 'test row')} drawn from {count(found.n_lists, 'list')}: the {len(shown)} "
        f"largest of {count(len(found.columns), 'column')}."
    )
    how = paragraph(
        "How far a column moves a row's score up or down, on average, in units of the score. r is the rank "
        "correlation of the column's value with what it contributes: near +1 a higher value raises the score, near -1 "
        "it lowers it, in between it depends on the value or on other columns."
    )
    chart = interval_chart(
        rows, of="column", axis="mean |contribution| to the score, 95% interval over users", from_zero=True
    )
    return join([paragraph(size), chart, element("div", {"class": "how"}, how)])


def _figures(curve: Curve) -> list[Html]:
    points = curve.points
    starts = [i for i in range(len(points)) if i == 0 or points[i].phase != points[i - 1].phase]
    phases = [(points[i].phase.replace("_", " "), i) for i in starts] if len(starts) > 1 else []
    sizes = f"{count(curve.n_train, 'training list')}, {count(curve.n_valid, 'validation list')}"
    measured = (
        ("training loss", [point.loss for point in points], False),
        ("validation nDCG@10", [point.ndcg_at_10 for point in points], True),
    )
    return [
        element(
            "figure",
            None,
            element("figcaption", None, f"{curve.title}: {name}{_best(values, curve.step) if best else ''}; {sizes}"),
            line_chart(Series(values, phases), x=curve.step, y=name, best=best),
        )
        for name, values, best in measured
        if np.isfinite(values).any()
    ]


def _best(values: Sequence[float], step: str) -> str:
    place = int(np.nanargmax(values))
    return f", best {values[place]:.4f} at {step} {place + 1}"


def _decimals(largest: float) -> int:
    """Decimals that show three digits of the largest value."""
    return max(2, 2 - int(np.floor(np.log10(largest)))) if largest > 0 else 2


def _size(interval: Interval, decimals: int) -> str:
    mean, low, high = (f"{v:.{decimals}f}" for v in (interval.mean, interval.low, interval.high))
    return mean if interval.low != interval.low else f"{mean} [{low}, {high}]"


def _direction(one: ColumnContribution) -> str:
    if one.direction != one.direction:
        return "no direction"
    if one.direction >= CLEAR_DIRECTION:
        text = "higher raises the score"
    elif one.direction <= -CLEAR_DIRECTION:
        text = "higher lowers the score"
    else:
        text = "both ways"
    return f"{text}, r {one.direction:+.2f}"
