"""The vocabulary of features: what a column measures, from which reads, in which unit, and what missing means.

A feature is declared once and computed by either reader (`features.definitions.aggregates.FeatureReader`): the
arithmetic (`features.definitions.formulas`) is the same function of the same integers offline and online, so that
values agree to the last bit. No value depends on what else is in the batch. Where a candidate has several values of a
category, counts by it are means over them. Measures that count nothing are in
`features.definitions.attribute_measures`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from features.arrays import Float64, Int64
from features.clock import SECOND
from features.definitions.aggregates import (
    CLICK,
    DATED_CLICK,
    GLOBAL,
    IMPRESSION,
    USER,
    Aggregate,
    Count,
    FeatureReader,
    First,
    Key,
    Last,
    category_of,
    of_category,
    user_of_category,
)
from features.definitions.formulas import (
    COUNT,
    ELAPSED_INTERVALS,
    INTERVAL,
    LIFT,
    RATE,
    SHARE,
    SINCE,
    Formula,
    Formulas,
    ratio,
)
from features.tables.event_types import canonical_type

__all__ = [
    "CountOf",
    "ElapsedIntervals",
    "Feature",
    "Lift",
    "Rate",
    "Recency",
    "Share",
    "UsualInterval",
    "WeightedCount",
]
REQUEST_TIME = "request time"
PUBLICATION = "publication"
AFTER_THE_FACT = "afterwards"
"""Known only after its list, as an item's total sales are: the audit refuses it unless `allow_known_after` names it."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class FeatureFunction(ABC):
    """What a feature computes. A subclass defines its unit and its formula, and overrides defaults.

    low, high: smallest and largest possible value. available_from: since when the value is known, REQUEST_TIME or
    PUBLICATION. categorical: whether values are codes of a vocabulary.
    """

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = np.inf
    available_from: ClassVar[str] = REQUEST_TIME
    categorical: ClassVar[bool] = False

    @property
    @abstractmethod
    def unit(self) -> str:
        """The unit of the values."""

    @property
    def missing(self) -> str:
        """When the value is NaN."""
        return "never"

    def reads(self) -> tuple[Aggregate, ...]:
        """Every aggregate that `compute` reads."""
        return ()

    @abstractmethod
    def compute(self, reader: FeatureReader) -> Float64:
        """The value of each candidate row, (n_rows,)."""


@dataclass(frozen=True)
class FormulaMeasure(FeatureFunction):
    """What is a `Formula`: `features.matrix.columns` computes all of a catalogue together."""

    @property
    @abstractmethod
    def formula(self) -> Formula:
        """The formula of the values."""

    def reads(self) -> tuple[Aggregate, ...]:
        """Those of the formula."""
        return self.formula.reads

    def compute(self, reader: FeatureReader) -> Float64:
        """The value of each candidate row, (n_rows,)."""
        values: Float64 = np.empty(reader.requests.n_rows)
        Formulas([self.formula]).fill(reader, reader.requests.row_time(), slice(None), values[None])
        return values


@dataclass(frozen=True)
class Feature:
    """A named column. within_list: its percentile and z-score among the candidates of its list become columns too.
    monotone: 1 where more is never worse for the rank, -1 where less is not, 0 free; it binds those columns alike. doc:
    one sentence, which `recsys features list` prints. display_name: the name with the item column as the table spells
    it, where that differs, else "". group: what explanations add its contribution to.
    """

    name: str
    doc: str
    measure: FeatureFunction
    within_list: bool = False
    monotone: int = 0
    display_name: str = ""
    group: str = "custom"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"feature name: expected lower case letters, digits and underscores, got {self.name!r}")
        if self.monotone not in (-1, 0, 1):
            raise ValueError(f"feature {self.name!r}: expected monotone -1, 0 or 1, got {self.monotone!r}")
        if self.monotone and self.measure.categorical:
            raise ValueError(f"feature {self.name!r}: a category is never more or less; drop monotone={self.monotone}")
        if self.within_list and self.measure.categorical:
            raise ValueError(
                f"feature {self.name!r}: a category has no percentile among the candidates; drop within_list=True"
            )


@dataclass(frozen=True)
class CountOf(FormulaMeasure):
    """A count as it is, or its mean over the candidate's values where the key is a category."""

    read: Count

    @property
    def unit(self) -> str:
        """What is counted."""
        return _plural(self.read.event_type)

    @property
    def missing(self) -> str:
        """Only where a mean is over nothing."""
        return missing_when(self.read.key)

    @property
    def formula(self) -> Formula:
        """The count."""
        return Formula(COUNT, (self.read,))


@dataclass(frozen=True)
class Rate(FormulaMeasure):
    """Clicks per impression, smoothed towards the catalogue's rate: (clicks + weight * prior) / (impressions + weight).

    The prior is the catalogue's clicks per impression before the request, in the same window, from the same counters.
    Of other events likewise: likes per view. Above 1 where clicks come from beyond the logged lists. weight:
    impressions that the prior counts for.
    """

    clicks: Count
    impressions: Count
    weight: float

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"expected a weight of the prior above 0, got {self.weight!r}")

    @property
    def unit(self) -> str:
        """Clicks per impression."""
        return f"{_plural(self.clicks.event_type)} per {self.impressions.event_type}"

    @property
    def missing(self) -> str:
        """Where the prior has no impressions."""
        sampled_only = ", or only sampled lists exist" if self.impressions.event_type == IMPRESSION else ""
        return f"the catalogue has no {self.impressions.event_type} in the window{sampled_only}"

    @cached_property
    def formula(self) -> Formula:
        """Of both counts by their key and over the catalogue."""
        counts = (self.clicks, self.impressions)
        return Formula(RATE, (*counts, *(replace(count, key=GLOBAL) for count in counts)), self.weight)


@dataclass(frozen=True)
class Share(FormulaMeasure):
    """The share of the user's events that went to items with the candidate's category value."""

    unit: ClassVar[str] = "ratio"
    high: ClassVar[float] = 1.0
    missing: ClassVar[str] = "the user has no such event, or the item no value of the category"
    event_type: str
    column: str
    window: int | None = None

    @cached_property
    def formula(self) -> Formula:
        """Of the user's events with the category value, and all of them."""
        keys = (user_of_category(self.column), USER)
        return Formula(SHARE, tuple(Count(self.event_type, key, self.window) for key in keys))


@dataclass(frozen=True)
class Lift(FormulaMeasure):
    """The user's share of events on the candidate's category value, relative to the share over all users.

    ((category_events + weight * overall_share) / (user_events + weight)) / overall_share, where overall_share is the
    catalogue's share of the value: 1 for a user without events. weight: events that the overall share counts for.
    """

    unit: ClassVar[str] = "ratio of shares"
    missing: ClassVar[str] = "no user has such an event with the category value, or the item has no value"
    event_type: str
    column: str
    weight: float
    window: int | None = None

    @cached_property
    def formula(self) -> Formula:
        """Of the events with the category value and all of them, of the user and of the catalogue."""
        keys = (user_of_category(self.column), USER, of_category(self.column), GLOBAL)
        return Formula(LIFT, tuple(Count(self.event_type, key, self.window) for key in keys), self.weight)


@dataclass(frozen=True)
class Recency(FormulaMeasure):
    """Time since the latest event, or since the first one, at the request."""

    unit: ClassVar[str] = "seconds"
    missing: ClassVar[str] = "there is no such event with a date"
    read: Last | First

    @property
    def formula(self) -> Formula:
        """The time since the event."""
        return Formula(SINCE, (self.read,), float(SECOND))


@dataclass(frozen=True)
class UsualInterval(FormulaMeasure):
    """The usual time between two events with dates: their mean, from the first event to the latest one."""

    unit: ClassVar[str] = "seconds"
    missing: ClassVar[str] = "there are fewer than two such events with dates"
    event_type: str
    key: Key

    @property
    def formula(self) -> Formula:
        """The mean time between the events."""
        return Formula(INTERVAL, _series(self.event_type, self.key), float(SECOND))


@dataclass(frozen=True)
class ElapsedIntervals(FormulaMeasure):
    """Time since the latest event, in usual times between two: 1 when the next one is due."""

    unit: ClassVar[str] = "intervals"
    missing: ClassVar[str] = "there are fewer than two such events with dates, or all are at one time"
    event_type: str
    key: Key

    @property
    def formula(self) -> Formula:
        """The time since the latest event over the mean time between two."""
        return Formula(ELAPSED_INTERVALS, _series(self.event_type, self.key))


def _series(event_type: str, key: Key) -> tuple[Count, First, Last]:
    """How many events have a date, their first time and their last one."""
    dated = DATED_CLICK if canonical_type(event_type) == CLICK else event_type
    return Count(dated, key), First(event_type, key), Last(event_type, key)


@dataclass(frozen=True)
class WeightedCount(FeatureFunction):
    """Events of several types added up, each with a whole weight, so that sums are exact in any order.

    weights: event type to weight. `click` is any positive event: a like counts as a click too, and its own weight comes
    on top. key, window: as of a count. A mean over the candidate's values where the key is a category.
    """

    unit: ClassVar[str] = "weighted events"
    low: ClassVar[float] = -np.inf
    weights: Mapping[str, int]
    key: Key
    window: int | None = None

    def __post_init__(self) -> None:
        if not self.weights or not all(isinstance(weight, int) for weight in self.weights.values()):
            raise ValueError(f"expected whole weights by event type, such as {{'like': 3}}, got {self.weights!r}")
        self.reads()

    @property
    def missing(self) -> str:
        """Only where a mean is over nothing."""
        return missing_when(self.key)

    def reads(self) -> tuple[Count, ...]:
        """A count of each type."""
        return tuple(Count(event_type, self.key, self.window) for event_type in self.weights)

    def compute(self, reader: FeatureReader) -> Float64:
        """Weighted events, (n_rows,)."""
        total = np.zeros(reader.requests.n_rows, np.int64)
        for read, weight in zip(self.reads(), self.weights.values(), strict=True):
            total += weight * reader.count(read)
        return mean_over_categories(reader, total, self.key)


def missing_when(key: Key) -> str:
    """When a mean over the candidate's values of a category is missing; never for a key without one."""
    column = category_of(key)
    return "never" if column is None else f"the item has no {column}"


def _plural(event_type: str) -> str:
    return {CLICK: "clicks", DATED_CLICK: "clicks", IMPRESSION: "impressions"}.get(event_type, f"{event_type} events")


def mean_over_categories(reader: FeatureReader, counts: Int64, key: Key) -> Float64:
    """Counts, divided by the number of the candidate's values where they are kept by category; NaN for none."""
    column = category_of(key)
    return counts.astype(np.float64) if column is None else ratio(counts, reader.n_values(column))
