"""Which features a ranker can do without: those whose removal nobody would notice on valid.

Backward, in order of least gain: the weaker half of the features goes first, and where that costs too much, half as
many. Every smaller ranker is compared with the one that reads everything, list by list, so that small losses do not add
up unseen. A feature goes with its places; columns of fitted models stay. A handful of trainings on valid, never test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import Float64, Int32
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from recsys.config import RankerConfig as RankerSettings
from recsys.metrics.bootstrap import Interval, mean_interval
from recsys.metrics.ranking import list_metrics
from recsys.ranker.lightgbm_ranker import MatrixColumn, Ranker, RankingDataset, train_ranker

RESAMPLES = 1000


@dataclass(frozen=True)
class SelectionStep:
    """One attempt. without: features left out that the ranker before still read. difference: nDCG@10 on valid, paired,
    of the smaller ranker to the one that reads everything. kept: whether the smaller one was kept."""

    without: tuple[str, ...]
    difference: Interval
    kept: bool


@dataclass(frozen=True)
class FeatureSelection:
    """What a selection came to. dropped: features, in the order in which they went."""

    ranker: Ranker
    dropped: tuple[str, ...]
    steps: tuple[SelectionStep, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        steps = [
            {"without": list(step.without), "ndcg_at_10": step.difference.as_dict(), "kept": step.kept}
            for step in self.steps
        ]
        return {"columns": len(self.ranker.columns), "dropped": list(self.dropped), "steps": steps}

    def lines(self) -> list[str]:
        """For a person."""
        lines = []
        for step in self.steps:
            one = step.difference
            found = f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
            verdict = "they go" if step.kept else "they stay"
            lines.append(f"without {len(step.without)} more features: {found} nDCG@10 on valid, {verdict}")
        return [*lines, f"{len(self.dropped)} features dropped, {len(self.ranker.columns)} columns left"]


def select_features(
    full: Ranker,
    features: Sequence[Feature],
    columns: Sequence[MatrixColumn],
    train: RankingDataset,
    valid: RankingDataset,
    users: Int32,
    settings: RankerSettings,
    *,
    seed: int,
    threads: int,
) -> FeatureSelection:
    """The smallest ranker found that is not told apart from `full` on valid, and loses at most the configured margin.

    features: what may go. columns: of `full` and of both matrices, in order. users: (n_lists,) of valid.
    """
    groups = {feature.name: column_names((feature,)) for feature in features}
    selection, left = FeatureSelection(full, (), ()), dict(groups)
    everything = _ndcg(full, columns, valid)
    size = len(left) // 2
    while size:
        weakest = tuple(_by_gain(selection.ranker, left)[:size])
        gone = {name for feature in (*selection.dropped, *weakest) for name in groups[feature]}
        chosen = tuple(column for column in columns if column.name not in gone)
        parts = [_narrowed(lists, columns, [column.name for column in chosen]) for lists in (train, valid)]
        smaller = train_ranker(parts[0], parts[1], chosen, settings, seed=seed, threads=threads)
        found = mean_interval(_ndcg(smaller, columns, valid) - everything, users, resamples=RESAMPLES, seed=seed)
        kept = found.high >= 0 and found.mean >= -settings.select_margin
        steps = (*selection.steps, SelectionStep(weakest, found, kept))
        if kept:
            selection = FeatureSelection(smaller, (*selection.dropped, *weakest), steps)
            left = {feature: names for feature, names in left.items() if feature not in weakest}
            size = min(size, len(left) // 2)
        else:
            selection = FeatureSelection(selection.ranker, selection.dropped, steps)
            size //= 2
    return selection


def _by_gain(ranker: Ranker, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Features from the least total gain of their columns to the largest; ties by name."""
    gains = ranker.gains()
    return sorted(groups, key=lambda feature: (sum(gains[name] for name in groups[feature]), feature))


def _narrowed(lists: RankingDataset, columns: Sequence[MatrixColumn], chosen: Sequence[str]) -> RankingDataset:
    place = {column.name: i for i, column in enumerate(columns)}
    matrix = np.ascontiguousarray(lists.matrix[:, [place[name] for name in chosen]])
    return RankingDataset(matrix, lists.label, lists.offsets)


def _ndcg(ranker: Ranker, columns: Sequence[MatrixColumn], lists: RankingDataset) -> Float64:
    scores = ranker.scores(_narrowed(lists, columns, ranker.columns).matrix)
    return list_metrics(scores, lists.label, lists.offsets).ndcg_at_10
