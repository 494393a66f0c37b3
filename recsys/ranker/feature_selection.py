"""Backward feature selection: drops features whose removal costs no significant nDCG@10 on valid.

The half of the features with the least gain is tried first; where that costs too much, half as many. Every smaller
ranker is compared with the full one, impression by impression, so that small losses do not add up unseen. A feature is
dropped with its within-list columns; columns of fitted models stay. It takes a handful of trainings and never reads
test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.arrays import Float64, Int32
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from recsys.config import RankerConfig
from recsys.metrics.bootstrap import Interval, mean_interval
from recsys.metrics.jsonable import jsonable
from recsys.metrics.ranking import list_metrics
from recsys.ranker.lightgbm_ranker import MatrixColumn, RankingDataset, TreeRanker, train_ranker

RESAMPLES = 1000


@dataclass(frozen=True)
class SelectionStep:
    """One attempt. without: features left out that the ranker before still read. difference: nDCG@10 on valid, paired,
    of the smaller ranker to the one that reads everything. accepted: whether the smaller one was kept."""

    without: tuple[str, ...]
    difference: Interval
    accepted: bool


@dataclass(frozen=True)
class FeatureSelection:
    """The result of a selection. dropped: features, in the order in which they were dropped."""

    ranker: TreeRanker
    dropped: tuple[str, ...]
    steps: tuple[SelectionStep, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        steps = [
            {"without": list(step.without), "ndcg_at_10": jsonable(step.difference), "kept": step.accepted}
            for step in self.steps
        ]
        return {"columns": len(self.ranker.columns), "dropped": list(self.dropped), "steps": steps}

    def lines(self) -> list[str]:
        """For a person."""
        lines = [
            f"without {len(step.without)} more features: {step.difference.mean:+.4f} "
            f"[{step.difference.low:+.4f}, {step.difference.high:+.4f}] nDCG@10 on valid, "
            f"{'they are dropped' if step.accepted else 'they are kept'}"
            for step in self.steps
        ]
        return [*lines, f"{len(self.dropped)} features dropped, {len(self.ranker.columns)} columns left"]


def select_features(
    full: TreeRanker,
    features: Sequence[Feature],
    columns: Sequence[MatrixColumn],
    train: RankingDataset,
    valid: RankingDataset,
    users: Int32,
    settings: RankerConfig,
    *,
    seed: int,
    threads: int,
) -> FeatureSelection:
    """The smallest ranker that is not significantly worse than `full` on valid and loses at most the configured margin.

    features: what may be dropped. columns: of `full` and of both matrices, in order. users: (n_lists,) of valid.
    """
    groups = {feature.name: column_names((feature,)) for feature in features}
    ranker, dropped, left = full, tuple[str, ...](), dict(groups)
    steps: list[SelectionStep] = []
    all_names = [column.name for column in columns]
    ndcg_of_full = _ndcg(full, all_names, valid)
    size = len(left) // 2
    while size:
        weakest = tuple(_by_gain(ranker, left)[:size])
        gone = {name for feature in (*dropped, *weakest) for name in groups[feature]}
        chosen = tuple(column for column in columns if column.name not in gone)
        smaller_train, smaller_valid = (data.select(all_names, [c.name for c in chosen]) for data in (train, valid))
        smaller = train_ranker(smaller_train, smaller_valid, chosen, settings, seed=seed, threads=threads)
        difference = mean_interval(
            _ndcg(smaller, all_names, valid) - ndcg_of_full, users, resamples=RESAMPLES, seed=seed
        )
        accepted = difference.high >= 0 and difference.mean >= -settings.select_margin
        steps.append(SelectionStep(weakest, difference, accepted))
        if accepted:
            ranker, dropped = smaller, (*dropped, *weakest)
            left = {feature: names for feature, names in left.items() if feature not in weakest}
            size = min(size, len(left) // 2)
        else:
            size //= 2
    return FeatureSelection(ranker, dropped, tuple(steps))


def _by_gain(ranker: TreeRanker, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Features from the least total gain of their columns to the largest; ties by name."""
    gains = ranker.gains()
    return sorted(groups, key=lambda feature: (sum(gains.get(name, 0.0) for name in groups[feature]), feature))


def _ndcg(ranker: TreeRanker, names: Sequence[str], data: RankingDataset) -> Float64:
    scores = ranker.scores(data.select(names, ranker.columns).matrix)
    return list_metrics(scores, data.label, data.offsets).ndcg_at_10
