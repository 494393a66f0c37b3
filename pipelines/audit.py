"""`recsys audit DIR [--replay] [--logged LOG]`: does the ranker read leaks, and does serving compute what training did?

Reads a data directory, and a registered ranker where one is named: then its features and text models are audited;
without one, those of a training with this configuration, with the frozen base model as encoder. Writes nothing.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.clock import format_time
from features.errors import InputError
from features.log import Log
from features.offline.reader import LogIndex
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from features.tables.formats import find_table
from features.tables.load import ReadOptions, load_log, read_table_rows
from features.tables.permuted_clicks import permuted_log
from pipelines.data_options import moment_in, read_options, read_options_of_model
from pipelines.online_rows import read_items
from pipelines.replay_feed import arriving
from recsys.audit.context import AuditContext
from recsys.audit.logged import LoggedReport, compare_logged
from recsys.audit.replay import ReplayReport, replay_settings
from recsys.audit.replay import replay as run_replay
from recsys.audit.report import AuditReport
from recsys.audit.run import audit as run_rules
from recsys.config import Config
from recsys.encoder.snapshots import BEGINNING, ScheduledEncoder
from recsys.encoder.text_model import NoEncoder
from recsys.encoder.training.train import base_encoder, train_encoder
from recsys.errors import TrainingError
from recsys.ranker.model import RankingModel, Settings
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import tracking, versions
from recsys.training.context import TrainingContext, open_training_context
from recsys.training.stages import resolve_features
from recsys.training.text_models import collaborative_settings, encoder_schedule, lexical_stage, represent_items
from recsys.training.time_split import slice_after

log = logging.getLogger(__name__)


def audit(folder: Path, config: Config, *, model: str | None = None, full: bool = False) -> AuditReport:
    """Run every rule on a data directory.

    model: a registered ranker to audit, as models:/NAME-ranker@ALIAS; None for what the configuration would train.
    full: train the encoder, on the clicks as they are and on permuted ones. Raises InputError for unusable tables,
    ModelNotFound and its kin for the model.
    """
    return run_rules(open_context(folder, config, model=model, full=full))


def replay(
    folder: Path,
    config: Config,
    *,
    model: str | None = None,
    start: int | str | None = None,
    end: int | str | None = None,
) -> ReplayReport:
    """Run the lists of a data directory through the online path, in a temporary store, against the offline matrix.

    start, end: lists from `start` on and before `end`, None for all; microseconds, or as people write a time, without a
    zone in the data's. model, errors: as in `audit`.
    """
    context = open_context(folder, config, model=model)
    options = read_options(context.training.config)
    times = context.log.impressions.requests.time
    begins, ends = (moment_in(time, options.data.timezone, name) for time, name in ((start, "from"), (end, "to")))
    first = 0 if begins is None else int(np.searchsorted(times, begins))
    last = len(times) if ends is None else int(np.searchsorted(times, ends))
    impressions = context.log.impressions.take(np.arange(first, max(first, last)))
    with tempfile.TemporaryDirectory(prefix="recsys-replay-") as home:
        store = LmdbStore(Path(home), durable=False)
        try:
            state = OnlineState.open(store, replay_settings(context))
            _describe_items(state, folder, options)
            return run_replay(context, state, arriving(folder, options), impressions)
        finally:
            store.close()


def audit_logged(folder: Path, config: Config, logged: Path, *, model: str) -> LoggedReport:
    """Compare the features that a server logged for the rankings of a version with those of a data directory.

    logged: a folder that `recsys serve --log-rankings` wrote. Of the configuration only threads and how files are read
    count. Raises InputError for unusable tables and logs, ModelNotFound and its kin for the model.
    """
    tracking.connect()
    loaded = versions.load(model)
    served = loaded.ranking_model
    data, tables = load_log(folder, read_options_of_model(served.settings, config.data.files))
    for warning in tables.warnings:
        log.info("warning: %s", warning)
    index, threads = LogIndex(data), config.threads or os.cpu_count() or 1
    scorers = {"full": OfflineScorer(served, index, served.texts(data.catalog), threads)}
    if served.fallback is not None:
        settings = served.settings.model_copy(update={"columns": served.settings.fallback_columns})
        behaviour = replace(served, settings=settings, ranker=served.fallback)
        scorers["no_text"] = replace(scorers["full"], ranking_model=behaviour)
    return compare_logged(logged, str(loaded.ranker), scorers)


def _describe_items(state: OnlineState, folder: Path, options: ReadOptions) -> None:
    """Put the items table into a state; the last row of an item counts, as in training."""
    path = find_table(folder, "items")
    if path is None:
        raise InputError(f"data directory {str(folder)!r}: expected an items table, found none")
    for checked in read_table_rows(path, "items", options):
        state.add_items(list({item.item_id: item for item in read_items(checked)}.values()))


def audit_version(loaded: versions.LoadedModel, folder: Path, *, config: Config) -> AuditReport:
    """Run every rule on a registered version, as the gate of promotion does: what its training was allowed to know only
    afterwards is not allowed here unless `config` says so too."""
    ranking_model = loaded.ranking_model
    inputs = ranking_model.settings.inputs.model_copy(update={"allow_known_after": ()})
    settings = ranking_model.settings.model_copy(update={"inputs": inputs})
    return run_rules(model_context(folder, replace(ranking_model, settings=settings), config))


def open_context(folder: Path, config: Config, *, model: str | None = None, full: bool = False) -> AuditContext:
    """The input of an audit of a data directory; arguments as in `audit`."""
    if model is None:
        return training_context(folder, config, full=full)
    tracking.connect()
    return model_context(folder, versions.load(model, evaluated=True).ranking_model, config, full=full)


def training_context(folder: Path, config: Config, *, full: bool = False) -> AuditContext:
    """What a training with this configuration would hand to its ranker, with the frozen base model or a trained one."""
    context = read_context(folder, config)
    features, _ = resolve_features(context, context.usable(context.sliced.ranker).requests.item)
    if full:
        schedule = encoder_schedule(context.log.impressions, context.sliced, config)
        encoders = train_encoder(context.log, schedule, config).states
    else:
        model = base_encoder(config.encoder).with_table(context.item_texts)
        encoders = (ScheduledEncoder(BEGINNING, None, model),)
    lexical = lexical_stage(context)
    texts = represent_items(context, encoders, lexical, collaborative_settings(context))
    permuted = permuted_log_factory(folder, config)
    return AuditContext(context, features, lexical, texts, permuted=permuted, train_text=full)


def model_context(folder: Path, ranking_model: RankingModel, config: Config, *, full: bool = False) -> AuditContext:
    """The input of a trained model's ranker. config: slices, seed and bounds; the rest is as the model was trained."""
    config = config_from_model(ranking_model.settings, config)
    trained_until = ranking_model.settings.encoder_trained_until
    context = _later_than(read_context(folder, config), trained_until)
    model = ranking_model.encoder
    encoder = model if isinstance(model, NoEncoder) else model.with_table(context.item_texts)
    states = (ScheduledEncoder(BEGINNING, trained_until, encoder),)
    texts = replace(
        represent_items(context, states, ranking_model.lexical, ranking_model.settings.collaborative),
        read=ranking_model.settings.columns,
    )
    permuted = permuted_log_factory(folder, config)
    return AuditContext(
        context, ranking_model.features, ranking_model.lexical, texts, permuted=permuted, train_text=full
    )


def read_context(folder: Path, config: Config) -> TrainingContext:
    """The log of a data directory with its slices and counters."""
    data, tables = load_log(folder, read_options(config), impressions_required=True)
    for warning in tables.warnings:
        log.info("warning: %s", warning)
    return open_training_context(config, data)


def _later_than(context: TrainingContext, learnt_until: int | None) -> TrainingContext:
    """The context with slices of the lists after everything that an encoder learnt, which are the encoder slice.

    Raises InputError where too few are later to be sliced.
    """
    if learnt_until is None:
        return context
    impressions, shares = context.log.impressions, context.config.slices
    n = int(np.searchsorted(impressions.requests.time, learnt_until, side="right"))
    if n <= len(context.sliced.encoder):
        return context
    try:
        sliced = slice_after(impressions, n, shares)
    except TrainingError as error:
        raise InputError(
            f"the version's encoder has learnt labels up to {format_time(learnt_until)}, so only later lists can be "
            f"audited: {error}"
        ) from error
    return replace(context, sliced=sliced)


def permuted_log_factory(folder: Path, config: Config) -> Callable[[int], Log]:
    """A function that reads the tables again with clicks permuted within lists, by a seed."""
    return lambda seed: permuted_log(folder, read_options(config), seed=seed)


def config_from_model(settings: Settings, config: Config) -> Config:
    """A configuration with what a ranking model's settings record; the rest as given."""
    data = config.data.model_copy(update=dict(settings.data))
    columns, inputs = settings.item_columns, settings.inputs
    features = config.features.model_copy(
        update={
            "categories": columns.named_categories,
            "numbers": columns.numbers,
            "vectors": columns.vectors,
            "file": None,
            "smoothing": inputs.smoothing,
            "known_at": inputs.known_at | config.features.known_at,
            "allow_known_after": (*inputs.allow_known_after, *config.features.allow_known_after),
        }
    )
    encoder = config.encoder.model_copy(
        update={"template": settings.template, "history_length": settings.history_length}
    )
    return config.model_copy(update={"data": data, "features": features, "encoder": encoder})
