"""Figures: every axis has a label, titles say the size of the data, nothing breaks on little or no data."""

import io

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from recsys.evaluation.plots import (
    WIDE_FONTS,
    CurvePoint,
    feature_importance,
    learning_curves,
    ledger,
    lift_intervals,
    method_intervals,
    slice_intervals,
)
from recsys.evaluation.report import Slice
from recsys.metrics.bootstrap import Interval

NAN = float("nan")
NOTHING = Interval(NAN, NAN, NAN)
LIFTS = {
    "ranker_over_behaviour": Interval(0.089, 0.068, 0.108),
    "text_over_text_head": Interval(-0.01, -0.02, 0.001),
    "ranker_over_text": Interval(0.05, NAN, NAN),
}
POINTS = [CurvePoint(2.0, 0.3, "head"), CurvePoint(1.5, 0.42, "head"), CurvePoint(1.4, 0.41, "fine-tune")]
METHODS = {name: {"ndcg_at_10": interval, "auc": interval} for name, interval in LIFTS.items()}

FIGURES = {
    "curves": lambda: learning_curves(POINTS, title="Encoder", n_train=900, n_valid=100),
    "one point": lambda: learning_curves(POINTS[:1], title="Encoder", n_train=1, n_valid=1),
    "no points": lambda: learning_curves([], title="Encoder", n_train=0, n_valid=0),
    "trees": lambda: learning_curves(
        [CurvePoint(NAN, 0.4)] * 200, title="Ranker", n_train=5, n_valid=2, step="tree"
    ),
    "methods": lambda: method_intervals(Slice(METHODS, 4952, 101)),
    "no lists": lambda: method_intervals(Slice({"ranker": {"ndcg_at_10": Interval(NAN, NAN, NAN)}}, 0, 0)),
    "lifts": lambda: lift_intervals(LIFTS, n_lists=4952, n_users=101),
    "no lifts": lambda: lift_intervals({}, n_lists=4952, n_users=101),
    "ledger": lambda: ledger(
        {"none": "1.0 ms, 0 s", "head": "5.0 ms, 9 s, the choice"},
        {"none": LIFTS["ranker_over_text"], "head": LIFTS["ranker_over_behaviour"]},
        {"head": LIFTS["ranker_over_behaviour"]},
        {"head": NOTHING},
        over="none", n_lists=4952, n_users=101,
    ),
    "slices": lambda: slice_intervals({"user cold": (LIFTS["ranker_over_text"], 12), "all lists": (NOTHING, 1)}),
    "gain": lambda: feature_importance({f"feature_{i}": float(i) for i in range(40)}, n_rows=9000, n_trees=80),
    "no gain": lambda: feature_importance({"item_age": 0.0}, n_rows=9000, n_trees=0),
    "no features": lambda: feature_importance({}, n_rows=0, n_trees=0),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_draws_with_a_title_and_every_axis_labelled(name: str) -> None:
    figure = FIGURES[name]()
    assert figure.axes
    assert all(panel.get_xlabel() and panel.get_ylabel() for panel in figure.axes)
    assert figure.get_suptitle()
    figure.savefig(io.BytesIO(), format="png", dpi=40)


def test_titles_say_how_much_data_stands_behind_a_figure() -> None:
    assert FIGURES["curves"]().get_suptitle() == "Encoder: 900 training lists, 100 validation lists"
    assert FIGURES["methods"]().get_suptitle() == "Test lists: 4,952 lists of 101 users"
    assert FIGURES["ledger"]().get_suptitle() == "Text-lift ledger: 4,952 test lists of 101 users"
    assert FIGURES["lifts"]().get_suptitle() == "Lift: 4,952 lists of 101 users"
    assert FIGURES["gain"]().get_suptitle() == "Feature importance: 30 of 40 columns, 9,000 rows, 80 trees"


def _lines(figure: Figure, panel: int) -> list[list[float]]:
    return [list(map(float, line.get_xdata())) for line in figure.axes[panel].lines]


def test_learning_curves_mark_the_best_epoch_and_the_change_of_phase() -> None:
    figure = FIGURES["curves"]()
    assert figure.axes[0].get_title() == "head 1 to 2, fine-tune 3 to 3"
    assert figure.axes[1].get_title() == "best 0.4200 at epoch 2"
    assert _lines(figure, 0) == [[1, 2, 3], [2.5, 2.5]]
    assert _lines(figure, 1) == [[1, 2, 3], [2.5, 2.5], [2, 2]]


def test_a_loss_that_was_not_measured_has_no_panel() -> None:
    assert [panel.get_ylabel() for panel in FIGURES["trees"]().axes] == ["validation nDCG@10"]


def test_lifts_stand_in_the_order_given_with_a_line_at_zero() -> None:
    panel = FIGURES["lifts"]().axes[0]
    labels = [label.get_text().replace("\n", " ") for label in panel.get_yticklabels()]
    assert labels == ["ranker over behaviour", "text over text_head", "ranker over text"]
    assert panel.yaxis_inverted()
    assert _lines(panel.figure, 0)[-1] == [0, 0]
    assert [text.get_text() for text in panel.texts] == ["+.089 [+.068, +.108]", "-.010 [-.020, +.001]", "+.050"]


def test_the_ledger_says_beside_each_line_what_it_costs() -> None:
    quality, lifts, cold = FIGURES["ledger"]().axes
    assert [label.get_text() for label in quality.get_yticklabels()] == [
        "none\n1.0 ms, 0 s",
        "head\n5.0 ms, 9 s, the choice",
    ]
    assert [label.get_text() for label in lifts.get_yticklabels()] == ["head"]
    assert _lines(lifts.figure, 1)[-1] == [0, 0]
    assert [text.get_text() for text in cold.texts] == ["nothing to compare"]


def test_feature_importance_shows_the_largest_shares_of_the_gain_first() -> None:
    panel = FIGURES["gain"]().axes[0]
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names == [f"feature_{i}" for i in range(39, 9, -1)]
    assert panel.yaxis_inverted()
    assert panel.patches[0].get_width() == pytest.approx(100 * 39 / np.arange(40).sum())


def test_names_of_features_are_drawn_in_chinese_and_arabic(recwarn: pytest.WarningsRecorder) -> None:
    if not set(font_manager.get_font_names()) & set(WIDE_FONTS):
        pytest.skip("no font with Chinese characters is installed")
    figure = feature_importance({"item_品牌_clicks": 2.0, "item_ماركة_clicks": 1.0}, n_rows=10, n_trees=1)
    figure.savefig(io.BytesIO())
    assert not [warning for warning in recwarn if "missing from font" in str(warning.message)]
