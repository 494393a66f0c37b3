"""Whether column `value` of events looks like ratings, which all count as clicks unless a rule says which do.

Ratings are few distinct whole or half numbers, and some of them are low: 1 to 5, 0.5 to 5, 0 and 1.
"""

from __future__ import annotations

import shlex

import numpy as np

from features.arrays import Float64
from features.tables.positive_rule import PositiveRule

_MOST_LEVELS = 21
_LOWEST, _HIGHEST = -10, 10
_LIKED = 0.75
"""How far up the scale the example of a rule begins."""


class ValuesSeen:
    """The distinct numbers of a column, batch by batch. levels: ascending; more than 21 are not kept apart."""

    def __init__(self) -> None:
        self.levels: Float64 = np.zeros(0)

    def add(self, values: Float64) -> None:
        """Add a batch, NaN where there is no number."""
        if len(self.levels) <= _MOST_LEVELS:
            self.levels = np.union1d(self.levels, values[~np.isnan(values)])[: _MOST_LEVELS + 1]

    @property
    def look_like_ratings(self) -> bool:
        """Whether they are a scale of ratings, low ones among them."""
        levels = self.levels
        if not 2 <= len(levels) <= _MOST_LEVELS or levels[0] < _LOWEST or levels[-1] > _HIGHEST:
            return False
        return bool((levels * 2 == np.floor(levels * 2)).all()) and bool(levels[0] <= levels[-1] / 2)

    def example(self) -> PositiveRule:
        """A rule that takes the upper ratings as clicks."""
        from_here = self.levels[0] + _LIKED * (self.levels[-1] - self.levels[0])
        return PositiveRule("value", ">=", float(self.levels[self.levels >= from_here][0]))


def rating_warnings(values: ValuesSeen) -> list[str]:
    """values: of events of which no rule says which are clicks."""
    if not values.look_like_ratings:
        return []
    listed, setting = ", ".join(f"{level:g}" for level in values.levels), f"data.positive={values.example()}"
    return [
        f"events.value holds {listed}, which look like ratings, but every event counts as a click whatever its value; "
        f"if they are ratings, say which are clicks: --set {shlex.quote(setting)}"
    ]
