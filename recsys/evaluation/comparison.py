"""Two evaluations compared list by list, over all lists and by slice, with intervals over users.

Reads the metrics of every list as `Evaluation.per_impression_frame` gives them. A side may be several runs, trainings
of one configuration with other seeds: its value for a list is the mean over them, and how far they lie apart is
reported beside the interval, which covers the choice of users alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from features.arrays import Float64
from recsys.errors import ComparisonError
from recsys.evaluation.report import LIFT_METRIC, count, format_interval, verdict
from recsys.evaluation.run_differences import RunDifference, differences_text, run_differences
from recsys.evaluation.slices import ALL, COLD_ITEMS, FEW_USERS, SliceResult, measure_slices
from recsys.evaluation.text_table import text_table
from recsys.metrics.bootstrap import LEVEL, Interval
from recsys.metrics.jsonable import jsonable
from recsys.metrics.ranking import METRICS

SAME_LIST = ("impression_id", "user_id", "time", "candidates", "clicked")
"""Columns that agree where two tables hold the same list."""


@dataclass(frozen=True)
class ComparedRun:
    """A run or version. name: as the user gave it. frame: the metrics of its lists, a row each. n_seen: lists left out
    because it was trained on their labels. run_id: of the evaluation, "" for one that is not recorded. origin: of its
    training, settings, data, code, libraries and machine by name; empty where it is not recorded."""

    name: str
    frame: pd.DataFrame
    n_seen: int = 0
    run_id: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparedRuns:
    """One side of a comparison: trainings of one configuration with several seeds, or a single one."""

    runs: tuple[ComparedRun, ...]

    @property
    def name(self) -> str:
        """All names in one text."""
        return ", ".join(run.name for run in self.runs)


@dataclass(frozen=True)
class SeedSpread:
    """Means of the runs of one side over the lists compared."""

    means: tuple[float, ...]

    @property
    def deviation(self) -> float:
        """Standard deviation of the runs' means; NaN for one run."""
        return float(np.std(self.means, ddof=1)) if len(self.means) > 1 else np.nan


@dataclass(frozen=True)
class Comparison:
    """A against B on the lists that all their runs hold. slices: all lists first; the intervals of each are of A, of B
    and of A - B. seeds: of A and of B."""

    a: ComparedRuns
    b: ComparedRuns
    method: str
    metric: str
    slices: tuple[SliceResult, ...]
    seeds: tuple[SeedSpread, SeedSpread]

    @property
    def difference(self) -> Interval:
        """A - B over all lists."""
        return self.slices[0].intervals[2]

    @property
    def seed_error(self) -> float:
        """Standard error of the difference from the runs' spread alone; NaN where a side has one run."""
        return float(np.sqrt(sum(spread.deviation**2 / len(spread.means) for spread in self.seeds)))

    @property
    def expected_false_positives(self) -> float:
        """Expected number of significant slices where A and B are equally good."""
        return (1 - LEVEL) * len(self._judged())

    @property
    def differences(self) -> tuple[RunDifference, ...]:
        """What differs between the trainings of both sides."""
        return run_differences([run.origin for run in self.a.runs], [run.origin for run in self.b.runs])

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys compare --json`; None for NaN."""
        whole = self.slices[0]
        return {
            "method": self.method,
            "metric": self.metric,
            "paired": {"lists": whole.n_lists, "users": whole.n_users},
            "a": self._side_dict(self.a, self.seeds[0], whole.intervals[0]),
            "b": self._side_dict(self.b, self.seeds[1], whole.intervals[1]),
            "difference": jsonable(self.difference),
            "verdict": _verdict_text(whole),
            "seed_error": jsonable(self.seed_error),
            "slices": [_slice_dict(result) for result in self.slices[1:]],
            "slices_told_apart": self._n_significant(),
            "slices_told_apart_by_luck": self.expected_false_positives,
            "differences": [found.as_dict() for found in self.differences],
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        whole = self.slices[0]
        rows = [["slice", "lists", "users", "A", "B", "A - B", ""]]
        for result in self.slices:
            a, b, difference = result.intervals
            figures = (format_interval(a), format_interval(b), format_interval(difference, signed=True))
            rows.append([*result.cells(), *figures, _verdict_text(result)])
        return [
            f"A: {self.a.name}",
            f"B: {self.b.name}",
            f"{self.method}, {self.metric} on {count(whole.n_lists, 'list')} of {count(whole.n_users, 'user')} "
            "that both have. Mean [95% over users]",
            "",
            text_table(rows),
            "",
            *self.notes(),
            *(["", differences_text(self.differences)] if self.differences else []),
        ]

    def notes(self) -> list[str]:
        """What to know when reading the figures: lists left out, the spread of seeds, chance."""
        return [*self._seen_lines(), *self._seed_lines(), *self._chance_lines()]

    def verdict_of(self, result: SliceResult) -> str:
        """Which side is better on a slice, in words."""
        return _verdict_text(result)

    def _judged(self) -> list[SliceResult]:
        return [result for result in self.slices[1:] if not np.isnan(result.intervals[2].low)]

    def _n_significant(self) -> int:
        return sum(verdict(result.intervals[2]) in ("better", "worse") for result in self._judged())

    def _side_dict(self, side: ComparedRuns, seeds: SeedSpread, interval: Interval) -> dict[str, Any]:
        return {
            "asked": [run.name for run in side.runs],
            "lists": [len(run.frame) for run in side.runs],
            "left_out_as_seen": [run.n_seen for run in side.runs],
            "value": jsonable(interval),
            "seeds": jsonable({"means": seeds.means, "deviation": seeds.deviation}),
        }

    def _seen_lines(self) -> list[str]:
        return [
            f"{run.name}: left out {count(run.n_seen, 'list')} whose labels it had learnt from"
            for run in (*self.a.runs, *self.b.runs)
            if run.n_seen
        ]

    def _seed_lines(self) -> list[str]:
        lines = [
            f"{name} over {len(spread.means)} runs: {' '.join(f'{mean:.4f}' for mean in spread.means)}, "
            f"standard deviation {spread.deviation:.4f}"
            for name, spread in zip("AB", self.seeds, strict=True)
            if len(spread.means) > 1
        ]
        if np.isnan(self.seed_error):
            return [
                *lines,
                "The interval covers the choice of users, not the luck of a training's seed: name several runs a side, "
                "A1,A2,A3, to see that too.",
            ]
        return [*lines, f"Standard error of A - B from the seeds alone: {self.seed_error:.4f}"]

    def _chance_lines(self) -> list[str]:
        judged = len(self._judged())
        if not judged:
            return []
        return [
            f"{judged} slices tested: about {self.expected_false_positives:.1f} significant differences expected by "
            f"chance; {self._n_significant()} found. Decide on all lists; a slice says where to look."
        ]


def compare(
    a: ComparedRuns, b: ComparedRuns, *, method: str = "ranker", metric: str = LIFT_METRIC, resamples: int, seed: int
) -> Comparison:
    """Compare on the lists that every run of both sides has, with a clicked and an unclicked item.

    Slices are made from the first run of A. Raises ComparisonError where a run lacks the metric, or no list is in
    all of them; the message counts them. resamples, seed: of the intervals.
    """
    if metric not in METRICS:
        raise ComparisonError(f"metric {metric!r}: expected one of {list(METRICS)}")
    column = f"{method}_{metric}"
    runs, n_a, n_b = (*a.runs, *b.runs), len(a.runs), len(b.runs)
    prefixes = ["", *([COLD_ITEMS] if all(f"{COLD_ITEMS}{column}" in run.frame for run in runs) else [])]
    paired = _paired(runs, [f"{prefix}{column}" for prefix in prefixes])
    values = {prefix: _sides(paired, f"{prefix}{column}", n_a, n_b) for prefix in prefixes}
    slices = measure_slices(paired, values, resamples=resamples, seed=seed)
    if not slices or slices[0].attribute != ALL:
        raise ComparisonError(f"none of the {len(paired):,} lists in common has a clicked and an unclicked item")
    tested = paired[~np.isnan(values[""]).any(axis=1)]
    means = [float(tested[f"{column} {i}"].mean()) for i in range(n_a + n_b)]
    return Comparison(a, b, method, metric, slices, (SeedSpread(tuple(means[:n_a])), SeedSpread(tuple(means[n_a:]))))


def _paired(runs: Sequence[ComparedRun], columns: Sequence[str]) -> pd.DataFrame:
    """The lists that all runs hold: the first run's frame with each run's columns as `COLUMN i`."""
    numbered = []
    for i, run in enumerate(runs):
        missing = [column for column in columns if column not in run.frame]
        if missing:
            suffix = f"_{LIFT_METRIC}"
            methods = [column.removesuffix(suffix) for column in map(str, run.frame) if column.endswith(suffix)]
            present = sorted(method for method in methods if not method.startswith(COLD_ITEMS))
            raise ComparisonError(f"{run.name!r} has no {missing[0]!r}; its methods are {present}")
        renamed = {column: f"{column} {i}" for column in columns}
        selected = run.frame if i == 0 else run.frame[[*SAME_LIST, *columns]]
        numbered.append(selected.rename(columns=renamed))
    paired = reduce(lambda left, right: left.merge(right, on=list(SAME_LIST), how="inner"), numbered)
    if not len(paired):
        counts = "; ".join(
            f"{run.name}: {count(len(run.frame), 'list')}"
            + (
                f" from {run.frame['time'].min():%Y-%m-%d} to {run.frame['time'].max():%Y-%m-%d}"
                if len(run.frame)
                else ""
            )
            for run in runs
        )
        raise ComparisonError(
            f"no list is in all of them, so there are no pairs to compare ({counts}); "
            "compare versions on one data directory with --data DIR"
        )
    return paired


def _sides(paired: pd.DataFrame, column: str, n_a: int, n_b: int) -> Float64:
    """(n, 3): mean over the runs of A, of B, and A - B."""
    each = paired[[f"{column} {i}" for i in range(n_a + n_b)]].to_numpy(np.float64)
    a, b = each[:, :n_a].mean(axis=1), each[:, n_a:].mean(axis=1)
    return np.column_stack([a, b, a - b])


def _slice_dict(result: SliceResult) -> dict[str, Any]:
    intervals = zip(("a", "b", "difference"), jsonable(result.intervals), strict=True)
    return {**result.as_dict(), **dict(intervals), "verdict": _verdict_text(result)}


def _verdict_text(result: SliceResult) -> str:
    texts = {"better": "A better", "worse": "B better"}
    word = verdict(result.intervals[2])
    few = ", few users" if result.n_users < FEW_USERS and word in texts else ""
    return texts.get(word, word) + few
