"""The rows that the rankers of a training learn from, and the training of each ranker on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from features.arrays import Float64
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from features.log import Impressions
from recsys.collaborative.column_names import COLLABORATIVE_COLUMNS
from recsys.encoder.model import Encoder
from recsys.encoder.snapshots import BEGINNING, ScheduledEncoder
from recsys.metrics.ranking import list_metrics
from recsys.ranker.column_names import ENCODER_COLUMNS, LEXICAL_COLUMNS
from recsys.ranker.ensemble_ranker import EnsembleRanker
from recsys.ranker.feature_selection import FeatureSelection, select_features
from recsys.ranker.lightgbm_ranker import (
    MatrixColumn,
    RankingDataset,
    TreeRanker,
    retrain_ranker,
    train_ranker,
    varies,
)
from recsys.ranker.matrix import ranker_columns
from recsys.ranker.offline_matrix import build_matrix_by_encoder
from recsys.ranker.ranker import Ranker
from recsys.ranker.text_snapshots import RepresentationSchedule
from recsys.training.context import TrainingContext
from recsys.training.model_choice import (
    BEHAVIOUR,
    BEHAVIOUR_LEXICAL,
    FROZEN_TEXT,
    NO_COLLABORATIVE,
    RANKER,
    simple_part,
)
from recsys.training.progress import TreeProgress

log = logging.getLogger(__name__)

RANKERS = (BEHAVIOUR, BEHAVIOUR_LEXICAL, NO_COLLABORATIVE, RANKER)
"""The rankers that every training has, on the same rows and settings: no text, TF-IDF only, no collaborative columns,
everything. One more reads the text columns of the base model, where an encoder was trained."""

NOT_READ: Mapping[str, frozenset[str]] = {
    BEHAVIOUR: frozenset((*LEXICAL_COLUMNS, *ENCODER_COLUMNS)),
    BEHAVIOUR_LEXICAL: frozenset(ENCODER_COLUMNS),
    NO_COLLABORATIVE: frozenset(COLLABORATIVE_COLUMNS),
    FROZEN_TEXT: frozenset(),
    RANKER: frozenset(),
}
"""Columns of the matrix that a ranker does not read."""


@dataclass(frozen=True)
class RankerData:
    """The slices that rankers are trained on, as impressions and as matrices with `columns`, the test slice last."""

    context: TrainingContext
    columns: tuple[MatrixColumn, ...]
    impressions: tuple[Impressions, Impressions, Impressions]
    matrices: tuple[RankingDataset, RankingDataset, RankingDataset]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def telling(self) -> tuple[MatrixColumn, ...]:
        """The columns that a ranker can learn from: those with one value in all training rows are not read, nor
        computed where candidates are ranked. All of them where none has another value."""
        differ = varies(self.matrices[0].matrix).tolist()
        return tuple(column for column, differs in zip(self.columns, differ, strict=True) if differs) or self.columns

    def select(self, chosen: Sequence[MatrixColumn]) -> list[RankingDataset]:
        """The matrices with some of the columns."""
        names = [column.name for column in chosen]
        return [data.select(self.names, names) for data in self.matrices]

    def train(self, method: str) -> tuple[TreeRanker, tuple[float, ...]]:
        """One of `RANKERS` on train, stopped by valid, and nDCG@10 on valid after each of its trees."""
        settings = self.context.config.ranker
        chosen = [column for column in self.telling if column.name not in NOT_READ[method]]
        train, valid, _ = self.select(chosen)
        progress = TreeProgress(method, settings.max_trees)
        ranker = train_ranker(
            train,
            valid,
            chosen,
            settings,
            seed=self.context.config.seed,
            threads=self.context.threads,
            on_iteration=progress.add,
        )
        progress.finish(ranker.n_trees)
        return ranker, tuple(progress.valid_ndcg)

    def valid_ndcg(self, ranker: Ranker) -> Float64:
        """nDCG@10 of each valid impression, (n,)."""
        valid = self.matrices[1].select(self.names, ranker.columns)
        scores = ranker.scores(valid.matrix, threads=self.context.threads)
        return list_metrics(scores, valid.label, valid.offsets).ndcg_at_10

    def with_frozen_text(self, frozen: Encoder, texts: RepresentationSchedule) -> RankerData:
        """The same rows with the text columns of the base model. texts: the present ones."""
        states = (ScheduledEncoder(BEGINNING, None, frozen),)
        base = RepresentationSchedule(states, texts.item_text, texts.terms, texts.collaborative, ENCODER_COLUMNS)
        position = [self.names.index(name) for name in base.columns]
        matrices = []
        for data, slice_ in zip(self.matrices, self.impressions, strict=True):
            matrix = data.matrix.copy()
            matrix[:, position] = build_matrix_by_encoder((), base, self.context.index, slice_.requests)
            matrices.append(replace(data, matrix=matrix))
        return replace(self, matrices=(matrices[0], matrices[1], matrices[2]))

    def without_weak_features(self, ranker: TreeRanker, features: tuple[Feature, ...]) -> FeatureSelection:
        """The full ranker with the features that it can do without left out."""
        chosen = tuple(column for column in self.columns if column.name in ranker.columns)
        train, valid, _ = self.select(chosen)
        return select_features(
            ranker,
            [feature for feature in features if not set(column_names((feature,))).isdisjoint(ranker.columns)],
            chosen,
            train,
            valid,
            self.impressions[1].requests.user,
            self.context.config.ranker,
            seed=self.context.config.seed,
            threads=self.context.threads,
        )

    def ensemble(self, trees: TreeRanker) -> EnsembleRanker:
        """A ranker and the simple methods, at the scale that its scores have on valid."""
        simple = simple_part(len(self.impressions[0]))
        return EnsembleRanker.of(trees, simple, self.matrices[1], self.names, threads=self.context.threads)

    def retrain(self, ranker: TreeRanker, *, with_test: bool = False) -> TreeRanker:
        """A ranker trained again on train and valid, or on test too, with as many trees.

        The text scores of each row are of an encoder that had not learnt it.
        """
        chosen = tuple(column for column in self.columns if column.name in ranker.columns)
        slices = self.select(chosen)
        return retrain_ranker(
            slices if with_test else slices[:2],
            chosen,
            self.context.config.ranker,
            trees=ranker.n_trees,
            seed=self.context.config.seed,
            threads=self.context.threads,
        )


def make_ranker_data(
    context: TrainingContext, features: tuple[Feature, ...], texts: RepresentationSchedule, train: Impressions
) -> RankerData:
    """The matrices of the three slices. train: the usable impressions of the ranker slice."""
    impressions = (train, context.usable(context.sliced.valid), context.usable(context.sliced.test))
    log.info(
        "ranker: matrix of %s training, %s validation and %s test impressions",
        *(f"{len(slice_):,}" for slice_ in impressions),
    )
    train_data, valid_data, test_data = (
        RankingDataset(
            build_matrix_by_encoder(features, texts, context.index, slice_.requests),
            slice_.label,
            slice_.requests.offsets,
        )
        for slice_ in impressions
    )
    columns = ranker_columns(features, texts.columns)
    return RankerData(context, columns, impressions, (train_data, valid_data, test_data))
