"""The registration of a training's choice: both models, the alias, and the verdict as the version's description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.clock import format_time
from features.tables.report import TableReport
from recsys.collaborative.column_names import ALIGNED_COLUMN, COLLABORATIVE_COLUMNS, SEQUENCE_COLUMN
from recsys.collaborative.snapshot import TableSettings
from recsys.encoder.model import Encoder
from recsys.encoder.snapshots import BEGINNING
from recsys.encoder.text_model import NoEncoder
from recsys.encoder.training.train import TrainedEncoder
from recsys.evaluation.report import Evaluation
from recsys.evaluation.verdict import DataFacts, Registered, Verdict, better_baselines, lifts_of
from recsys.ranker.column_names import ENCODER_COLUMNS
from recsys.ranker.model import RankingModel, Settings
from recsys.ranker.ranker import Ranker
from recsys.ranker.tfidf import Lexical
from recsys.registry import aliases
from recsys.registry.golden_requests import golden_rows, golden_texts
from recsys.registry.names import CHAMPION, Version
from recsys.registry.versions import delete_version_on_failure, log_encoder, log_ranker
from recsys.training.context import TrainingContext
from recsys.training.model_choice import FROZEN_TEXT, RANKER, ModelChoice
from recsys.training.stages import REGISTERED, RankerResult

GOLDEN_REQUESTS = 5


@dataclass(frozen=True)
class RegisteredModels:
    """encoder: None where the ranker reads no column of one."""

    ranker: Version
    encoder: Version | None
    verdict: Verdict

    def uris(self) -> dict[str, str | None]:
        """Of both, by their role."""
        return {"encoder": None if self.encoder is None else self.encoder.uri, "ranker": self.ranker.uri}


def register(
    name: str,
    context: TrainingContext,
    tables: TableReport,
    trained: TrainedEncoder,
    lexical: Lexical,
    ranked: RankerResult,
    evaluation: Evaluation,
) -> RegisteredModels:
    """Log and register the choice, and before it the encoder that it names, if any, to the open run.

    name: of the models. tables: that the training read.
    """
    ranker, method, config = ranked.registered, ranked.choice.method, context.config
    evaluated = method if method == RANKER else REGISTERED
    lifts = lifts_of(evaluation, evaluated, config.evaluation, config.seed, same=method)
    better = better_baselines(lifts)
    facts = _facts(context, trained, ranked, evaluation)
    rows = ranked.matrix_for(method)[:GOLDEN_REQUESTS]
    encoder = _served_encoder(method, ranker, trained)
    encoder_version = None if encoder is None else _log_encoder(context, name, encoder)
    with delete_version_on_failure(encoder_version):
        settings = _settings(context, encoder_version, encoder, trained, ranked, tables)
        model = RankingModel(settings, ranker, encoder or NoEncoder(settings.history_length), lexical)
        version = log_ranker(model, name, golden_rows(ranker, rows), rows, may_be_champion=not better)
        with delete_version_on_failure(version):
            registered = _registered(ranked.choice, version, aliases.champion_of(version.name), better)
            verdict = Verdict(str(version), registered, lifts, evaluation, facts, config.evaluation, config.seed)
            aliases.describe(version, "\n\n".join(verdict.sentences))
    return RegisteredModels(version, encoder_version, verdict)


def _served_encoder(method: str, ranker: Ranker, trained: TrainedEncoder) -> Encoder | None:
    """The encoder whose columns a ranker reads; None where it reads none."""
    if set(ranker.columns).isdisjoint(ENCODER_COLUMNS):
        return None
    return trained.frozen if method == FROZEN_TEXT else trained.served


def _log_encoder(context: TrainingContext, name: str, encoder: Encoder) -> Version:
    texts = [text for text in context.item_texts if text]
    samples: list[tuple[list[str], str]] = [([], f"golden {text}") for text in texts[:2]] + [
        (texts[:3], f"golden {text}") for text in texts[3:6]
    ]
    return log_encoder(encoder, name, golden_texts(encoder, samples))


def _registered(choice: ModelChoice, version: Version, champion: Version | None, better: tuple[str, ...]) -> Registered:
    """What was registered, and why it is, or is not, the champion."""
    if champion == version:
        return Registered(choice.method, CHAMPION, choice.reason)
    if better:
        why = f"it is significantly worse than {' and '.join(better)} on test"
    else:
        why = f"{champion} is, until `recsys promote {version.number}` finds it better"
    return Registered(choice.method, None, f"{choice.reason}; {why}")


def _facts(
    context: TrainingContext, trained: TrainedEncoder, ranked: RankerResult, evaluation: Evaluation
) -> DataFacts:
    test, counts = ranked.test, trained.counts
    scores = ranked.scores(ranked.choice.method, threads=context.threads)
    bounds = test.requests.offsets[:-1]
    tied = np.maximum.reduceat(scores, bounds) == np.minimum.reduceat(scores, bounds)
    return DataFacts(
        sampled=float(test.sampled.mean()),
        cold=float(evaluation.cold_item.mean()),
        tied=float(tied.mean()),
        unknown_tokens=counts.tokens_unknown / max(1, counts.tokens),
        trees=ranked.registered.n_trees or None,
        encoder_problem=trained.reason,
        n_valid=len(ranked.valid),
    )


def _settings(
    context: TrainingContext,
    encoder_version: Version | None,
    encoder: Encoder | None,
    trained: TrainedEncoder,
    ranked: RankerResult,
    tables: TableReport,
) -> Settings:
    config, times = context.config, context.log.impressions.requests.time
    custom, columns = config.features.custom, ranked.registered.columns
    is_trained = encoder is not None and encoder is not trained.frozen
    return Settings(
        columns=columns,
        categories=dict(ranked.vocabularies),
        inputs=config.features,
        history_length=config.encoder.history_length,
        template=config.encoder.template,
        data=config.data,
        collaborative=_tables_read(ranked.texts.collaborative, columns),
        encoder=None if encoder_version is None else encoder_version.uri,
        encoder_fingerprint="" if encoder is None else encoder.fingerprint,
        encoder_trained_until=trained.served_trained_until if is_trained else None,
        training_scores=_training_scores(trained) if is_trained else "no trained encoder",
        list_sizes=ranked.list_sizes(),
        data_fingerprint=tables.fingerprint,
        final_training=config.final_training,
        trained_until=int(times.max() if config.final_training else times[context.sliced.valid].max()),
        custom_features=custom.fingerprint if custom else None,
        custom_source=custom.source if custom else None,
    )


def _tables_read(settings: TableSettings | None, columns: Sequence[str]) -> TableSettings | None:
    """Settings of the collaborative tables that a ranker's columns read, None for none."""
    if settings is None or set(columns).isdisjoint(COLLABORATIVE_COLUMNS):
        return None
    unread = {"sequence_window": SEQUENCE_COLUMN, "alignment_clicks": ALIGNED_COLUMN}
    return settings.model_copy(update={field: 0 for field, column in unread.items() if column not in columns})


def _training_scores(trained: TrainedEncoder) -> str:
    """Which state of the encoder scored which rows of the ranker's training."""
    if not trained.trained:
        return "the frozen base model scored every row"
    scored = [
        f"lists from {'the first' if state.start == BEGINNING else format_time(state.start)} by labels up to "
        f"{format_time(state.trained_until)}"
        for state in trained.states
        if state.trained_until is not None
    ]
    return "; ".join(scored)
