"""The registration of a training's choice: both models, the alias, and the verdict as the version's description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.clock import format_time
from features.tables.report import TableReport
from recsys.collaborative.column_names import ALIGNED_COLUMN, COLLABORATIVE_COLUMNS, SEQUENCE_COLUMN
from recsys.collaborative.snapshot import TableSettings
from recsys.config import Config
from recsys.encoder.snapshots import BEGINNING
from recsys.encoder.text_model import NoEncoder
from recsys.encoder.training.train import TrainedEncoder
from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.report import Evaluation
from recsys.evaluation.slices import SliceResult
from recsys.evaluation.verdict import DataFacts, Registered, Verdict, better_baselines, lifts_of
from recsys.ranker.model import RankingModel, Settings
from recsys.ranker.tfidf import Lexical
from recsys.registry import aliases
from recsys.registry.fitted import FittedModel, evaluated_model, served_model
from recsys.registry.model_card import TrainingFacts, encoder_card, ranker_card
from recsys.registry.names import CHAMPION, Version
from recsys.registry.versions import delete_version_on_failure, log_encoder, log_ranker
from recsys.report.content import slice_comparison
from recsys.training.context import TrainingContext
from recsys.training.model_choice import BEHAVIOUR, RANKER, ModelChoice
from recsys.training.stages import REGISTERED, RankerResult

GOLDEN_REQUESTS = 5


@dataclass(frozen=True)
class RegisteredModels:
    """encoder: None where the ranker reads no column of one. slices: of the test impressions; intervals of popularity's
    nDCG@10, of that of what was registered, and of their difference."""

    ranker: Version
    encoder: Version | None
    verdict: Verdict
    slices: tuple[SliceResult, ...]

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
    *,
    folder: str,
) -> RegisteredModels:
    """Log and register the choice, and before it the encoder that it names, if any, to the open run.

    name: of the models. tables: that the training read. folder: its name.
    """
    method, config = ranked.choice.method, context.config
    reported = method if method == RANKER else REGISTERED
    lifts = lifts_of(evaluation, reported, config.evaluation, config.seed, same=method)
    better = better_baselines(lifts)
    facts = _facts(context, trained, ranked, evaluation)
    evaluated = evaluated_model(context, trained, ranked)
    served = served_model(context, trained, ranked) if config.final_training else evaluated
    encoder_version = _log_encoder(context, name, served, evaluated)
    with delete_version_on_failure(encoder_version):
        model, before = (
            RankingModel(
                _settings(context, encoder_version, stage, trained, ranked, tables),
                stage.ranker,
                stage.encoder or NoEncoder(config.encoder.history_length),
                lexical,
                stage.fallback,
            )
            for stage in (served, evaluated)
        )
        version = log_ranker(
            model,
            name,
            ranked.matrix_for(method)[:GOLDEN_REQUESTS],
            fallback_rows=ranked.matrix_for(BEHAVIOUR)[:GOLDEN_REQUESTS] if served.fallback is not None else None,
            evaluated=before if served.final else None,
            may_be_champion=not better,
        )
        with delete_version_on_failure(version):
            registered = _registered(ranked.choice, version, aliases.champion_of(version.name), better)
            verdict = Verdict(str(version), registered, lifts, evaluation, facts, config.evaluation, config.seed)
            slices = _slices(evaluation, reported, config)
            about = TrainingFacts(folder, tables.as_dict(), context.sliced.counts(), config)
            encoder_uri = None if encoder_version is None else encoder_version.uri
            aliases.describe(version, ranker_card(verdict, slices, about, encoder=encoder_uri))
            if encoder_version is not None:
                aliases.describe(encoder_version, encoder_card(verdict, about, uri=encoder_version.uri))
    return RegisteredModels(version, encoder_version, verdict, slices)


def _slices(evaluation: Evaluation, method: str, config: Config) -> tuple[SliceResult, ...]:
    settings = config.evaluation
    comparison = MethodComparison(method, "popularity")
    frame = evaluation.per_impression_frame()
    return slice_comparison(frame, comparison, resamples=settings.resamples, seed=config.seed)


def _log_encoder(context: TrainingContext, name: str, served: FittedModel, evaluated: FittedModel) -> Version | None:
    if served.encoder is None:
        return None
    texts = [text for text in context.item_texts if text]
    requests: list[tuple[list[str], str]] = [([], f"golden {text}") for text in texts[:2]] + [
        (texts[:3], f"golden {text}") for text in texts[3:6]
    ]
    before = None if evaluated.encoder is served.encoder else evaluated.encoder
    return log_encoder(served.encoder, name, requests, evaluated=before)


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
        reads_text=counts.reads_text,
        trees=ranked.registered.n_trees or None,
        encoder_problem=trained.reason,
        n_valid=len(ranked.valid),
    )


def _settings(
    context: TrainingContext,
    encoder_version: Version | None,
    stage: FittedModel,
    trained: TrainedEncoder,
    ranked: RankerResult,
    tables: TableReport,
) -> Settings:
    config, columns = context.config, stage.ranker.columns
    custom, encoder = config.features.custom, stage.encoder
    return Settings(
        columns=columns,
        fallback_columns=() if stage.fallback is None else stage.fallback.columns,
        categories=dict(ranked.vocabularies),
        inputs=config.features,
        history_length=config.encoder.history_length,
        template=config.encoder.template,
        data=config.data,
        collaborative=_tables_read(ranked.texts.collaborative, columns),
        encoder=None if encoder_version is None else encoder_version.uri,
        encoder_fingerprint="" if encoder is None else encoder.fingerprint,
        encoder_trained_until=stage.encoder_trained_until,
        training_scores="no trained encoder" if stage.encoder_trained_until is None else _training_scores(trained),
        list_sizes=ranked.list_sizes(),
        data_fingerprint=tables.fingerprint,
        final_training=stage.final,
        trained_until=stage.trained_until,
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
