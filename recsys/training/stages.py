"""The stages of a training after its text models: rankers and their evaluation.

Labels flow one way: rankers learn from scores of text models that are older, early stopping reads valid, and nothing
but the evaluation reads test. They write no file and use no MLflow.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32, Float64, Int32
from features.definitions.event_measures import Feature
from features.log import Impressions
from recsys.encoder.model import Encoder
from recsys.encoder.scoring import text_features
from recsys.encoder.snapshots import ScheduledEncoder
from recsys.evaluation.model_evaluation import column_scores, evaluate_methods
from recsys.evaluation.report import Evaluation
from recsys.ranker.column_names import ENCODER_COLUMNS, LEXICAL_COLUMNS, RESERVED_COLUMNS
from recsys.ranker.feature_selection import FeatureSelection, select_features
from recsys.ranker.features import catalogue_categories, category_vocabularies, feature_set
from recsys.ranker.lightgbm_ranker import (
    MatrixColumn,
    Ranker,
    RankingDataset,
    retrain_ranker,
    select_columns,
    train_ranker,
)
from recsys.ranker.matrix import ranker_columns
from recsys.ranker.offline_matrix import build_matrix_by_encoder
from recsys.ranker.text_snapshots import RepresentationSchedule
from recsys.ranker.tfidf import Lexical
from recsys.training.context import TrainingContext
from recsys.training.progress import TreeProgress
from recsys.training.text_models import check_no_label_leak, collaborative_settings, represent_items

log = logging.getLogger(__name__)

BEHAVIOUR, BEHAVIOUR_LEXICAL, RANKER = RANKERS = ("behaviour", "behaviour_lexical", "ranker")
"""The rankers that a training compares, on the same rows and settings: no text, TF-IDF only, everything."""

NOT_READ: Mapping[str, frozenset[str]] = {
    BEHAVIOUR: frozenset((*LEXICAL_COLUMNS, *ENCODER_COLUMNS)),
    BEHAVIOUR_LEXICAL: frozenset(ENCODER_COLUMNS),
    RANKER: frozenset(),
}
"""Columns of the matrix that a ranker does not read."""


@dataclass(frozen=True)
class RankerResult:
    """The result of the ranker stage.

    rankers: by their names in `RANKERS`. matrix, columns: of the test lists, (n_rows, n_columns). valid_ndcg: of the
    full ranker's training, one value a tree. train, valid, test: impressions of the slices. selection: what the full
    ranker does without, where that is configured. final: the full ranker retrained on valid and test too, where that is
    configured; no score here is its.
    """

    features: tuple[Feature, ...]
    vocabularies: Mapping[str, tuple[str, ...]]
    texts: RepresentationSchedule
    rankers: Mapping[str, Ranker]
    valid_ndcg: tuple[float, ...]
    train: Impressions
    valid: Impressions
    test: Impressions
    matrix: Float32
    columns: tuple[str, ...]
    selection: FeatureSelection | None = None
    final: Ranker | None = None

    def list_sizes(self) -> dict[str, int]:
        """Smallest, median and largest training list."""
        sizes = self.train.requests.lengths()
        return {"smallest": int(sizes.min()), "median": int(np.median(sizes)), "largest": int(sizes.max())}

    def scores(self, method: str, *, threads: int) -> Float64:
        """Scores of one of the rankers for the test rows, (n_rows,)."""
        return self.rankers[method].scores(self.matrix_for(method), threads=threads)

    def matrix_for(self, method: str) -> Float32:
        """The columns of the test matrix that one of the rankers reads, (n_rows, its columns)."""
        return select_columns(self.matrix, self.columns, self.rankers[method].columns)


@dataclass(frozen=True)
class _RankerData:
    """The slices that rankers are trained on, as impressions and as matrices with `columns`, the test slice last."""

    context: TrainingContext
    columns: tuple[MatrixColumn, ...]
    impressions: tuple[Impressions, Impressions, Impressions]
    matrices: tuple[RankingDataset, RankingDataset, RankingDataset]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    def select(self, chosen: Sequence[MatrixColumn]) -> list[RankingDataset]:
        """The matrices with some of the columns."""
        names = [column.name for column in chosen]
        return [data.select(self.names, names) for data in self.matrices]

    def train(self, method: str) -> tuple[Ranker, tuple[float, ...]]:
        """One of `RANKERS`, and nDCG@10 on valid after each of its trees."""
        settings = self.context.config.ranker
        chosen = [column for column in self.columns if column.name not in NOT_READ[method]]
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
        progress.finish(ranker.booster.num_trees())
        return ranker, tuple(progress.valid_ndcg)

    def without_weak_features(self, ranker: Ranker, features: tuple[Feature, ...]) -> FeatureSelection:
        """The full ranker with the features that it can do without left out."""
        return select_features(
            ranker,
            features,
            self.columns,
            self.matrices[0],
            self.matrices[1],
            self.impressions[1].requests.user,
            self.context.config.ranker,
            seed=self.context.config.seed,
            threads=self.context.threads,
        )

    def retrain(self, reported: Ranker) -> Ranker:
        """The reported ranker trained again on the lists of all slices, with as many trees.

        Its rows of valid and test have the scores that were evaluated, of an encoder that had not learnt them.
        """
        chosen = tuple(column for column in self.columns if column.name in reported.columns)
        return retrain_ranker(
            self.select(chosen),
            chosen,
            self.context.config.ranker,
            trees=reported.booster.num_trees(),
            seed=self.context.config.seed,
            threads=self.context.threads,
        )


def ranker_stage(
    context: TrainingContext,
    encoders: tuple[ScheduledEncoder, ...],
    lexical: Lexical,
    *,
    methods: Collection[str] = RANKERS,
) -> RankerResult:
    """The matrices of the later slices with the text models' scores, and the rankers on them.

    encoders: each scores the lists of its time. Raises TrainingError where one learnt what it scores. methods: which of
    `RANKERS` to train.
    """
    train = context.usable(context.sliced.ranker)
    check_no_label_leak(encoders, int(train.requests.time[0]))
    features, vocabularies = resolve_features(context, train.requests.item)
    texts = represent_items(context, encoders, lexical, collaborative_settings(context))
    data = _ranker_data(context, features, texts, train)
    trained = {method: data.train(method) for method in methods}
    rankers = {method: ranker for method, (ranker, _) in trained.items()}
    selection = None
    if context.config.ranker.select_features and RANKER in rankers:
        selection = data.without_weak_features(rankers[RANKER], features)
        rankers[RANKER] = selection.ranker
    return RankerResult(
        features=features,
        vocabularies=vocabularies,
        texts=texts,
        rankers=rankers,
        valid_ndcg=trained[RANKER][1] if RANKER in trained else (),
        train=train,
        valid=data.impressions[1],
        test=data.impressions[2],
        matrix=data.matrices[2].matrix,
        columns=data.names,
        selection=selection,
        final=data.retrain(rankers[RANKER]) if context.config.final_training else None,
    )


def _ranker_data(
    context: TrainingContext, features: tuple[Feature, ...], texts: RepresentationSchedule, train: Impressions
) -> _RankerData:
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
    columns = ranker_columns(features, texts.collaborative_columns)
    return _RankerData(context, columns, impressions, (train_data, valid_data, test_data))


def evaluation_stage(context: TrainingContext, ranked: RankerResult, encoders: Mapping[str, Encoder]) -> Evaluation:
    """Every method on the test lists. encoders: those to score by themselves, by the method's name; `text` is the one
    that the ranker reads."""
    reader = context.index.reader(ranked.test.requests)
    scores: dict[str, Float32 | Float64] = {**column_scores(ranked.matrix, ranked.columns)}
    for method, encoder in encoders.items():
        vectors = encoder.encode_texts(context.item_texts)
        scores[method] = text_features(encoder.weights, vectors, reader.requests, reader.histories)[:, 0]
    for method in RANKERS:
        scores[method] = ranked.scores(method, threads=context.threads)
    return evaluate_methods(scores, reader, ranked.test, context.config, vectors=ranked.texts.latest.vectors)


def resolve_features(
    context: TrainingContext, candidates: Int32
) -> tuple[tuple[Feature, ...], dict[str, tuple[str, ...]]]:
    """The features of a training, the user's own among them, and the vocabularies of the categorical item columns.

    candidates: (n,) item codes of the candidates that train the ranker.
    """
    config, catalog = context.config.features, context.log.catalog
    custom = config.custom
    if custom is not None:
        custom.check_events(context.log.events.types)
    read = catalogue_categories(catalog, config.categories, custom)
    vocabularies = category_vocabularies(catalog, candidates, most=config.max_category_values)
    vocabularies = {name: values for name, values in vocabularies.items() if name in read}
    return feature_set(vocabularies, config, custom, reserved=RESERVED_COLUMNS), vocabularies
