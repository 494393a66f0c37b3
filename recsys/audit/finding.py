"""The result of an audit rule: what it examined, and its findings, each with an example row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from features.clock import format_time
from recsys.metrics.jsonable import jsonable


@dataclass(frozen=True)
class Row:
    """One value that shows a finding. impression_id: None where it belongs to no list. time: microseconds.

    before, after: the feature's value without and with what must not change it, NaN where missing; one of them is None
    where there is a single value. Printed with nine digits, which tell any two float32 values apart.
    """

    item_id: str
    time: int
    impression_id: str | None = None
    before: float | None = None
    after: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN is None, the time ISO 8601."""
        return jsonable(self) | {"time": format_time(self.time)}  # type: ignore[no-any-return]

    def __str__(self) -> str:
        where = f"item {self.item_id} at {format_time(self.time)}"
        if self.impression_id is not None:
            where = f"list {self.impression_id}, {where}"
        if self.before is None and self.after is None:
            return where
        if self.before is None or self.after is None:
            value = self.after if self.before is None else self.before
            return f"{where}: {value:.9g}"
        return f"{where}: {self.before:.9g} became {self.after:.9g}"


@dataclass(frozen=True)
class Finding:
    """A feature that breaks a rule. evidence: in words and figures. advice: what to do about it. row: one that shows
    it, None where no single row does. feature "" is the model as a whole.
    """

    rule: str
    feature: str
    evidence: str
    advice: str
    row: Row | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rule": self.rule,
            "feature": self.feature or None,
            "what": self.evidence,
            "advice": self.advice,
            "row": None if self.row is None else self.row.as_dict(),
        }

    def lines(self) -> list[str]:
        """For a terminal: the finding, its row, what to do."""
        row = [] if self.row is None else [f"    row: {self.row}"]
        return [f"[{self.rule}] {self.feature or 'the model'}: {self.evidence}", *row, f"    do: {self.advice}"]

    def __str__(self) -> str:
        row = "" if self.row is None else f" ({self.row})"
        return f"{self.feature or 'the model'} breaks rule {self.rule!r}: {self.evidence}{row}; {self.advice}"


@dataclass(frozen=True)
class RuleResult:
    """The outcome of one rule. examined: what it examined, in a few words with counts."""

    rule: str
    examined: str
    findings: tuple[Finding, ...] = ()
