"""`recsys train DIR`: the whole chain, from tables to two registered models and their evaluation.

Reads a data directory. Writes an MLflow run with child runs for encoder, ranker and evaluation, the versions
NAME-encoder and NAME-ranker, and, where rows were rejected, a folder of them as the run's artifacts.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow

from features.atomic_files import replaced_file
from features.clock import moment_text
from features.errors import InputError
from features.tables.load import load_log
from features.tables.report import TableReport
from pipelines.chain import open_training_context
from pipelines.data_options import read_options
from pipelines.resuming import resuming, resumption_told
from pipelines.stopwatch import Stopwatch, peak_rss_mb
from pipelines.training_report import encoder_curve, ranker_curve, ranker_gains, training_html
from recsys.audit.context import AuditContext
from recsys.audit.run import TRAINING_RULES, audit, raise_if_failed
from recsys.config import Config
from recsys.encoder.snapshots import BEGINNING
from recsys.encoder.text import item_texts
from recsys.encoder.training.checkpoint import Checkpoints
from recsys.encoder.training.train import TrainedEncoder, train_encoder
from recsys.evaluation.report import Evaluation
from recsys.ranker.features import own_features
from recsys.ranker.model import Settings, Unit
from recsys.ranker.tfidf import Lexical
from recsys.registry import run_logging, tracking
from recsys.registry.golden_requests import golden_rows, golden_texts
from recsys.registry.names import Version, name_problem
from recsys.registry.resume import ResumableRun, checkpoint_folder, interrupted
from recsys.registry.versions import delete_version_on_failure, log_encoder, log_ranker
from recsys.report import figures
from recsys.training.context import TrainingContext
from recsys.training.stages import RankerResult, encoder_schedule, evaluation_stage, lexical_stage, ranker_stage

log = logging.getLogger(__name__)

GOLDEN_REQUESTS = 5
AUDITED_LISTS = 1000
"""Of each slice; `recsys audit` looks at all of them."""


@dataclass(frozen=True)
class TrainReport:
    """What a training read, measured and registered."""

    tables: TableReport
    slices: Mapping[str, int]
    encoder: Mapping[str, Any]
    evaluation: Evaluation
    seconds: Mapping[str, float]
    peak_rss_mb: int
    versions: Mapping[str, Version]
    run_id: str

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys train --json`."""
        return {
            "data": self.tables.as_dict(),
            "slices": dict(self.slices),
            "encoder": dict(self.encoder),
            **self.evaluation.as_dict(),
            "seconds": dict(self.seconds),
            "peak_rss_mb": self.peak_rss_mb,
            "models": {kind: version.uri for kind, version in self.versions.items()},
            "run_id": self.run_id,
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        return [
            self.evaluation.table(),
            "",
            f"registered {self.versions['encoder']} and {self.versions['ranker']} "
            f"in {sum(self.seconds.values()):.0f} s with at most {self.peak_rss_mb} MB; run {self.run_id}",
        ]


def resume(folder: Path, run_id: str, *, page: Path | None = None) -> TrainReport:
    """Go on with a training that was interrupted, in its own run and with its settings, from its last checkpoint.

    Raises RunNotFound where there is nothing to go on with, InputError where the data is not what it began with.
    """
    tracking.connect()
    found = interrupted(run_id)
    return train(folder, found.config, name=found.name, page=page, resumed=found)


def train(
    folder: Path,
    config: Config,
    *,
    name: str = "recsys",
    page: Path | None = None,
    resumed: ResumableRun | None = None,
) -> TrainReport:
    """Train, evaluate and register both models on a data directory. page: also write the HTML report to this file.

    Raises InputError for tables that cannot be used, TrainingError where no usable model can come of them.
    """
    if problem := name_problem(name):
        raise InputError(f"name of the models: {problem}")
    watch = Stopwatch()
    experiment = tracking.connect()
    with tempfile.TemporaryDirectory() as rejects:
        with watch.stage("read"):
            data, tables = load_log(folder, read_options(config), rejects=Path(rejects), impressions_required=True)
        for line in tables.lines():
            log.info("%s", line)
        if resumed is not None:
            resumed.require_data(folder, tables.fingerprint)
        chain = open_training_context(config, data)
        run_id = None if resumed is None else resumed.run_id
        with (
            tracking.run(experiment, name, parent=True, run_id=run_id) as parent,
            checkpoint_folder(parent.info.run_id) as kept,
            resumption_told(folder, parent.info.run_id, kept),
        ):
            _begin(folder, config, tables, Path(rejects), resumed)
            with tracking.run(experiment, "encoder"), watch.stage("encoder"):
                trained, lexical = _encoder_run(chain, Checkpoints(kept, minutes=config.encoder.checkpoint_minutes))
            with tracking.run(experiment, "ranker"), watch.stage("ranker"):
                ranked = _ranker_run(chain, trained, lexical)
            with tracking.run(experiment, "evaluation"), watch.stage("evaluation"):
                evaluation = _evaluation_run(chain, trained, ranked)
            with watch.stage("audit"):
                _audit_run(chain, lexical, ranked)
            with watch.stage("register"):
                versions = _register(chain, trained, lexical, ranked, tables, name)
            report = TrainReport(
                tables=tables,
                slices=chain.sliced.counts(),
                encoder=_encoder_report(trained),
                evaluation=evaluation,
                seconds=watch.seconds,
                peak_rss_mb=peak_rss_mb(),
                versions=versions,
                run_id=parent.info.run_id,
            )
            _log_report(report)
            html = training_html(name, report.as_dict(), evaluation, chain, trained, ranked)
            mlflow.log_text(html, "report.html")
            if page is not None:
                with replaced_file(page) as partial:
                    partial.write_text(html, encoding="utf-8")
    return report


def _begin(folder: Path, config: Config, tables: TableReport, rejects: Path, resumed: ResumableRun | None) -> None:
    """Log what the open run starts from, or clear away what it had half made; say how to go on with it."""
    if resumed is None:
        run_logging.log_config(config)
        run_logging.log_dataset(folder, tables.fingerprint, "training")
        mlflow.log_artifacts(str(rejects), "rejects")
    else:
        resumed.delete_partial_outputs()
    run = mlflow.active_run()
    assert run is not None
    log.info("run %s; if it is interrupted, go on with: %s", run.info.run_id, resuming(folder, run.info.run_id))


def _encoder_run(chain: TrainingContext, checkpoints: Checkpoints) -> tuple[TrainedEncoder, Lexical]:
    course = encoder_schedule(chain.log.impressions, chain.sliced, chain.config)
    trained = train_encoder(chain.log, course, chain.config, checkpoints=checkpoints)
    curve = encoder_curve(trained)
    run_logging.log_steps(
        {"loss": [p.loss for p in curve.points], "validation_ndcg_at_10": [p.ndcg_at_10 for p in curve.points]}
    )
    run_logging.log_figure(figures.learning_curves(curve), "encoder_learning")
    return trained, lexical_stage(chain)


def _encoder_report(trained: TrainedEncoder) -> dict[str, Any]:
    return {"trained": trained.trained, "reason": trained.reason, **asdict(trained.counts), "seconds": trained.seconds}


def _ranker_run(chain: TrainingContext, trained: TrainedEncoder, lexical: Lexical) -> RankerResult:
    ranked = ranker_stage(chain, trained.states, lexical)
    ranker = ranked.rankers["ranker"]
    run_logging.log_steps({"valid_ndcg_at_10": ranked.valid_ndcg})
    mlflow.log_metric("trees", ranker.booster.num_trees())
    if ranked.selection is not None:
        mlflow.log_dict(ranked.selection.as_dict(), "selection.json")
        for line in ranked.selection.lines():
            log.info("%s", line)
    run_logging.log_figure(figures.learning_curves(ranker_curve(ranked)), "ranker_learning")
    run_logging.log_figure(figures.feature_importance(ranker_gains(ranked)), "feature_importance")
    return ranked


def _evaluation_run(chain: TrainingContext, trained: TrainedEncoder, ranked: RankerResult) -> Evaluation:
    evaluation = evaluation_stage(chain, ranked, {"text_frozen": trained.frozen, "text_head": trained.head})
    run_logging.log_evaluation(evaluation)
    return evaluation


def _audit_run(chain: TrainingContext, lexical: Lexical, ranked: RankerResult) -> None:
    """The audit's cheap rules, logged; raises AuditFailed on any finding, so that nothing is registered."""
    context = AuditContext(chain, ranked.features, lexical, ranked.texts, lists=AUDITED_LISTS)
    report = audit(context, TRAINING_RULES)
    run_logging.log_audit(report)
    raise_if_failed(report)


def _register(
    chain: TrainingContext,
    trained: TrainedEncoder,
    lexical: Lexical,
    ranked: RankerResult,
    tables: TableReport,
    name: str,
) -> dict[str, Version]:
    """Log and register the encoder, then the ranker that names it, each to the parent run."""
    texts = [text for text in item_texts(chain.log.catalog, chain.config.encoder.template) if text]
    served = trained.served
    samples: list[tuple[list[str], str]] = [([], f"golden {text}") for text in texts[:2]] + [
        (texts[:3], f"golden {text}") for text in texts[3:6]
    ]
    encoder_version = log_encoder(served, name, golden_texts(served, samples))
    ranker = ranked.live or ranked.rankers["ranker"]
    with delete_version_on_failure(encoder_version):
        unit = Unit(_settings(chain, encoder_version, trained, ranked, tables), ranker, served, lexical)
        rows = ranked.matrix_for("ranker")[:GOLDEN_REQUESTS]
        return {"encoder": encoder_version, "ranker": log_ranker(unit, name, golden_rows(ranker, rows), rows)}


def _settings(
    chain: TrainingContext, encoder: Version, trained: TrainedEncoder, ranked: RankerResult, tables: TableReport
) -> Settings:
    config, times = chain.config, chain.log.impressions.requests.time
    options, own = read_options(config), own_features(config)
    return Settings(
        columns=ranked.rankers["ranker"].columns,
        categories=dict(ranked.vocabularies),
        numbers=config.features.numbers,
        vectors=config.features.vectors,
        smoothing=config.features.smoothing,
        known_at=config.features.known_at,
        allow_known_after=config.features.allow_known_after,
        history_length=config.encoder.history_length,
        template=config.encoder.template,
        timezone=config.data.timezone,
        positive_event_types=config.data.positive_event_types,
        click_window=options.click_window,
        event_delay=chain.delay,
        collaborative=ranked.texts.collaborative,
        encoder=encoder.uri,
        encoder_fingerprint=trained.served.fingerprint,
        encoder_learnt_until=trained.served_trained_until,
        training_scores=_training_scores(trained),
        list_sizes=dict(ranked.list_sizes),
        data_fingerprint=tables.fingerprint,
        final_training=config.final_training,
        trained_until=int(times.max() if config.final_training else times[chain.sliced.valid].max()),
        own_features=own.fingerprint if own else None,
        own_source=own.source if own else None,
    )


def _training_scores(trained: TrainedEncoder) -> str:
    """Which state of the encoder scored which rows of the ranker's training."""
    if not trained.trained:
        return "the frozen base model scored every row"
    told = [
        f"lists from {'the first' if state.start == BEGINNING else moment_text(state.start)} by labels up to "
        f"{moment_text(state.trained_until)}"
        for state in trained.states
        if state.trained_until is not None
    ]
    return "; ".join(told)


def _log_report(report: TrainReport) -> None:
    evaluation = report.evaluation
    test = evaluation.test
    mlflow.log_metrics(
        {f"test.{method}.ndcg_at_10": values["ndcg_at_10"].mean for method, values in test.methods.items()}
        | {f"lift.{name}": lift.mean for name, lift in evaluation.lifts.items() if lift.mean == lift.mean}
        | {f"seconds.{name}": value for name, value in report.seconds.items()}
        | {"peak_rss_mb": report.peak_rss_mb}
    )
    run_logging.log_figure(figures.method_intervals(test), "methods")
    run_logging.log_figure(figures.lift_intervals(evaluation.lifts, test), "lifts")
    mlflow.log_dict(report.as_dict(), "report.json")
    mlflow.log_text("\n".join(report.lines()), "report.txt")
