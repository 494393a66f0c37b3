"""Figures: every axis has a name, titles say the size of the data, marks are where the numbers are, data is text."""

from __future__ import annotations

import re

import pytest

from recsys.evaluation.report import Slice
from recsys.evaluation.slices import SliceResult
from recsys.metrics.bootstrap import Interval
from recsys.metrics.calibration import Bin
from recsys.report import figures
from recsys.report.charts import BarChart, Chart, IntervalChart, IntervalRow, LineChart, ReliabilityChart
from recsys.report.content import Curve, CurvePoint, Gains
from recsys.report.figures import Figure
from recsys.report.page import figure_page

NAN = float("nan")
NOTHING = Interval(NAN, NAN, NAN)
LIFTS = {
    "ranker_over_behaviour": Interval(0.089, 0.068, 0.108),
    "text_over_text_head": Interval(-0.01, -0.02, 0.001),
    "ranker_over_text": Interval(0.05, NAN, NAN),
}
POINTS = (CurvePoint(2.0, 0.3, "head"), CurvePoint(1.5, 0.42, "head"), CurvePoint(1.4, 0.41, "fine-tune"))
TEST = Slice({name: {"ndcg_at_10": interval, "auc": interval} for name, interval in LIFTS.items()}, 4952, 101)
SLICES = (
    SliceResult("all lists", "", 9, 5, (NOTHING, LIFTS["ranker_over_text"])),
    SliceResult("category", "<ספורט_א>", 3, 2, (NOTHING, NOTHING)),
)

FIGURES = {
    "curves": figures.learning_curves(Curve("Encoder", "epoch", POINTS, 900, 100)),
    "one point": figures.learning_curves(Curve("Encoder", "epoch", POINTS[:1], 1, 1)),
    "trees": figures.learning_curves(Curve("Ranker", "tree", (CurvePoint(NAN, 0.4),) * 200, 5, 2)),
    "methods": figures.method_intervals(TEST),
    "no lists": figures.method_intervals(Slice({"ranker": {"ndcg_at_10": NOTHING}}, 0, 0)),
    "lifts": figures.lift_intervals(LIFTS, TEST),
    "no lifts": figures.lift_intervals({}, TEST),
    "ledger": figures.ablation_charts(
        {"none": "1.0 ms, 0 s", "head": "5.0 ms, 9 s, the choice"},
        {"none": LIFTS["ranker_over_text"], "head": LIFTS["ranker_over_behaviour"]},
        {"head": LIFTS["ranker_over_behaviour"]},
        {"head": NOTHING},
        over="none", test=TEST,
    ),
    "slices": figures.slice_intervals(SLICES, ("auc", "ndcg_at_10")),
    "gain": figures.feature_importance(Gains({f"feature_{i}": float(i) for i in range(40)}, 9000, 80)),
    "no gain": figures.feature_importance(Gains({"item_age": 0.0}, 9000, 0)),
    "no features": figures.feature_importance(Gains({}, 0, 0)),
    "no line": Figure("t", (LineChart([], "caption", "x name", "y name", mark_best=True),)),
    "part of a line": Figure("t", (LineChart([NAN, 0.3], "caption", "x name", "y name", mark_best=True),)),
    "one bin": Figure("t", (ReliabilityChart([Bin(0.0, Interval(0.0, NAN, NAN), 9)], "caption", "x name", "y name"),)),
    "no bins": Figure("t", (ReliabilityChart([], "caption", "x name", "y name"),)),
}  # fmt: skip


def drawn(chart: Chart) -> str:
    return figure_page(Figure("title", (chart,)))


def interval_chart(*intervals: Interval, mark_zero: bool = False, from_zero: bool = False) -> str:
    rows = [IntervalRow("a", interval, "") for interval in intervals]
    return drawn(IntervalChart(rows, "row", "axis", mark_zero=mark_zero, from_zero=from_zero))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_draws_with_a_title_and_every_axis_labelled(name: str) -> None:
    figure = FIGURES[name]
    text = figure_page(figure)
    assert f"<h1>{figure.title}</h1>" in text
    for chart in figure.charts:
        labels = (chart.x, chart.y) if isinstance(chart, LineChart | ReliabilityChart) else (chart.row_name, chart.axis)
        assert all(f">{label}<" in text for label in labels)
    body = text[text.index("</style>") :]
    assert "nan" not in body and "inf" not in body


def test_titles_say_how_much_data_stands_behind_a_figure() -> None:
    assert FIGURES["curves"].title == "Encoder: 900 training lists, 100 validation lists"
    assert FIGURES["methods"].title == "Test lists: 4,952 lists of 101 users"
    assert FIGURES["ledger"].title == "Ablation of the text: 4,952 test lists of 101 users"
    assert FIGURES["lifts"].title == "Lift: 4,952 lists of 101 users"
    assert FIGURES["gain"].title == "Feature importance: 30 of 40 columns, 9,000 rows, 80 trees"


def test_learning_curves_mark_the_best_epoch_and_the_change_of_phase() -> None:
    loss, ndcg = FIGURES["curves"].charts
    assert isinstance(loss, LineChart) and isinstance(ndcg, LineChart)
    assert (loss.y, loss.phases, loss.best_step) == ("training loss", [("head", 0), ("fine-tune", 2)], None)
    assert (ndcg.y, ndcg.phases, ndcg.best_step) == ("validation nDCG@10", [("head", 0), ("fine-tune", 2)], 2)
    assert "best 0.4200 at epoch 2" in ndcg.caption
    text = drawn(ndcg)
    assert f'<line class="phase" x1="{ndcg.plane.left_of(2.5)}"' in text
    assert f'<line class="best" x1="{ndcg.plane.left_of(2)}"' in text


def test_a_loss_that_was_not_measured_has_no_chart() -> None:
    assert [chart.y for chart in FIGURES["trees"].charts if isinstance(chart, LineChart)] == ["validation nDCG@10"]


def test_lifts_stand_in_the_order_given_with_a_line_at_zero() -> None:
    (chart,) = FIGURES["lifts"].charts
    assert isinstance(chart, IntervalChart)
    assert [row.label for row in chart.rows] == ["ranker over behaviour", "text over text_head", "ranker over text"]
    assert [row.figure for row in chart.rows] == ["+.089 [+.068, +.108]", "-.010 [-.020, +.001]", "+.050"]
    assert drawn(chart).count('<line class="zero"') == 3


def test_the_ledger_says_beside_each_line_what_it_costs() -> None:
    text = figure_page(FIGURES["ledger"])
    assert re.findall(r'<div class="label">(\w+)</div>', text) == ["none", "head", "head", "head"]
    assert '<small class="note">5.0 ms, 9 s, the choice</small>' in text
    assert "difference to none, paired, cold items" in text


def test_feature_importance_shows_the_largest_shares_of_the_gain_first() -> None:
    (chart,) = FIGURES["gain"].charts
    assert isinstance(chart, BarChart)
    assert list(chart.values) == [f"feature_{i}" for i in range(39, 9, -1)]
    assert chart.values["feature_39"] == pytest.approx(100 * 39 / sum(range(40)))


def test_a_mark_stands_where_its_number_is() -> None:
    text = interval_chart(Interval(0.5, 0.25, 1.0), mark_zero=True)
    # the axis runs from 0 to 1 between 3% and 97%
    assert '<line class="interval clear" x1="26.50%" x2="97.00%"' in text
    assert '<circle class="mean clear" cx="50.00%"' in text


def test_an_interval_without_numbers_has_no_mark() -> None:
    assert 'class="interval' not in interval_chart(NOTHING) and 'class="mean' not in interval_chart(NOTHING)
    lone = interval_chart(Interval(0.5, NAN, NAN))
    assert 'class="interval' not in lone and 'class="mean' in lone


def test_an_axis_of_sizes_begins_at_zero() -> None:
    size = Interval(0.8, 0.7, 1.0)
    assert ">0<" in interval_chart(size, from_zero=True)
    assert ">0<" not in interval_chart(size)


def test_an_interval_that_holds_zero_is_grey_only_where_zero_matters() -> None:
    over_zero = Interval(0.1, -0.1, 0.3)
    assert 'class="mean unclear"' in interval_chart(over_zero, mark_zero=True)
    assert 'class="mean unclear"' not in interval_chart(over_zero)


def test_names_break_behind_underscores_and_keep_the_order_of_their_parts() -> None:
    names = {"item_<b>_7d": 1.0, "item_ماركة_7d": 1.0}
    text = drawn(BarChart(names, "column", "share"))
    assert "item_<wbr>&lt;b&gt;_<wbr>7d" in text
    assert 'item_<wbr><bdi dir="auto" lang="">ماركة</bdi>_<wbr>7d' in text


def test_a_text_of_the_data_keeps_its_direction_as_a_whole() -> None:
    assert '<bdi dir="auto" lang="">category &lt;ספורט_א&gt;</bdi>' in figure_page(FIGURES["slices"])


def test_a_figure_without_data_says_so() -> None:
    assert "Nothing to compare." in figure_page(FIGURES["no lifts"])
    assert "No columns." in figure_page(FIGURES["no features"])
    assert "Nothing was measured." in figure_page(figures.learning_curves(Curve("Encoder", "epoch", (), 0, 0)))
