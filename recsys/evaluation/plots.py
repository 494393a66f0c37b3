"""Figures of a training and its evaluation: learning curves, methods and lifts with intervals, feature importance.

Each function returns a matplotlib Figure that belongs to nobody: no pyplot, no global state, no file written; the
caller saves it (`figure.savefig`, `mlflow.log_figure`). Titles say how much data a figure stands on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recsys.evaluation.report import LIFT_METRIC, Slice, count, format_interval
from recsys.metrics.bootstrap import Interval

_BLUE, _ORANGE, _GREY = "#0b6fb3", "#c8550a", "#777777"
_MAX_FEATURES = 30
_MARKED_POINTS = 60
WIDE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC",
    "Hiragino Sans", "Droid Sans Fallback", "Arial Unicode MS",
)  # fmt: skip
"""Fonts with Chinese, Japanese and Korean characters; those installed draw what matplotlib's own font cannot."""


@dataclass(frozen=True)
class CurvePoint:
    """State of a training after one epoch, or one tree. loss: on the training rows, NaN if not measured.
    ndcg_at_10: on the validation lists. phase: what was being trained, such as "head"; one phase follows another."""

    loss: float
    ndcg_at_10: float
    phase: str = ""


def learning_curves(
    points: Sequence[CurvePoint], *, title: str, n_train: int, n_valid: int, step: str = "epoch"
) -> Figure:
    """Training loss, where measured, and validation nDCG@10 against steps from 1, side by side.

    A dashed line parts one phase from the next, a dotted one marks the best validated step. n_train, n_valid: lists
    trained on and lists validated on. step: what the points count, such as "tree".
    """
    loss, ndcg = [point.loss for point in points], [point.ndcg_at_10 for point in points]
    starts = [i for i in range(len(points)) if i == 0 or points[i].phase != points[i - 1].phase]
    measured = [(name, values) for name, values in (("training loss", loss),) if np.isfinite(values).any()]
    measured.append(("validation nDCG@10", ndcg))
    figure, axes = _figure(1.0 + 4.2 * len(measured), 3.8, n_axes=len(measured))
    figure.suptitle(f"{title}: {count(n_train, 'training list')}, {count(n_valid, 'validation list')}")
    for panel, (name, values) in zip(axes, measured, strict=True):
        _curve(panel, values, starts[1:], color=_BLUE if values is ndcg else _ORANGE)
        panel.set(xlabel=step, ylabel=name)
    if len(starts) > 1:
        ends = [*starts[1:], len(points)]
        phases = (f"{points[i].phase} {i + 1} to {end}" for i, end in zip(starts, ends, strict=True))
        axes[0].set_title(", ".join(phases), fontsize=9)
    if np.isfinite(ndcg).any():
        best = int(np.nanargmax(ndcg))
        axes[-1].axvline(best + 1, color=_GREY, linestyle=":", linewidth=1.5)
        axes[-1].set_title(f"best {ndcg[best]:.4f} at {step} {best + 1}", fontsize=9)
    return figure


def method_intervals(part: Slice, *, metric: str = LIFT_METRIC, title: str = "Test lists") -> Figure:
    """Every method's mean of `metric` with its 95% interval, in the order of the report from the top."""
    intervals = {name: metrics[metric] for name, metrics in part.methods.items()}
    figure, panel = _bars(intervals, signed=False)
    figure.suptitle(f"{title}: {count(part.n_lists, 'list')} of {count(part.n_users, 'user')}")
    panel.set(xlabel=f"mean {metric}, 95% interval over users", ylabel="method")
    return figure


def lift_intervals(lifts: Mapping[str, Interval], *, n_lists: int, n_users: int) -> Figure:
    """Paired differences with their 95% intervals and a line at zero; grey where the interval covers zero."""
    intervals = {name.replace("_over_", "\nover "): interval for name, interval in lifts.items()}
    figure, panel = _bars(intervals, signed=True)
    figure.suptitle(f"Lift: {count(n_lists, 'list')} of {count(n_users, 'user')}")
    panel.axvline(0.0, color="black", linewidth=1)
    panel.set(xlabel=f"difference in {LIFT_METRIC}, paired, 95% interval over users", ylabel="comparison")
    return figure


def slice_intervals(slices: Mapping[str, tuple[Interval, int]], *, metric: str = LIFT_METRIC) -> Figure:
    """One method's mean of `metric` with its 95% interval over slices of the lists, each with its number of lists."""
    intervals = {f"{name}\n{count(n, 'list')}": interval for name, (interval, n) in slices.items()}
    figure, panel = _bars(intervals, signed=False)
    figure.suptitle(f"Slices of the lists: {metric}")
    panel.set(xlabel=f"mean {metric}, 95% interval over users", ylabel="slice")
    return figure


def ledger(
    lines: Mapping[str, str],
    quality: Mapping[str, Interval],
    lifts: Mapping[str, Interval],
    cold_lifts: Mapping[str, Interval],
    *,
    over: str,
    n_lists: int,
    n_users: int,
) -> Figure:
    """Lines of the text-lift ledger from the top: nDCG@10, and the paired difference to line `over`, on all lists and
    on cold items. lines: name to what its label says beside the name. The others: by a line's name.
    """
    figure, panels = _figure(15.0, 1.8 + 0.6 * max(2, len(lines)), n_axes=3)
    figure.suptitle(f"Text-lift ledger: {count(n_lists, 'test list')} of {count(n_users, 'user')}")
    drawn = ((quality, False), (lifts, True), (cold_lifts, True))
    for panel, (intervals, signed) in zip(panels, drawn, strict=True):
        labels = {name: f"{name}\n{lines[name]}" if intervals is quality else name for name in intervals}
        _draw_bars(panel, {labels[name]: interval for name, interval in intervals.items()}, signed=signed)
        if signed:
            panel.axvline(0.0, color="black", linewidth=1)
        panel.set(ylabel="line of the ledger")
    panels[0].set(xlabel=f"mean {LIFT_METRIC}, 95% interval over users")
    panels[1].set(xlabel=f"difference to {over}, paired")
    panels[2].set(xlabel=f"difference to {over}, paired, cold items")
    return figure


def feature_importance(gain: Mapping[str, float], *, n_rows: int, n_trees: int) -> Figure:
    """The 30 columns with the largest share of the trees' total gain. n_rows: candidate rows trained on."""
    ranked = sorted(gain.items(), key=lambda entry: (-entry[1], entry[0]))
    total = sum(gain.values())
    shown = [(name, 100 * value / total if total > 0 else 0.0) for name, value in ranked[:_MAX_FEATURES]]
    figure, (panel,) = _figure(8.5, 1.6 + 0.24 * max(3, len(shown)))
    figure.suptitle(
        f"Feature importance: {len(shown)} of {count(len(gain), 'column')}, {count(n_rows, 'row')}, "
        f"{count(n_trees, 'tree')}"
    )
    panel.set(xlabel="share of the total gain, %", ylabel="feature")
    if not shown:
        _say(panel, "no features")
        return figure
    bars = panel.barh([name for name, _ in shown], [value for _, value in shown], color=_BLUE)
    panel.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.08, y=0.01)
    panel.tick_params(axis="y", labelsize=8)
    if not "".join(gain).isascii():
        installed = set(font_manager.get_font_names())
        families = ["DejaVu Sans", *(font for font in WIDE_FONTS if font in installed)]
        for label in panel.get_yticklabels():
            label.set_fontfamily(families)
    return figure


def _figure(width: float, height: float, *, n_axes: int = 1) -> tuple[Figure, list[Any]]:
    """A figure in inches with `n_axes` panels side by side, light grid, no frame at the top and right."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    panels = list(figure.subplots(1, n_axes, squeeze=False)[0])
    for panel in panels:
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _bars(intervals: Mapping[str, Interval], *, signed: bool) -> tuple[Figure, Any]:
    """Points with horizontal intervals, first one on top, each with its figures written at the right edge."""
    figure, (panel,) = _figure(8.5, 1.6 + 0.45 * max(2, len(intervals)))
    _draw_bars(panel, intervals, signed=signed)
    return figure, panel


def _draw_bars(panel: Any, intervals: Mapping[str, Interval], *, signed: bool) -> None:
    known = [not np.isnan(interval.mean) for interval in intervals.values()]
    if not any(known):
        _say(panel, "nothing to compare" if signed else "no lists to measure")
        return
    for row, interval in enumerate(intervals.values()):
        clear = not signed or interval.low > 0 or interval.high < 0
        color = _BLUE if clear else _GREY
        panel.plot([interval.low, interval.high], [row, row], color=color, linewidth=2.5, solid_capstyle="butt")
        panel.plot([interval.mean], [row], color=color, marker="o", markersize=6)
        panel.annotate(
            format_interval(interval, signed=signed),
            xy=(1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    panel.set_yticks(range(len(intervals)), list(intervals))
    panel.set_ylim(len(intervals) - 0.5, -0.5)
    panel.margins(x=0.08)


def _curve(panel: Any, values: Sequence[float], phase_starts: Sequence[int], *, color: str) -> None:
    """One line against 1, 2, …, with a dashed line before each phase that starts after the first."""
    if not np.isfinite(values).any():
        _say(panel, "not measured")
        return
    marker = "o" if len(values) <= _MARKED_POINTS else None
    panel.plot(np.arange(1, len(values) + 1), values, color=color, marker=marker, markersize=4)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for start in phase_starts:
        panel.axvline(start + 0.5, color=_GREY, linestyle="--", linewidth=1)


def _say(panel: Any, text: str) -> None:
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color=_GREY)
    panel.set(xticks=[], yticks=[])
