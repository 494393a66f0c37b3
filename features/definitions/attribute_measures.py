"""Measures that count nothing: age, the history's length, hour and weekday, and the columns of the items table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from features.arrays import Float64
from features.clock import DAY, MINUTE
from features.definitions.aggregates import FeatureReader
from features.definitions.event_measures import PUBLICATION, FeatureFunction
from features.definitions.formulas import elapsed, smallest_of_values
from features.kernels.history_cosine import history_cosines
from features.tables.time_zones import local_of_utc

__all__ = ["Age", "HistoryLength", "Hour", "ItemCategory", "ItemNumber", "VectorSimilarity", "Weekday"]
_MONDAY = 3
"""Days from the Monday before to 1 January 1970, a Thursday."""


@dataclass(frozen=True)
class Age(FeatureFunction):
    """Time since the item was published; 0 for an item shown before its stated publication."""

    unit: ClassVar[str] = "days"
    missing: ClassVar[str] = "the item has no published_at"
    available_from: ClassVar[str] = PUBLICATION

    def compute(self, reader: FeatureReader) -> Float64:
        """Days, (n_rows,)."""
        published = reader.catalog.published_at[reader.requests.item]
        return np.maximum(elapsed(reader.requests.row_time(), published, float(DAY)), 0.0)


@dataclass(frozen=True)
class HistoryLength(FeatureFunction):
    """How many distinct items the user's history holds, at most as many as the encoder reads."""

    unit: ClassVar[str] = "items"
    high: ClassVar[float] = 50.0

    def compute(self, reader: FeatureReader) -> Float64:
        """Items, (n_rows,)."""
        return np.repeat(reader.histories.items.lengths(), reader.requests.lengths()).astype(np.float64)


@dataclass(frozen=True)
class Hour(FeatureFunction):
    """Hour of the request in the configured time zone, with its fraction."""

    unit: ClassVar[str] = "hours since midnight"
    high: ClassVar[float] = 24.0

    def compute(self, reader: FeatureReader) -> Float64:
        """Hours, (n_rows,)."""
        local = local_of_utc(reader.requests.time, reader.timezone)
        return _to_rows(reader, local % DAY // MINUTE / 60)


@dataclass(frozen=True)
class Weekday(FeatureFunction):
    """Day of the week of the request in the configured time zone, Monday 0."""

    unit: ClassVar[str] = "days since Monday"
    high: ClassVar[float] = 6.0

    def compute(self, reader: FeatureReader) -> Float64:
        """Days, (n_rows,)."""
        local = local_of_utc(reader.requests.time, reader.timezone)
        return _to_rows(reader, ((local // DAY + _MONDAY) % 7).astype(np.float64))


@dataclass(frozen=True)
class ItemNumber(FeatureFunction):
    """A numeric column of the items table."""

    unit: ClassVar[str] = "as in the items table"
    low: ClassVar[float] = -np.inf
    missing: ClassVar[str] = "the item has no such number"
    available_from: ClassVar[str] = PUBLICATION
    column: str

    def compute(self, reader: FeatureReader) -> Float64:
        """The number, (n_rows,)."""
        return reader.catalog.numbers[self.column][reader.requests.item]


@dataclass(frozen=True)
class ItemCategory(FeatureFunction):
    """A categorical column of the items table as a position in `vocabulary`, which is stored with the model.

    Of several values the first in the vocabulary counts.
    """

    unit: ClassVar[str] = "position in the vocabulary"
    missing: ClassVar[str] = "the item has no value, or none of the vocabulary"
    available_from: ClassVar[str] = PUBLICATION
    categorical: ClassVar[bool] = True
    column: str
    vocabulary: tuple[str, ...]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {value: position for position, value in enumerate(self.vocabulary)}

    def compute(self, reader: FeatureReader) -> Float64:
        """Position, (n_rows,)."""
        positions = self._positions
        column = reader.catalog.categories[self.column]
        position_of_value = np.array([positions.get(value, np.inf) for value in column.values] or [np.inf])
        return smallest_of_values(column.codes.offsets, column.codes.codes, reader.requests.item, position_of_value)


@dataclass(frozen=True)
class VectorSimilarity(FeatureFunction):
    """Cosine of the item's vector with the mean vector of the history's items, from a vector column of the items."""

    unit: ClassVar[str] = "cosine"
    low: ClassVar[float] = -1.0
    high: ClassVar[float] = 1.0
    missing: ClassVar[str] = "the item has no vector, or no item of the history has one"
    available_from: ClassVar[str] = PUBLICATION
    column: str

    def compute(self, reader: FeatureReader) -> Float64:
        """Cosine, (n_rows,)."""
        return history_cosines(reader.catalog.vectors[self.column], reader.histories.items, reader.requests)


def _to_rows(reader: FeatureReader, values: Float64) -> Float64:
    return np.repeat(values, reader.requests.lengths())
