"""The verdict on a training: is what was registered better than something simpler, what is it worth, what is doubtful.

Reads an evaluation on the test lists and what is known of the data. One table and three sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recsys.config import EvaluationConfig
from recsys.evaluation.report import LIFT_METRIC, Evaluation, count, format_interval, verdict
from recsys.evaluation.text_table import text_table
from recsys.metrics.bootstrap import Interval, mean_intervals

BASELINES = ("random", "popularity", "item_knn", "tfidf")
"""Methods that need no training. A first version that is significantly worse than one does not become champion."""

_COMPARED = {"popularity": "popularity", "tfidf": "TF-IDF", "behaviour": "behaviour alone"}
_WORTH = {
    "text columns": ("ranker", "behaviour"),
    "the encoder's among them": ("ranker", "behaviour_lexical"),
    "collaborative columns": ("ranker", "no_collaborative"),
}
_FEW_LISTS, _FEW_USERS, _FEW_TREES = 500, 50, 5
_MOST, _MANY_TIES = 0.5, 0.05


@dataclass(frozen=True)
class Registered:
    """What was registered. method: of the evaluation. alias: `champion`, or None. reason: for both, in words."""

    method: str
    alias: str | None
    reason: str


@dataclass(frozen=True)
class DataFacts:
    """What is known of a training besides its metrics.

    sampled, cold, tied: shares of the test lists, 0 to 1: lists that nobody saw, lists whose every clicked item is
    cold, lists to whose candidates the registered model gives one score. unknown_tokens: share of the texts' tokens
    that the base model does not know; reads_text: whether these are few. trees: of the registered model, None for one
    without. encoder_problem: why the encoder was not trained, "" where it was. n_valid: validation lists.
    """

    sampled: float
    cold: float
    tied: float
    unknown_tokens: float
    reads_text: bool
    trees: int | None
    encoder_problem: str
    n_valid: int


@dataclass(frozen=True)
class Verdict:
    """registered: what `version` is. lifts: its nDCG@10 on test less that of each other method, paired."""

    version: str
    registered: Registered
    lifts: Mapping[str, Interval]
    evaluation: Evaluation
    facts: DataFacts
    settings: EvaluationConfig
    seed: int

    def table(self) -> str:
        """nDCG@10 of every method on test and the difference of what was registered to it."""
        test = self.evaluation.test
        rows = [["method", LIFT_METRIC, "cold items", f"{self.registered.method} over it", ""]]
        for method, metrics in test.methods.items():
            lift = self.lifts.get(method)
            cells = ("registered", "") if lift is None else (format_interval(lift, signed=True), verdict(lift))
            cold = self.evaluation.cold_items.methods[method][LIFT_METRIC]
            rows.append([method, format_interval(metrics[LIFT_METRIC]), format_interval(cold), *cells])
        head = f"Test lists: {self._size()} with a click and an unclicked item. Mean [95% over users]"
        return f"{head}\n\n{text_table(rows)}"

    @cached_property
    def sentences(self) -> tuple[str, str, str]:
        """Is it better, what are its columns worth, what is doubtful."""
        return self._better(), self._worth(), self._doubtful()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self.registered), "verdict": list(self.sentences)}

    def _size(self) -> str:
        test = self.evaluation.test
        return f"{count(test.n_lists, 'list')} of {count(test.n_users, 'user')}"

    def _better(self) -> str:
        method = self.registered.method
        parts = [
            f"{_outcome(self.lifts[other])} {name} ({format_interval(self.lifts[other], signed=True)})"
            for other, name in _COMPARED.items()
            if other in self.lifts
        ]
        alias = f"is the {self.registered.alias}" if self.registered.alias else "is not the champion"
        return (
            f"{self.version} is {method!r} and {alias}: {self.registered.reason}. On {self._size()} it is "
            f"{', '.join(parts)} in {LIFT_METRIC}."
        )

    def _worth(self) -> str:
        ndcg = {name: values.ndcg_at_10 for name, values in self.evaluation.metrics.items()}
        pairs = {name: pair for name, pair in _WORTH.items() if set(pair) <= set(ndcg)}
        users = self.evaluation.impressions.requests.user
        columns = np.column_stack([ndcg[method] - ndcg[over] for method, over in pairs.values()])
        intervals = mean_intervals(columns, users, resamples=self.settings.resamples, seed=self.seed)
        worth = [
            f"{name} {format_interval(interval, signed=True)}" for name, interval in zip(pairs, intervals, strict=True)
        ]
        return f"What columns add to the ranker here: {', '.join(worth)}."

    def _doubtful(self) -> str:
        doubts = self.doubts()
        return f"Doubtful: {'; '.join(doubts)}." if doubts else "Nothing about these figures is doubtful."

    def doubts(self) -> list[str]:
        """Reasons to distrust the figures or the model, in words; empty for none."""
        facts, test = self.facts, self.evaluation.test
        found = {
            f"only {count(test.n_lists, 'test list')} of {count(test.n_users, 'user')}, so intervals are wide": (
                test.n_lists < _FEW_LISTS or test.n_users < _FEW_USERS
            ),
            f"only {count(facts.n_valid, 'validation list')} to choose the model by": facts.n_valid < _FEW_LISTS,
            f"{facts.sampled:.0%} of the test lists are sampled: what was shown beside a click is made up": (
                facts.sampled > 0
            ),
            f"{facts.unknown_tokens:.0%} of the texts' tokens are unknown to the base model, which seems not to read "
            "the language": not facts.reads_text,
            f"the encoder was not trained: {facts.encoder_problem}": bool(facts.encoder_problem),
            f"{facts.cold:.0%} of the test lists have only cold clicked items": facts.cold > _MOST,
            f"it has {count(facts.trees or 0, 'tree')} only": facts.trees is not None and facts.trees < _FEW_TREES,
            f"{facts.tied:.0%} of the test lists get one score for all candidates": facts.tied > _MANY_TIES,
        }
        return [doubt for doubt, holds in found.items() if holds]


def lifts_of(
    evaluation: Evaluation, method: str, settings: EvaluationConfig, seed: int, *, same: str = ""
) -> dict[str, Interval]:
    """nDCG@10 of a method on test less that of every other one, list by list. same: another name of the method."""
    ndcg = {name: values.ndcg_at_10 for name, values in evaluation.metrics.items()}
    others = [name for name in ndcg if name not in (method, same)]
    columns = np.column_stack([ndcg[method] - ndcg[name] for name in others])
    users = evaluation.impressions.requests.user
    return dict(zip(others, mean_intervals(columns, users, resamples=settings.resamples, seed=seed), strict=True))


def better_baselines(lifts: Mapping[str, Interval]) -> tuple[str, ...]:
    """The baselines that are significantly better."""
    return tuple(name for name in BASELINES if name in lifts and lifts[name].high < 0)


def _outcome(lift: Interval) -> str:
    words = {"better": "better than", "worse": "worse than", "not told apart": "not told apart from"}
    return words.get(verdict(lift), "compared, without an interval, with")
