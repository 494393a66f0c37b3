"""`data.positive`: which events of a positive type are clicks, by a number that each of them has.

The rule is a column of the events table, a comparison and a number: `value >= 4` for ratings from 1 to 5. It is parsed,
never evaluated as code. An event that does not meet it, or has no number, still is an event of its type: it counts for
features of that type and the item is touched, but it is no click.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import Bool, Float64

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_RULE = re.compile(rf"(?P<column>[^<>=!]*?)\s*(?P<operator>{'|'.join(OPERATORS)})\s*(?P<number>[^\s<>=!]*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_OTHER_COLUMNS = ("user_id", "item_id", "timestamp", "event_type", "impression_id", "event_id")


@dataclass(frozen=True)
class PositiveRule:
    """column: of the events table. comparison: one of `OPERATORS`. number: what the column is compared with."""

    column: str
    comparison: str
    number: float

    def __str__(self) -> str:
        number = int(self.number) if self.number.is_integer() and abs(self.number) < 1e15 else self.number
        return f"{self.column} {self.comparison} {number}"

    def is_met(self, value: float | None) -> bool:
        """Whether an event with this number meets the rule; one without a number does not."""
        return value is not None and bool(OPERATORS[self.comparison](value, self.number))

    def met_by(self, values: Float64) -> Bool:
        """`is_met` of each of the (n,) values, NaN where there is no number."""
        return np.asarray(OPERATORS[self.comparison](values, self.number) & ~np.isnan(values))


def parse_rule(text: str) -> PositiveRule:
    """The rule that a text such as `value >= 4` states. Raises ValueError, in one line, for anything else."""
    match = _RULE.fullmatch(text.strip())
    if match is None or not match["column"]:
        raise ValueError(
            f"expected COLUMN OP NUMBER, such as 'value >= 4', with OP one of {[*OPERATORS]}, got {text!r}"
        )
    column, number = match["column"], match["number"]
    if column in _OTHER_COLUMNS:
        raise ValueError(f"expected 'value' or another column of events that holds numbers, got {column!r}")
    if _NUMBER.fullmatch(number) is None or not math.isfinite(float(number)):
        raise ValueError(f"expected a finite number after {match['operator']!r}, got {number!r}")
    return PositiveRule(column, match["operator"], float(number))


def canonical_rule(text: str) -> str:
    """A rule as it is stored and compared: one blank between its parts. Raises ValueError as `parse_rule`."""
    return str(parse_rule(text))
