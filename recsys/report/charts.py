"""Charts as values: their data and the positions of their marks. Templates under `templates/charts` draw them as SVG.

A chart takes the width, the font and the colours of its page and holds no text that shrinks with it. Colours are
classes of the style sheet, so that a chart is legible on light and dark alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import ClassVar

from matplotlib.ticker import MaxNLocator

from recsys.metrics.bootstrap import Interval
from recsys.metrics.calibration import Bin

_EDGE = 3.0  # per cent of a strip's width left free at both ends, so that the last tick's number is not cut


@dataclass(frozen=True)
class Scale:
    """A range of values that begins and ends at a tick."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], *, max_ticks: int = 4, whole: bool = False) -> Scale:
        """The scale that holds every value, 0 to 1 where there is none. whole: ticks are whole numbers."""
        low, high = (min(values), max(values)) if len(values) else (0.0, 1.0)
        if low == high:
            low, high = low - (0 if whole else 0.01), high + (1 if whole else 0.01)
        locator = MaxNLocator(nbins=max_ticks, steps=[1, 2, 2.5, 5, 10], integer=whole)
        ticks = [float(tick) for tick in locator.tick_values(low, high)]
        return cls(min(low, ticks[0]), max(high, ticks[-1]), tuple(ticks))

    def share(self, value: float) -> float:
        """How far along the scale a value is, 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: float) -> str:
        """The same as a coordinate of SVG, with the edges left free."""
        return f"{_EDGE + (100 - 2 * _EDGE) * self.share(value):.2f}%"


@dataclass(frozen=True)
class IntervalRow:
    """One row of a chart of intervals. figure: its numbers as text. note: stands below the label, in small. is_text:
    the label is a text of the data, not a name; it keeps its own direction as a whole."""

    label: str
    interval: Interval
    figure: str
    note: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class IntervalChart:
    """Rows with a mean as a dot and its interval as a line, on one axis; a row without a mean has no mark.

    row_name: what a row is. axis: what the axis measures. mark_zero: draw a line there and grey out the intervals that
    cover it. from_zero: the axis begins there, for sizes.
    """

    template: ClassVar[str] = "charts/intervals.html"
    rows: Sequence[IntervalRow]
    row_name: str
    axis: str
    mark_zero: bool = False
    from_zero: bool = False

    @property
    def scale(self) -> Scale:
        """The axis."""
        ends = [end for row in self.rows for end in astuple(row.interval) if end == end]
        return Scale.over([*ends, 0.0] if self.mark_zero or self.from_zero else ends)

    def is_clear(self, interval: Interval) -> bool:
        """False where zero matters and the interval covers it or is not known."""
        return not self.mark_zero or interval.low > 0 or interval.high < 0


@dataclass(frozen=True)
class BarChart:
    """Rows with a bar from zero. values: at least 0, by the row's name. row_name, axis: as in `IntervalChart`."""

    template: ClassVar[str] = "charts/bars.html"
    values: Mapping[str, float]
    row_name: str
    axis: str

    @property
    def largest(self) -> float:
        """The value of the longest bar, 1 where no bar has a length."""
        return max(self.values.values(), default=0.0) or 1.0


@dataclass(frozen=True)
class Plane:
    """The area between two axes, in the units of the chart's view box."""

    width: ClassVar[float] = 360
    height: ClassVar[float] = 230
    left: ClassVar[float] = 58
    right: ClassVar[float] = 350
    top: ClassVar[float] = 24
    bottom: ClassVar[float] = 186
    x: Scale
    y: Scale

    def left_of(self, value: float) -> float:
        """The horizontal coordinate of a value on the x axis."""
        return round(self.left + (self.right - self.left) * self.x.share(value), 1)

    def top_of(self, value: float) -> float:
        """The vertical coordinate of a value on the y axis."""
        return round(self.bottom - (self.bottom - self.top) * self.y.share(value), 1)


@dataclass(frozen=True)
class LineChart:
    """A line against steps from 1; NaN is left out.

    x, y: names of the axes. phases: name of each phase and the step before which it begins, the first at 0. mark_best:
    a dotted line at the step with the highest value.
    """

    template: ClassVar[str] = "charts/line.html"
    values: Sequence[float]
    caption: str
    x: str
    y: str
    phases: Sequence[tuple[str, int]] = ()
    mark_best: bool = False

    @property
    def points(self) -> list[tuple[int, float]]:
        """Step and value, where there is one."""
        return [(step, value) for step, value in enumerate(self.values, start=1) if value == value]

    @property
    def plane(self) -> Plane:
        """The axes."""
        steps, values = [step for step, _ in self.points], [value for _, value in self.points]
        return Plane(Scale.over(steps, max_ticks=6, whole=True), Scale.over(values))

    @property
    def best_step(self) -> int | None:
        """The first step with the highest value, where it is to be marked."""
        return max(self.points, key=lambda point: point[1])[0] if self.mark_best and self.points else None


@dataclass(frozen=True)
class ReliabilityChart:
    """Predicted against observed probability: points with vertical intervals beside a diagonal."""

    template: ClassVar[str] = "charts/reliability.html"
    bins: Sequence[Bin]
    caption: str
    x: str
    y: str

    @property
    def plane(self) -> Plane:
        """The axes, both from 0 to the same value."""
        ends = [end for bin_ in self.bins for end in (bin_.predicted, *astuple(bin_.clicked)) if end == end]
        limit = max([0.0, *ends])
        return Plane(Scale.over([0.0, limit], max_ticks=6), Scale.over([0.0, limit]))

    @property
    def corner(self) -> float:
        """Where the diagonal ends."""
        return min(self.plane.x.high, self.plane.y.high)


Chart = IntervalChart | BarChart | LineChart | ReliabilityChart
