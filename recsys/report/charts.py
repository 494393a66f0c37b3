"""Charts as SVG in the page: they take its width, its font and its colours, and hold no text that shrinks with them.

Colours are classes that the style sheet fills, so that a chart is legible on light and dark alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from recsys.metrics.bootstrap import Interval
from recsys.report.html import Html, breakable, element

_EDGE = 3.0  # per cent of a strip's width left free at both ends, so that the last tick's number is not cut


@dataclass(frozen=True)
class Strip:
    """One row of a chart of intervals. label, note: what it is, in large and in small. figure: its numbers as text."""

    label: str
    interval: Interval
    figure: str
    note: str = ""


def interval_chart(rows: Sequence[Strip], *, of: str, axis: str, zero: bool = False, from_zero: bool = False) -> Html:
    """Rows with a mean as a dot and its interval as a line, on one axis. zero: mark it, and grey out what covers it.

    of: what a row is. axis: what the axis measures. from_zero: let it begin there, for sizes. A row
    without a mean has no mark.
    """
    known = [v for row in rows for v in (row.interval.low, row.interval.mean, row.interval.high) if v == v]
    scale = _Scale.over([*known, *([0.0] if zero or from_zero else [])])
    body = [
        element(
            "div",
            {"class": "strip"},
            element("div", {"class": "label"}, breakable(row.label)),
            element("small", {"class": "note"}, row.note),
            _mark(row.interval, scale, zero=zero),
            element("div", {"class": "figure"}, row.figure),
        )
        for row in rows
    ]
    ticks = element(
        "svg", {"class": "ticks", "aria-hidden": "true"}, *(_tick_text(tick, scale) for tick in scale.ticks)
    )
    end = element("div", {"class": "strip axis"}, ticks)
    return _rows(of, [*body, end], axis)


@dataclass(frozen=True)
class Series:
    """A line over steps from 1. phases: name of each phase and the step before which it begins, the first at 0."""

    values: Sequence[float]
    phases: Sequence[tuple[str, int]] = ()


def line_chart(series: Series, *, x: str, y: str, best: bool = False) -> Html:
    """A line against its steps, both axes labelled. best: a dotted line at the highest step. NaN is left out."""
    shown = [(step, value) for step, value in enumerate(series.values, start=1) if value == value]
    frame = _Frame.over([step for step, _ in shown], [value for _, value in shown], whole=True)
    path = " ".join(f"{frame.left_of(step):.1f},{frame.top_of(value):.1f}" for step, value in shown)
    marks = [element("polyline", {"class": "line", "points": path})]
    if len(shown) <= 60:
        marks += [_dot(frame, step, value) for step, value in shown]
    for name, start in series.phases:
        if start:
            marks.append(_vertical(frame, start + 0.5, "phase"))
        marks.append(_text(frame.left_of(start + 0.5) + 4, frame.top - 5, name, "start"))
    if best and shown:
        marks.append(_vertical(frame, max(shown, key=lambda point: point[1])[0], "best"))
    return frame.chart(marks, x=x, y=y)


def reliability_chart(points: Sequence[tuple[float, Interval]], *, x: str, y: str) -> Html:
    """Points with vertical intervals against a diagonal. points: (predicted, observed)."""
    across = [0.0, *(predicted for predicted, _ in points)]
    up = [0.0, *(v for _, one in points for v in (one.low, one.mean, one.high) if v == v)]
    limit = max(*across, *up)
    frame = _Frame.over([0.0, limit], [0.0, limit])
    corner = min(frame.x.high, frame.y.high)
    marks = [_line(frame, (0, 0), (corner, corner), "diagonal")]
    marks += [_line(frame, (at, one.low), (at, one.high), "whisker") for at, one in points if one.low == one.low]
    marks += [_dot(frame, at, one.mean) for at, one in points]
    return frame.chart(marks, x=x, y=y)


def bars(values: Mapping[str, float], *, of: str, axis: str, figure: str = "{:.1f}") -> Html:
    """Rows with a bar from zero. values: at least 0. of: what a row is. figure: how a value is written."""
    most = max(values.values(), default=0.0)
    body = []
    for name, value in values.items():
        share = 100 * value / most if most > 0 else 0.0
        place = {"x": "0", "y": "20%", "height": "60%", "width": f"{share:.2f}%"}
        bar = _strip_mark([element("rect", {"class": "bar", **place})])
        label = element("div", {"class": "label"}, breakable(name))
        body.append(
            element("div", {"class": "strip"}, label, bar, element("div", {"class": "figure"}, figure.format(value)))
        )
    return _rows(of, body, axis)


def _rows(of: str, body: Sequence[Html], axis: str) -> Html:
    head, foot = element("div", {"class": "head"}, of), element("div", {"class": "axis-label"}, axis)
    return element("div", {"class": "strips"}, head, *body, foot)


@dataclass(frozen=True)
class _Scale:
    """A range of values that begins and ends at a tick."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], *, most: int = 4, whole: bool = False) -> _Scale:
        low, high = (min(values), max(values)) if len(values) else (0.0, 1.0)
        if low == high:
            low, high = low - (0 if whole else 0.01), high + (1 if whole else 0.01)
        locator = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10], integer=whole)
        ticks = [float(tick) for tick in locator.tick_values(low, high)]
        return cls(min(low, ticks[0]), max(high, ticks[-1]), tuple(ticks))

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: float) -> str:
        return f"{_EDGE + (100 - 2 * _EDGE) * self.share(value):.2f}%"


@dataclass(frozen=True)
class _Frame:
    """The plane of a chart with two axes, in the units of its view box."""

    x: _Scale
    y: _Scale
    width: float = 360
    height: float = 230
    left: float = 58
    right: float = 350
    top: float = 24
    bottom: float = 186

    @classmethod
    def over(cls, across: Sequence[float], up: Sequence[float], *, whole: bool = False) -> _Frame:
        return cls(_Scale.over(across, most=6, whole=whole), _Scale.over(up))

    def left_of(self, value: float) -> float:
        return self.left + (self.right - self.left) * self.x.share(value)

    def top_of(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * self.y.share(value)

    def chart(self, marks: Sequence[Html], *, x: str, y: str) -> Html:
        grid = [_line(self, (self.x.low, tick), (self.x.high, tick), "grid") for tick in self.y.ticks]
        numbers = [_text(self.left - 6, self.top_of(tick) + 4, _number(tick), "end") for tick in self.y.ticks]
        numbers += [_text(self.left_of(tick), self.bottom + 16, _number(tick), "middle") for tick in self.x.ticks]
        middle = (self.top + self.bottom) / 2
        turned = {"transform": f"rotate(-90 11 {middle})", "x": "11", "y": f"{middle}", "text-anchor": "middle"}
        names = [
            _text((self.left + self.right) / 2, self.height - 10, x, "middle"),
            element("text", {"class": "name", **turned}, y),
        ]
        box = {"class": "chart", "viewBox": f"0 0 {self.width:g} {self.height:g}", "role": "img"}
        return element("svg", {**box, "aria-label": f"{y} against {x}"}, *grid, *numbers, *names, *marks)


def _mark(interval: Interval, scale: _Scale, *, zero: bool) -> Html:
    parts = [_upright(scale.percent(tick), "grid") for tick in scale.ticks]
    if zero:
        parts.append(_upright(scale.percent(0.0), "zero"))
    clear = not zero or interval.low > 0 or interval.high < 0
    kind = "clear" if clear else "unclear"
    if interval.low == interval.low:
        ends = {"x1": scale.percent(interval.low), "x2": scale.percent(interval.high), "y1": "50%", "y2": "50%"}
        parts.append(element("line", {"class": f"interval {kind}", **ends}))
    if interval.mean == interval.mean:
        place = {"cx": scale.percent(interval.mean), "cy": "50%", "r": "5"}
        parts.append(element("circle", {"class": f"mean {kind}", **place}))
    return _strip_mark(parts)


def _strip_mark(parts: Sequence[Html]) -> Html:
    return element("div", {"class": "mark"}, element("svg", {"aria-hidden": "true"}, *parts))


def _upright(at: str, kind: str) -> Html:
    return element("line", {"class": kind, "x1": at, "x2": at, "y1": "0", "y2": "100%"})


def _tick_text(tick: float, scale: _Scale) -> Html:
    return element("text", {"x": scale.percent(tick), "y": "12", "text-anchor": "middle"}, _number(tick))


def _number(value: float) -> str:
    return f"{0.0 if np.isclose(value, 0.0, atol=1e-12) else value:.4g}"


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return element("text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}, text)


def _dot(frame: _Frame, x: float, y: float) -> Html:
    place = {"cx": f"{frame.left_of(x):.1f}", "cy": f"{frame.top_of(y):.1f}", "r": "3.5"}
    return element("circle", {"class": "mean clear", **place})


def _vertical(frame: _Frame, x: float, kind: str) -> Html:
    return _line(frame, (x, frame.y.low), (x, frame.y.high), kind)


def _line(frame: _Frame, start: tuple[float, float], end: tuple[float, float], kind: str) -> Html:
    places = {
        "x1": f"{frame.left_of(start[0]):.1f}",
        "y1": f"{frame.top_of(start[1]):.1f}",
        "x2": f"{frame.left_of(end[0]):.1f}",
        "y2": f"{frame.top_of(end[1]):.1f}",
    }
    return element("line", {"class": kind, **places})
