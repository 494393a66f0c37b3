"""What differs between the origins of two sides of a comparison: settings, data, code, libraries, machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.evaluation.text_table import text_table

NOT_RECORDED = "-"
_LONGEST_CELL = 60


@dataclass(frozen=True)
class RunDifference:
    """A value that differs. a, b: of the runs of each side, distinct ones in order; `NOT_RECORDED` where a run has
    none."""

    name: str
    a: tuple[str, ...]
    b: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "a": list(self.a), "b": list(self.b)}


def run_differences(a: Sequence[Mapping[str, str]], b: Sequence[Mapping[str, str]]) -> tuple[RunDifference, ...]:
    """The values that are not the same in all runs of both sides, in the order of their names.

    a, b: of each run of a side, values by name.
    """
    names = sorted({name for values in (*a, *b) for name in values})
    compared = (RunDifference(name, _distinct(name, a), _distinct(name, b)) for name in names)
    return tuple(found for found in compared if found.a != found.b or len(found.a) > 1)


def differences_text(differences: Sequence[RunDifference]) -> str:
    """A table for a person."""
    rows = [["differs", "A", "B"]]
    rows += [[found.name, _cell(found.a), _cell(found.b)] for found in differences]
    return text_table(rows)


def _distinct(name: str, runs: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values.get(name, NOT_RECORDED) for values in runs))


def _cell(values: Sequence[str]) -> str:
    text = ", ".join(values)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"
