"""The lines of the text-lift ledger: what the ranker may know of texts, from nothing to a fine-tuned encoder.

Every line is a whole ranker, trained on the same rows with the same settings and seed and scored on the same test
lists; lines differ in the columns that they read and in the encoder that made these. Another kind of encoder is another
line. Nothing here writes a file or knows MLflow; the report is `recsys.ablation.report`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32, Float64
from features.definitions.aggregates import CLICK, ITEM, USER, Count
from recsys.ablation.latency import TimedVariant, milliseconds_of
from recsys.ablation.report import AblationReport, VariantCost, VariantResult
from recsys.config import Config, EncoderConfig
from recsys.encoder.snapshots import BEGINNING, ScheduledEncoder
from recsys.encoder.text import item_texts
from recsys.encoder.training.train import base_encoder, train_encoder
from recsys.evaluation.evaluate import MethodComparison, evaluate, random_scores
from recsys.metrics.list_facts import list_facts
from recsys.ranker.column_names import LEXICAL_COLUMN, TEXT_SCORE
from recsys.ranker.tfidf import Lexical
from recsys.training.context import TrainingContext
from recsys.training.stages import RANKERS, RankerResult, encoder_schedule, lexical_stage, ranker_stage

logger = logging.getLogger(__name__)

NO_TEXT, LEXICAL, EVERYTHING = RANKERS


@dataclass(frozen=True)
class BuiltEncoder:
    """An encoder for the ranker's rows. states: which model scores what, the last one is served. note: what a reader of
    the ledger has to know of it; empty for nothing."""

    states: tuple[ScheduledEncoder, ...]
    note: str = ""


EncoderBuilder = Callable[[TrainingContext], BuiltEncoder]
"""Makes an encoder out of a log; it may learn from no label that is as late as a list that it scores."""


@dataclass(frozen=True)
class Variant:
    """One line of the ledger. what: in a few words. ranker: which of `RANKERS` it is, hence which columns it reads.
    encoder: makes the encoder that it reads; None for a ranker that reads no column of one."""

    name: str
    what: str
    ranker: str
    encoder: EncoderBuilder | None = None


def frozen(chain: TrainingContext) -> BuiltEncoder:
    """The base model as it comes, with the mean-history cosine as score."""
    encoder = base_encoder(chain.config.encoder)
    texts = item_texts(chain.log.catalog, encoder.settings.template)
    return BuiltEncoder((ScheduledEncoder(BEGINNING, None, encoder.with_table(texts)),))


def train_with(changes: Mapping[str, object]) -> EncoderBuilder:
    """Trains the encoder as a training with these `encoder` settings beside the configured ones would.

    The template and the history's length are the ranker's as well: a line cannot change them.
    """

    def make(chain: TrainingContext) -> BuiltEncoder:
        changed = EncoderConfig.model_validate(chain.config.encoder.model_dump() | dict(changes))
        config = chain.config.model_copy(update={"encoder": changed})
        trained = train_encoder(chain.log, encoder_schedule(chain.log.impressions, chain.sliced, config), config)
        note = f"not trained, {trained.reason}: the frozen base model" if not trained.trained else ""
        return BuiltEncoder(trained.states, note)

    return make


LINES = (
    Variant("none", "no column reads text", NO_TEXT),
    Variant("tfidf", "TF-IDF similarity to the history", LEXICAL),
    Variant("frozen", "base model as it comes, mean-history cosine", EVERYTHING, frozen),
    Variant("head", "head trained on the base model's frozen vectors", EVERYTHING, train_with({"fine_tune_epochs": 0})),
    Variant("fine_tuned", "upper layers of the base model trained too", EVERYTHING, train_with({})),
)
"""From the plainest on: each is compared with all before it."""


def lines_of(config: Config) -> tuple[Variant, ...]:
    """The lines that a configuration tells apart: where no layer is trained, the last one would be `head` again."""
    return LINES if config.encoder.fine_tune_epochs else tuple(line for line in LINES if line.name != "fine_tuned")


def run_variants(chain: TrainingContext, lines: Sequence[Variant]) -> AblationReport:
    """Train every line's encoder and ranker, and measure them on test. At least one line has an encoder.

    Lines without one read their columns from the matrix that the first encoder's lines are made of.
    """
    makers = list(dict.fromkeys(line.encoder for line in lines if line.encoder is not None))
    if not makers:
        raise ValueError(f"expected a line with an encoder, got {[line.name for line in lines]}")
    started = time.perf_counter()
    lexical = lexical_stage(chain)
    lexical_seconds = time.perf_counter() - started
    ran: dict[str, _Ran] = {}
    for maker in makers:
        own = [line for line in lines if line.encoder is maker or (line.encoder is None and maker is makers[0])]
        ran |= _run_encoder(chain, own, maker, lexical, lexical_seconds)
    ordered = {line.name: ran[line.name] for line in lines}
    spent = milliseconds_of([one.timed for one in ordered.values()], chain)
    measured = tuple(
        VariantResult(
            line.name, line.what, VariantCost(one.seconds, spent[i]), one.timed.ranker.booster.num_trees(), one.note
        )
        for i, (line, one) in enumerate(zip(lines, ordered.values(), strict=True))
    )
    return _ledger(chain, measured, {name: one.scores for name, one in ordered.items()})


@dataclass(frozen=True)
class _Ran:
    """What is kept of a line's training. scores: of the test rows, (n_rows,). seconds: of its text models."""

    scores: Float64
    timed: TimedVariant
    seconds: float
    note: str


def _run_encoder(
    chain: TrainingContext, lines: Sequence[Variant], maker: EncoderBuilder, lexical: Lexical, lexical_seconds: float
) -> dict[str, _Ran]:
    """The lines that are made from one encoder's matrix."""
    started = time.perf_counter()
    made = maker(chain)
    encoder_seconds = time.perf_counter() - started
    ranked = ranker_stage(chain, made.states, lexical, methods=[line.ranker for line in lines])
    found = {}
    for line in lines:
        timed = _timed(ranked, line, chain)
        seconds = (lexical_seconds if timed.reads_terms else 0.0) + (encoder_seconds if timed.reads_vectors else 0.0)
        scores = ranked.scores(line.ranker, threads=chain.threads)
        found[line.name] = _Ran(scores, timed, seconds, made.note if timed.reads_vectors else "")
        logger.info("%-10s text models in %.1f s, ranker of %d trees", line.name, seconds, timed.n_trees)
    return found


def _timed(ranked: RankerResult, line: Variant, chain: TrainingContext) -> TimedVariant:
    ranker = ranked.rankers[line.ranker]
    return TimedVariant(
        ranker=ranker,
        features=tuple(feature for feature in ranked.features if feature.name in ranker.columns),
        model=ranked.texts.served,
        texts=ranked.texts.latest,
        tables=ranked.texts.tables(len(ranked.texts.states) - 1, chain.index),
        reads_terms=LEXICAL_COLUMN in ranker.columns,
        reads_vectors=TEXT_SCORE in ranker.columns,
    )


def _ledger(
    chain: TrainingContext, measured: tuple[VariantResult, ...], scores: Mapping[str, Float64]
) -> AblationReport:
    """The lines on the test lists, beside a random order and popularity."""
    config, test = chain.config, chain.usable(chain.sliced.test)
    requests = test.requests
    histories = chain.index.histories(requests, length=config.encoder.history_length, delay=chain.delay)
    reader = chain.index.reader(requests, histories, delay=chain.delay, timezone=config.data.timezone)
    item_clicks = reader.count(Count(CLICK, ITEM))
    methods: dict[str, Float32 | Float64] = {
        "random": random_scores(requests.n_rows, seed=config.seed),
        "popularity": item_clicks.astype(np.float64),
        **scores,
    }
    names = [one.name for one in measured]
    lifts = [MethodComparison(name, before) for place, name in enumerate(names) for before in names[:place]]
    evaluation = evaluate(
        methods,
        test,
        chain.log.users,
        item_clicks_before=item_clicks,
        user_clicks_before=reader.count(Count(CLICK, USER))[requests.offsets[:-1]],
        settings=config.evaluation,
        seed=config.seed,
        lifts=lifts,
        facts=list_facts(reader, test),
    )
    return AblationReport(measured, evaluation, lifts, resamples=config.evaluation.resamples, seed=config.seed)
