"""The report of an ablation: the quality of each variant on test, its cost, and the recommended one.

A report object that `recsys.ablation.variants` fills: JSON, text for a terminal, and the recommendation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.latency import CANDIDATES
from recsys.evaluation.report import LIFT_METRIC, Evaluation, count, format_interval
from recsys.evaluation.text_table import text_table
from recsys.metrics.bootstrap import Interval, mean_intervals
from recsys.metrics.jsonable import jsonable

BASELINES = ("random", "popularity")
FROZEN = "frozen"
ALIKE = 0.1
"""Median times within this share of the shortest one count as equal: repeated measurements differ by as much."""


@dataclass(frozen=True)
class VariantCost:
    """seconds: training of the text models that a variant reads. milliseconds: median time to rank 100 candidates."""

    seconds: float
    milliseconds: float


@dataclass(frozen=True)
class VariantResult:
    """One variant. trees: of its ranker. note: on its encoder; may be empty."""

    name: str
    description: str
    cost: VariantCost
    trees: int
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: {"what", "seconds", "milliseconds", "trees", "note"}."""
        return {"what": self.description, **asdict(self.cost), "trees": self.trees, "note": self.note}


@dataclass(frozen=True)
class Recommendation:
    """best: the variant of the highest mean. within: those that do not differ significantly from it, itself included.
    line: the cheapest of these."""

    line: str
    best: str
    within: tuple[str, ...]


def choose(
    costs: Mapping[str, VariantCost], means: Mapping[str, float], lifts: Mapping[str, Interval]
) -> Recommendation:
    """The cheapest variant within the interval of the best: of those over which the best's paired lift has a low end
    not above 0, the one of fewest milliseconds, and where these are alike (`ALIKE`), of fewest seconds.

    means: of each variant, in the order of the report. lifts: A_over_B for every pair, either way round.
    """
    best = max(means, key=lambda name: means[name])
    within = tuple(name for name in means if name == best or not difference(lifts, best, name).low > 0)
    shortest = min(costs[name].milliseconds for name in within)
    alike = [name for name in within if costs[name].milliseconds <= shortest * (1 + ALIKE)]
    return Recommendation(min(alike, key=lambda name: (costs[name].seconds, costs[name].milliseconds)), best, within)


def difference(lifts: Mapping[str, Interval], method: str, over: str) -> Interval:
    """How much better `method` is than `over`, from the lift of either over the other."""
    if (lift := lifts.get(MethodComparison(method, over).name)) is not None:
        return lift
    reverse = lifts[MethodComparison(over, method).name]
    return Interval(-reverse.mean, -reverse.high, -reverse.low)


@dataclass(frozen=True)
class AblationReport:
    """variants: from the plainest on. evaluation: of the variants and `BASELINES`. compared: every variant over all
    before it. resamples, seed: of the intervals on cold items."""

    variants: tuple[VariantResult, ...]
    evaluation: Evaluation
    compared: Sequence[MethodComparison]
    resamples: int
    seed: int

    @cached_property
    def cold_lifts(self) -> dict[str, Interval]:
        """The paired comparisons on lists whose every clicked item is cold, ranking cold candidates alone."""
        ndcg = {name: metrics.ndcg_at_10 for name, metrics in self.evaluation.cold_metrics.items()}
        rows = np.flatnonzero(~np.isnan(ndcg[self.variants[0].name]))
        columns = np.column_stack([ndcg[lift.method][rows] - ndcg[lift.over][rows] for lift in self.compared])
        users = self.evaluation.impressions.requests.user[rows]
        intervals = mean_intervals(columns, users, resamples=self.resamples, seed=self.seed)
        return {lift.name: interval for lift, interval in zip(self.compared, intervals, strict=True)}

    @cached_property
    def choice(self) -> Recommendation:
        """The recommended variant."""
        means = {variant.name: self._ndcg(variant.name).mean for variant in self.variants}
        return choose({variant.name: variant.cost for variant in self.variants}, means, self.evaluation.lifts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the evaluation's keys are those of `recsys train --json`, None for NaN."""
        evaluation = {key: value for key, value in self.evaluation.as_dict().items() if key != "beyond"}
        return {
            "lines": {variant.name: variant.as_dict() for variant in self.variants},
            **evaluation,
            "cold_items_lift": jsonable(self.cold_lifts),
            "choice": jsonable(self.choice),
        }

    def metrics(self) -> dict[str, float]:
        """Figures by variant and comparison, for a run; NaN left out."""
        figures: dict[str, float] = {}
        for variant in self.variants:
            figures |= {f"{variant.name}.{name}": value for name, value in asdict(variant.cost).items()}
            figures |= self._ndcg(variant.name).named(f"{variant.name}.{LIFT_METRIC}")
            figures |= self._cold(variant.name).named(f"{variant.name}.cold_items.{LIFT_METRIC}")
        for prefix, lifts in (("lift", self.evaluation.lifts), ("cold_items_lift", self.cold_lifts)):
            for name, interval in lifts.items():
                figures |= interval.named(f"{prefix}.{name}")
        return {name: value for name, value in figures.items() if value == value}

    def lines(self) -> list[str]:
        """For a person, at most 110 columns."""
        test, cold = self.evaluation.test, self.evaluation.cold_items
        return [
            f"Whole rankers on {count(test.n_lists, 'test list')} of {count(test.n_users, 'user')}; cold items: "
            f"{count(cold.n_lists, 'list')} of {count(cold.n_users, 'user')}. Mean [95% over users]",
            "",
            self._variants_table(),
            "",
            f"Differences in {LIFT_METRIC}, list by list",
            "",
            self._lifts_table(self.evaluation.lifts),
            "",
            "The same on cold items",
            "",
            self._lifts_table(self.cold_lifts),
            "",
            *(f"{variant.name}: {variant.note}" for variant in self.variants if variant.note),
            *self._choice_lines(),
        ]

    def _ndcg(self, name: str) -> Interval:
        return self.evaluation.test.methods[name][LIFT_METRIC]

    def _cold(self, name: str) -> Interval:
        return self.evaluation.cold_items.methods[name][LIFT_METRIC]

    def _variants_table(self) -> str:
        rows = [["variant", LIFT_METRIC, "cold items", "text training, s", f"ms per {CANDIDATES}", "trees", ""]]
        for name in BASELINES:
            rows.append([name, *self._quality(name), "", "", "", ""])
        for variant in self.variants:
            costs = (f"{variant.cost.seconds:.1f}", f"{variant.cost.milliseconds:.2f}", f"{variant.trees}")
            chosen = "<- choice" if variant.name == self.choice.line else ""
            rows.append([variant.name, *self._quality(variant.name), *costs, chosen])
        return text_table(rows)

    def _quality(self, name: str) -> tuple[str, str]:
        return format_interval(self._ndcg(name)), format_interval(self._cold(name))

    def _lifts_table(self, lifts: Mapping[str, Interval]) -> str:
        names = [variant.name for variant in self.variants]
        best = self.choice.best
        fixed = [name for name in dict.fromkeys((names[0], FROZEN)) if name in names]
        rows = [["variant", *(f"over {name}" for name in fixed), "over the previous one", f"{best} over it"]]
        for i, name in enumerate(names):
            earlier = [base if base in names[:i] else None for base in fixed]
            cells = [_lift_cell(lifts, name, base) for base in (*earlier, names[i - 1] if i else None)]
            rows.append([name, *cells, "" if name == best else _lift_cell(lifts, best, name)])
        return text_table(rows)

    def _choice_lines(self) -> list[str]:
        choice = self.choice
        cost = next(variant.cost for variant in self.variants if variant.name == choice.line)
        alike = ", ".join(name for name in choice.within if name != choice.best)
        return [
            f"best: {choice.best}; not significantly different: {alike or 'none'}",
            f"cheapest choice within the interval of the best: {choice.line}, {cost.milliseconds:.2f} ms per "
            f"{CANDIDATES} candidates, {cost.seconds:.1f} s of training its text models",
        ]


def _lift_cell(lifts: Mapping[str, Interval], name: str, base: str | None) -> str:
    return "" if base is None else format_interval(difference(lifts, name, base), signed=True)
