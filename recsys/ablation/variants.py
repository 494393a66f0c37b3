"""The variants of the ablation: which text columns the ranker reads, from none to those of a fine-tuned encoder.

Every variant is a whole ranker, trained on the same rows with the same settings and seed and scored on the same test
impressions; variants differ in the columns that they read and in the encoder that made these. Another kind of encoder
is another variant. It writes no file and uses no MLflow; the report is `recsys.ablation.report`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from features.arrays import Float32, Float64
from features.log import Requests
from features.matrix.columns import FeaturePlan
from recsys.ablation.report import AblationReport, VariantCost, VariantResult
from recsys.config import Config, EncoderConfig
from recsys.encoder.snapshots import BEGINNING, ScheduledEncoder
from recsys.encoder.training.train import base_encoder, train_encoder
from recsys.errors import TrainingError
from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.latency import Rank, latency_requests, median_milliseconds
from recsys.evaluation.model_evaluation import evaluate_methods
from recsys.ranker.column_names import LEXICAL_COLUMN, TEXT_SCORE
from recsys.ranker.matrix import candidate_matrix, encode_queries
from recsys.ranker.tfidf import Lexical
from recsys.training.context import TrainingContext
from recsys.training.model_choice import BEHAVIOUR, BEHAVIOUR_LEXICAL, RANKER
from recsys.training.stages import RankerResult, ranker_stage
from recsys.training.text_models import encoder_schedule, lexical_stage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltEncoder:
    """An encoder for the ranker's rows. states: which model scores what, the last one is served. note: what a reader of
    the report has to know of it; empty for nothing."""

    states: tuple[ScheduledEncoder, ...]
    note: str = ""


EncoderBuilder = Callable[[TrainingContext], BuiltEncoder]
"""Builds an encoder from a log; it may learn from no label that is as late as an impression that it scores."""


@dataclass(frozen=True)
class Variant:
    """description: in a few words. ranker: which ranker of a training it is, hence which columns it reads. encoder:
    builds the encoder that it reads; None for a ranker that reads no column of one."""

    name: str
    description: str
    ranker: str
    encoder: EncoderBuilder | None = None


def frozen(context: TrainingContext) -> BuiltEncoder:
    """The frozen base model, with the mean-history cosine as score."""
    encoder = base_encoder(context.config.encoder).with_table(context.item_texts)
    return BuiltEncoder((ScheduledEncoder(BEGINNING, None, encoder),))


def train_with(changes: Mapping[str, object]) -> EncoderBuilder:
    """Trains the encoder as a training with these `encoder` settings beside the configured ones would.

    The template and the history's length are the ranker's as well: a variant cannot change them.
    """

    def build(context: TrainingContext) -> BuiltEncoder:
        changed = EncoderConfig.model_validate(context.config.encoder.model_dump() | dict(changes))
        config = context.config.model_copy(update={"encoder": changed})
        schedule = encoder_schedule(context.log.impressions, context.sliced, config)
        trained = train_encoder(context.log, schedule, config)
        note = f"not trained, {trained.reason}: the frozen base model" if not trained.trained else ""
        return BuiltEncoder(trained.states, note)

    return build


VARIANTS = (
    Variant("none", "no column reads text", BEHAVIOUR),
    Variant("tfidf", "TF-IDF similarity to the history", BEHAVIOUR_LEXICAL),
    Variant("frozen", "frozen base model, mean-history cosine", RANKER, frozen),
    Variant("head", "head trained on the base model's frozen vectors", RANKER, train_with({"fine_tune_epochs": 0})),
    Variant("fine_tuned", "upper layers of the base model trained too", RANKER, train_with({})),
)
"""From the plainest on: each is compared with all before it."""


def variants_of(config: Config) -> tuple[Variant, ...]:
    """The variants that differ under a configuration: where no layer is trained, the last one would be `head` again."""
    return VARIANTS if config.encoder.fine_tune_epochs else VARIANTS[:-1]


@dataclass(frozen=True)
class _Trained:
    """scores: of the test rows, (n_rows,). rank: scores one request as it would be served. seconds: of the training of
    its text models."""

    scores: Float64
    rank: Rank
    trees: int
    seconds: float
    note: str


def run_variants(context: TrainingContext, variants: Sequence[Variant]) -> AblationReport:
    """Train every variant's encoder and ranker, and measure them on test. At least one variant has an encoder.

    Variants without one read their columns from the matrix of the first encoder.
    """
    builders = list(dict.fromkeys(variant.encoder for variant in variants if variant.encoder is not None))
    if not builders:
        raise ValueError(f"expected a variant with an encoder, got {[variant.name for variant in variants]}")
    started = time.perf_counter()
    lexical = lexical_stage(context)
    lexical_seconds = time.perf_counter() - started
    trained: dict[str, _Trained] = {}
    for builder in builders:
        same_matrix = [variant for variant in variants if (variant.encoder or builders[0]) is builder]
        trained |= _train(context, same_matrix, builder, lexical, lexical_seconds)
    requests = latency_requests(context.usable(context.sliced.test).requests)
    milliseconds = median_milliseconds([(trained[variant.name].rank, requests) for variant in variants])
    results = []
    for variant, spent in zip(variants, milliseconds, strict=True):
        ranker = trained[variant.name]
        cost = VariantCost(ranker.seconds, spent)
        results.append(VariantResult(variant.name, variant.description, cost, ranker.trees, ranker.note))
    return _report(context, tuple(results), {result.name: trained[result.name].scores for result in results})


def _train(
    context: TrainingContext,
    variants: Sequence[Variant],
    build: EncoderBuilder,
    lexical: Lexical,
    lexical_seconds: float,
) -> dict[str, _Trained]:
    """The variants that read the matrix of one encoder."""
    started = time.perf_counter()
    built = build(context)
    encoder_seconds = time.perf_counter() - started
    ranked = ranker_stage(context, built.states, lexical, methods=[variant.ranker for variant in variants])
    trained = {}
    for variant in variants:
        if variant.ranker not in ranked.rankers:
            raise TrainingError(
                f"variant {variant.name!r}: its ranker gives all validation rows one score; give more impressions, or "
                f"lower ranker.min_data_in_leaf (it is {context.config.ranker.min_data_in_leaf})"
            )
        ranker = ranked.rankers[variant.ranker]
        reads_encoder = TEXT_SCORE in ranker.columns
        seconds = lexical_seconds * (LEXICAL_COLUMN in ranker.columns) + encoder_seconds * reads_encoder
        trees = ranker.n_trees
        logger.info("%-10s text models in %.1f s, ranker of %d trees", variant.name, seconds, trees)
        trained[variant.name] = _Trained(
            scores=ranked.scores(variant.ranker, threads=context.threads),
            rank=_rank(context, ranked, variant.ranker),
            trees=trees,
            seconds=seconds,
            note=built.note if reads_encoder else "",
        )
    return trained


def _rank(context: TrainingContext, ranked: RankerResult, method: str) -> Rank:
    matrix, ranker = served_matrix(context, ranked, method), ranked.rankers[method]
    return lambda requests: ranker.scores(matrix(requests), threads=context.config.serving.threads)


def served_matrix(context: TrainingContext, ranked: RankerResult, method: str) -> Callable[[Requests], Float32]:
    """Makes the columns that one of the rankers reads, and no others, of requests with the encoder that is served.

    Vectors and collaborative tables are at hand. The values are those of the training's matrix to the bit.
    """
    read = ranked.rankers[method].columns
    plan = FeaturePlan([feature for feature in ranked.features if feature.name in read])
    model, texts = ranked.texts.served, ranked.texts.latest
    tables = ranked.texts.tables(len(ranked.texts.states) - 1, context.index)

    def matrix(requests: Requests) -> Float32:
        reader = context.index.reader(requests)
        queries = encode_queries(model, requests.query) if TEXT_SCORE in read else None
        return candidate_matrix(plan, model.weights, reader, texts, queries, tables, read=read)[1]

    return matrix


def _report(
    context: TrainingContext, results: tuple[VariantResult, ...], scores: Mapping[str, Float64]
) -> AblationReport:
    """The variants on the test impressions, beside a random order and popularity."""
    names = list(scores)
    compared = [MethodComparison(name, before) for i, name in enumerate(names) for before in names[:i]]
    test, config = context.usable(context.sliced.test), context.config
    evaluation = evaluate_methods(scores, context.index.reader(test.requests), test, config, lifts=compared)
    return AblationReport(results, evaluation, compared, resamples=config.evaluation.resamples, seed=config.seed)
