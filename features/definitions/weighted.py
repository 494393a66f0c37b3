"""Graded behaviours as one number: a click is worth less than a like, a like less than a purchase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from features.definitions.aggregates import Count, Key, Read, Reader
from features.definitions.event_measures import REQUEST_TIME, mean_of_values, without_value
from features.log import Float64


@dataclass(frozen=True)
class Weighted:
    """Events of several types added up, each with a whole weight, so that sums are exact in any order.

    weights: event type to weight. `click` is any positive event: a like counts as a click too, and its own weight comes
    on top. by, window: as of a count. A mean over the candidate's values where the key is a category.
    """

    unit: ClassVar[str] = "weighted events"
    low: ClassVar[float] = -np.inf
    high: ClassVar[float] = np.inf
    known: ClassVar[str] = REQUEST_TIME
    categorical: ClassVar[bool] = False
    weights: Mapping[str, int]
    by: Key
    window: int | None = None

    def __post_init__(self) -> None:
        if not self.weights or not all(isinstance(weight, int) for weight in self.weights.values()):
            raise ValueError(f"expected whole weights by event type, such as {{'like': 3}}, got {self.weights!r}")
        self.reads()

    @property
    def missing(self) -> str:
        """Only where a mean is over nothing."""
        return without_value(self.by)

    def reads(self) -> tuple[Read, ...]:
        """A count of each type."""
        return tuple(Count(what, self.by, self.window) for what in self.weights)

    def compute(self, reader: Reader) -> Float64:
        """Weighted events, (n_rows,)."""
        total = np.zeros(reader.requests.n_rows, np.int64)
        for what, weight in self.weights.items():
            total += weight * reader.count(Count(what, self.by, self.window))
        return mean_of_values(reader, total, self.by)
