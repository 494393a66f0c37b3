"""The text-lift ledger: what each line is worth on test, what it costs, and which one to take.

A report object that `recsys.ablation.variants` fills: JSON, text for a terminal, and the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.latency import CANDIDATES
from recsys.evaluation.report import LIFT_METRIC, Evaluation, count, format_interval
from recsys.evaluation.text_table import text_table
from recsys.metrics.bootstrap import Interval, mean_intervals

BASELINES = ("random", "popularity")
FROZEN = "frozen"
ALIKE = 0.1
"""Median times within this share of the shortest one count as equal: repeated measurements differ by as much."""


@dataclass(frozen=True)
class VariantCost:
    """seconds: training of the text models that a line reads. milliseconds: median time to rank 100 candidates."""

    seconds: float
    milliseconds: float


@dataclass(frozen=True)
class VariantResult:
    """A line of the ledger. trees: of its ranker. note: what a reader has to know of its encoder; empty for nothing."""

    name: str
    what: str
    cost: VariantCost
    trees: int
    note: str = ""


@dataclass(frozen=True)
class Recommendation:
    """best: the line of the highest mean. within: the lines that the test does not tell apart from it, itself included.
    line: the cheapest of these."""

    line: str
    best: str
    within: tuple[str, ...]


def choose(
    costs: Mapping[str, VariantCost], means: Mapping[str, float], lifts: Mapping[str, Interval]
) -> Recommendation:
    """The cheapest line within the interval of the best: of those over which the best's paired lift has a low end not
    above 0, the one of fewest milliseconds, and where these are alike (`ALIKE`), of fewest seconds.

    means: of each line, in the order of the ledger. lifts: A_over_B for every pair, either way round.
    """
    best = max(means, key=lambda name: means[name])
    within = tuple(name for name in means if name == best or not difference(lifts, best, name).low > 0)
    shortest = min(costs[name].milliseconds for name in within)
    alike = [name for name in within if costs[name].milliseconds <= shortest * (1 + ALIKE)]
    return Recommendation(min(alike, key=lambda name: (costs[name].seconds, costs[name].milliseconds)), best, within)


def difference(lifts: Mapping[str, Interval], method: str, over: str) -> Interval:
    """How much better `method` is than `over`, from the lift of either over the other."""
    if (found := lifts.get(MethodComparison(method, over).name)) is not None:
        return found
    turned = lifts[MethodComparison(over, method).name]
    return Interval(-turned.mean, -turned.high, -turned.low)


@dataclass(frozen=True)
class AblationReport:
    """lines: from the plainest on. evaluation: of the lines and `BASELINES`. compared: every line over all before it.
    resamples, seed: of the intervals on cold items."""

    lines: tuple[VariantResult, ...]
    evaluation: Evaluation
    compared: Sequence[MethodComparison]
    resamples: int
    seed: int

    @cached_property
    def cold_lifts(self) -> dict[str, Interval]:
        """The paired comparisons on lists whose every clicked item is cold, ranking cold candidates alone."""
        lists = {name: metrics.ndcg_at_10 for name, metrics in self.evaluation.cold_lists.items()}
        rows = np.flatnonzero(~np.isnan(lists[self.lines[0].name]))
        columns = np.column_stack([lists[lift.method][rows] - lists[lift.over][rows] for lift in self.compared])
        users = self.evaluation.impressions.requests.user[rows]
        found = mean_intervals(columns, users, resamples=self.resamples, seed=self.seed)
        return {lift.name: interval for lift, interval in zip(self.compared, found, strict=True)}

    @cached_property
    def choice(self) -> Recommendation:
        """Which line to take."""
        means = {one.name: self._ndcg(one.name).mean for one in self.lines}
        return choose({one.name: one.cost for one in self.lines}, means, self.evaluation.lifts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the evaluation's keys are those of `recsys train --json`, None for NaN."""
        evaluation = {key: value for key, value in self.evaluation.as_dict().items() if key != "beyond"}
        return {
            "lines": {
                one.name: {
                    "what": one.what,
                    "seconds": one.cost.seconds,
                    "milliseconds": one.cost.milliseconds,
                    "trees": one.trees,
                    "note": one.note,
                }
                for one in self.lines
            },
            **evaluation,
            "cold_items_lift": {name: interval.as_dict() for name, interval in self.cold_lifts.items()},
            "choice": {"line": self.choice.line, "best": self.choice.best, "within": list(self.choice.within)},
        }

    def metrics(self) -> dict[str, float]:
        """Figures by line and comparison, for a run; NaN left out."""
        found: dict[str, float] = {}
        for one in self.lines:
            found |= {f"{one.name}.seconds": one.cost.seconds, f"{one.name}.milliseconds": one.cost.milliseconds}
            found |= _parts(f"{one.name}.{LIFT_METRIC}", self._ndcg(one.name))
            found |= _parts(f"{one.name}.cold_items.{LIFT_METRIC}", self._cold(one.name))
        for prefix, lifts in (("lift", self.evaluation.lifts), ("cold_items_lift", self.cold_lifts)):
            for name, interval in lifts.items():
                found |= _parts(f"{prefix}.{name}", interval)
        return {name: value for name, value in found.items() if value == value}

    def text(self) -> list[str]:
        """For a person, at most 110 columns."""
        test = self.evaluation.test
        cold = self.evaluation.cold_items
        head = f"Whole rankers on {count(test.n_lists, 'test list')} of {count(test.n_users, 'user')}; cold items: "
        head += f"{count(cold.n_lists, 'list')} of {count(cold.n_users, 'user')}. Mean [95% over users]"
        notes = [f"{one.name}: {one.note}" for one in self.lines if one.note]
        return [
            head,
            "",
            self._lines_table(),
            "",
            f"Differences in {LIFT_METRIC}, list by list",
            "",
            self._lifts_table(self.evaluation.lifts),
            "",
            "The same on cold items",
            "",
            self._lifts_table(self.cold_lifts),
            "",
            *notes,
            *self._choice_text(),
        ]

    def _ndcg(self, name: str) -> Interval:
        return self.evaluation.test.methods[name][LIFT_METRIC]

    def _cold(self, name: str) -> Interval:
        return self.evaluation.cold_items.methods[name][LIFT_METRIC]

    def _lines_table(self) -> str:
        rows = [["line", LIFT_METRIC, "cold items", "text training, s", f"ms per {CANDIDATES}", "trees", ""]]
        for name in BASELINES:
            rows.append([name, format_interval(self._ndcg(name)), format_interval(self._cold(name)), "", "", "", ""])
        for one in self.lines:
            quality = (format_interval(self._ndcg(one.name)), format_interval(self._cold(one.name)))
            costs = (f"{one.cost.seconds:.1f}", f"{one.cost.milliseconds:.2f}", f"{one.trees}")
            rows.append([one.name, *quality, *costs, "<- choice" if one.name == self.choice.line else ""])
        return text_table(rows)

    def _lifts_table(self, lifts: Mapping[str, Interval]) -> str:
        names = [one.name for one in self.lines]
        first, best = names[0], self.choice.best
        fixed = [name for name in dict.fromkeys((first, FROZEN)) if name in names]
        rows = [["line", *(f"over {name}" for name in fixed), "over the line before", f"{best} over it"]]
        for place, name in enumerate(names):
            earlier = [base if base in names[:place] else None for base in fixed]
            against = [*earlier, names[place - 1] if place else None]
            cells = [_lift_cell(lifts, name, base) for base in against]
            rows.append([name, *cells, "" if name == best else _lift_cell(lifts, best, name)])
        return text_table(rows)

    def _choice_text(self) -> list[str]:
        chosen, cost = self.choice, {one.name: one.cost for one in self.lines}[self.choice.line]
        others = [name for name in chosen.within if name != chosen.best]
        told = f"not told apart from it: {', '.join(others)}" if others else "all others are told apart from it"
        return [
            f"best: {chosen.best}; {told}",
            f"cheapest choice within the interval of the best: {chosen.line}, {cost.milliseconds:.2f} ms per "
            f"{CANDIDATES} candidates, {cost.seconds:.1f} s of training its text models",
        ]


def _lift_cell(lifts: Mapping[str, Interval], name: str, base: str | None) -> str:
    return "" if base is None else format_interval(difference(lifts, name, base), signed=True)


def _parts(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}.low": interval.low, f"{name}.high": interval.high}
