"""The stages of a training after its text models: rankers and their evaluation.

Labels flow one way: rankers learn from scores of text models that are older, early stopping reads valid, and nothing
but the evaluation reads test. They write no file and use no MLflow.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from features.arrays import Float32, Float64, Int32
from features.definitions.event_measures import Feature
from features.log import Impressions
from recsys.collaborative.column_names import COLLABORATIVE_COLUMNS
from recsys.config import Config
from recsys.encoder.model import Encoder
from recsys.encoder.scoring import text_features
from recsys.encoder.snapshots import ScheduledEncoder
from recsys.errors import TrainingError
from recsys.evaluation.model_evaluation import column_scores, evaluate_methods
from recsys.evaluation.report import Evaluation
from recsys.ranker.column_names import RESERVED_COLUMNS
from recsys.ranker.ensemble_ranker import EnsembleRanker
from recsys.ranker.feature_selection import FeatureSelection
from recsys.ranker.features import catalogue_categories, category_vocabularies, feature_set
from recsys.ranker.lightgbm_ranker import TreeRanker, is_small, select_columns
from recsys.ranker.ranker import Ranker
from recsys.ranker.text_snapshots import RepresentationSchedule
from recsys.ranker.tfidf import Lexical
from recsys.training.context import TrainingContext
from recsys.training.model_choice import (
    BEHAVIOUR,
    BEHAVIOUR_LEXICAL,
    BLEND,
    ENSEMBLE,
    FROZEN_TEXT,
    LINEAR_RANKERS,
    RANKER,
    ModelChoice,
    choose_model,
)
from recsys.training.ranker_data import NOT_READ, RANKERS, RankerData, make_ranker_data
from recsys.training.text_models import check_no_label_leak, collaborative_settings, represent_items

log = logging.getLogger(__name__)

REGISTERED = "registered"
"""The method that goes live, where that is not the ranker with every column."""


@dataclass(frozen=True)
class RankerResult:
    """The result of the ranker stage.

    rankers: the contenders, those with trees trained on train and valid. contender_ndcg: nDCG@10 of each valid list by
    contender, before it learnt valid. matrix, columns: of the test lists, (n_rows, n_columns). frozen_matrix: with the
    text columns of the base model, None where no other has been trained. valid_ndcg: of the full ranker's training, one
    value a tree. train, valid, test: impressions of the slices. selection: what the full ranker does without, where
    that is configured. reads_text: whether the base model knows the words. final: the choice retrained on test too,
    where that is configured; no score here is its. final_behaviour: the same of `behaviour`, where it is the choice's
    fallback.
    """

    config: Config

    features: tuple[Feature, ...]
    vocabularies: Mapping[str, tuple[str, ...]]
    texts: RepresentationSchedule
    rankers: Mapping[str, Ranker]
    contender_ndcg: Mapping[str, Float64]
    valid_ndcg: tuple[float, ...]
    train: Impressions
    valid: Impressions
    test: Impressions
    matrix: Float32
    columns: tuple[str, ...]
    frozen_matrix: Float32 | None = None
    selection: FeatureSelection | None = None
    reads_text: bool = True
    final: Ranker | None = None
    final_behaviour: Ranker | None = None

    def list_sizes(self) -> dict[str, int]:
        """Smallest, median and largest training list."""
        sizes = self.train.requests.lengths()
        return {"smallest": int(sizes.min()), "median": int(np.median(sizes)), "largest": int(sizes.max())}

    def scores(self, method: str, *, threads: int) -> Float64:
        """Scores of one of the rankers for the test rows, (n_rows,)."""
        return self.rankers[method].scores(self.matrix_for(method), threads=threads)

    def matrix_for(self, method: str) -> Float32:
        """The columns of the test matrix that one of the rankers reads, (n_rows, its columns)."""
        matrix = self.frozen_matrix if method == FROZEN_TEXT and self.frozen_matrix is not None else self.matrix
        return select_columns(matrix, self.columns, self.rankers[method].columns)

    @cached_property
    def choice(self) -> ModelChoice:
        """Which contender goes live. Raises TrainingError where the configuration names one that is absent."""
        few = is_small(self.config.ranker, len(self.train))
        first = BEHAVIOUR_LEXICAL if not self.reads_text else ENSEMBLE if few else RANKER
        return choose_model(self.contender_ndcg, self.valid.requests.user, self.config, first=first)

    @property
    def registered(self) -> Ranker:
        """The ranker that goes live."""
        return self.final or self.rankers[self.choice.method]

    def fallback(self, *, final: bool) -> Ranker | None:
        """What is stored beside the choice for requests that have no time for texts: `behaviour`, where the choice
        reads texts, and the same collaborative columns too. final: as it has learnt test."""
        behaviour = self.final_behaviour if final else self.rankers.get(BEHAVIOUR)
        columns = set(self.rankers[self.choice.method].columns)
        if behaviour is None or columns.isdisjoint(NOT_READ[BEHAVIOUR]):
            return None
        return behaviour if columns.issuperset(set(behaviour.columns).intersection(COLLABORATIVE_COLUMNS)) else None


def ranker_stage(
    context: TrainingContext,
    encoders: tuple[ScheduledEncoder, ...],
    lexical: Lexical,
    *,
    methods: Collection[str] = RANKERS,
    frozen: Encoder | None = None,
    reads_text: bool = True,
) -> RankerResult:
    """The matrices of the later slices with the text models' scores, and the rankers on them.

    encoders: each scores the lists of its time. Raises TrainingError where one learnt what it scores. methods: which of
    `RANKERS` to train; one that gives all rows one score is left out. frozen: the base model of a trained encoder; None
    trains no ranker on its columns. reads_text: as in `RankerResult`.
    """
    train = context.usable(context.sliced.ranker)
    check_no_label_leak(encoders, int(train.requests.time[0]))
    features, vocabularies = resolve_features(context, train.requests.item)
    texts = represent_items(context, encoders, lexical, collaborative_settings(context))
    data = make_ranker_data(context, features, texts, train)
    datasets = dict.fromkeys(methods, data)
    if frozen is not None:
        datasets[FROZEN_TEXT] = data.with_frozen_text(frozen, texts)
    stopped, curve = _train_rankers(datasets)
    selection, ensemble = None, None
    if context.config.ranker.select_features and RANKER in stopped:
        selection = data.without_weak_features(stopped[RANKER], features)
        stopped[RANKER] = selection.ranker
    ndcg = {method: data.valid_ndcg(ranker) for method, ranker in LINEAR_RANKERS.items()}
    ndcg |= {method: datasets[method].valid_ndcg(ranker) for method, ranker in stopped.items()}
    retrained = {method: datasets[method].retrain(ranker) for method, ranker in stopped.items()}
    rankers: dict[str, Ranker] = {**LINEAR_RANKERS, **retrained}
    if RANKER in stopped:
        ensemble = data.ensemble(stopped[RANKER])
        ndcg[ENSEMBLE] = data.valid_ndcg(ensemble)
        rankers[ENSEMBLE] = ensemble.with_trees(retrained[RANKER])
    result = RankerResult(
        config=context.config,
        features=features,
        vocabularies=vocabularies,
        texts=texts,
        rankers=rankers,
        contender_ndcg=ndcg,
        valid_ndcg=curve,
        train=train,
        valid=data.impressions[1],
        test=data.impressions[2],
        matrix=data.matrices[2].matrix,
        columns=data.names,
        frozen_matrix=datasets[FROZEN_TEXT].matrices[2].matrix if frozen is not None else None,
        selection=selection,
        reads_text=reads_text,
    )
    if not context.config.final_training or result.choice.method not in {*stopped, ENSEMBLE}:
        return result
    return _with_final(result, datasets, stopped, ensemble)


def _with_final(
    result: RankerResult,
    datasets: Mapping[str, RankerData],
    stopped: Mapping[str, TreeRanker],
    ensemble: EnsembleRanker | None,
) -> RankerResult:
    """The choice and its fallback trained on test too. stopped: of each method with the trees that valid asked for."""
    method = result.choice.method
    trees = RANKER if method == ENSEMBLE else method
    final = datasets[trees].retrain(stopped[trees], with_test=True)
    result = replace(result, final=ensemble.with_trees(final) if ensemble and method == ENSEMBLE else final)
    if result.fallback(final=False) is None:
        return result
    return replace(result, final_behaviour=datasets[BEHAVIOUR].retrain(stopped[BEHAVIOUR], with_test=True))


def _train_rankers(datasets: Mapping[str, RankerData]) -> tuple[dict[str, TreeRanker], tuple[float, ...]]:
    """The rankers that can be trained, by method, and nDCG@10 on valid after each tree of the full one."""
    rankers: dict[str, TreeRanker] = {}
    curve: tuple[float, ...] = ()
    for method, data in datasets.items():
        try:
            rankers[method], valid_ndcg = data.train(method)
        except TrainingError as error:
            log.warning("ranker %r is left out: %s", method, error)
            continue
        curve = valid_ndcg if method == RANKER else curve
    return rankers, curve


def evaluation_stage(context: TrainingContext, ranked: RankerResult, encoders: Mapping[str, Encoder]) -> Evaluation:
    """Every method on the test lists. encoders: those to score by themselves, by the method's name; `text` is the one
    that the ranker reads."""
    reader = context.index.reader(ranked.test.requests)
    scores: dict[str, Float32 | Float64] = {**column_scores(ranked.matrix, ranked.columns)}
    for method, encoder in encoders.items():
        vectors = encoder.encode_texts(context.item_texts)
        scores[method] = text_features(encoder.weights, vectors, reader.requests, reader.histories)[:, 0]
    for method in (*RANKERS, BLEND, FROZEN_TEXT, ENSEMBLE):
        if method in ranked.rankers:
            scores[method] = ranked.scores(method, threads=context.threads)
    if ranked.choice.method != RANKER:
        scores[REGISTERED] = ranked.scores(ranked.choice.method, threads=context.threads)
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
