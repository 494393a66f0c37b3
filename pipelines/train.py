"""`recsys train DIR`: the whole chain, from tables to two registered models and their evaluation.

Reads a data directory. Writes an MLflow run with child runs for encoder, ranker and evaluation, the versions
NAME-encoder and NAME-ranker, and, where rows were rejected, a folder of them as the run's artifacts.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from features.atomic_files import replaced_file
from features.errors import InputError
from features.log import Log
from features.tables.load import load_log
from features.tables.report import TableReport
from pipelines.data_options import read_options
from pipelines.stopwatch import RunUsage, Stopwatch
from pipelines.training_report import encoder_curve, ranker_curve, ranker_gains, training_html, training_reference
from recsys.audit.context import AuditContext
from recsys.audit.run import TRAINING_RULES, audit, raise_if_failed
from recsys.config import Config
from recsys.encoder.training.checkpoint import Checkpoints
from recsys.encoder.training.train import TrainedEncoder, train_encoder
from recsys.evaluation.report import Evaluation
from recsys.ranker.tfidf import Lexical
from recsys.registry import model_metrics, run_logging, tracking
from recsys.registry.fitted import fingerprints
from recsys.registry.names import name_problem
from recsys.registry.references import log_reference
from recsys.registry.registration import RegisteredModels, register
from recsys.registry.resume import (
    ResumableRun,
    checkpoint_folder,
    interrupted,
    resume_command,
    resume_command_on_failure,
)
from recsys.registry.run_tags import RANKER, TRAINING
from recsys.report import figures
from recsys.training.context import TrainingContext, open_training_context
from recsys.training.model_choice import ModelChoice
from recsys.training.stages import RankerResult, evaluation_stage, ranker_stage
from recsys.training.text_models import encoder_schedule, lexical_stage

log = logging.getLogger(__name__)

STAGES = {
    "read": "reads and checks the tables",
    "encoder": "trains the text encoder",
    "ranker": "trains the rankers",
    "evaluation": "evaluates every method on the test impressions",
    "audit": "looks for leaks in what the ranker reads",
    "register": "logs and registers both models",
}
AUDITED_LISTS = 1000
"""Of each slice; `recsys audit` examines all of them."""


@dataclass(frozen=True)
class TrainReport:
    """What a training read, measured and registered."""

    tables: TableReport
    slices: Mapping[str, int]
    encoder: Mapping[str, Any]
    evaluation: Evaluation
    models: RegisteredModels
    choice: ModelChoice
    usage: RunUsage

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys train --json`."""
        return {
            "data": self.tables.as_dict(),
            "slices": dict(self.slices),
            "encoder": dict(self.encoder),
            **self.evaluation.as_dict(),
            "models": self.models.uris(),
            "registered": {**self.models.verdict.as_dict(), "steps": self.choice.as_dict()["steps"]},
            **asdict(self.usage),
        }

    def lines(self) -> list[str]:
        """The report for a person: the verdict, then where the rest is."""
        models = self.models
        encoder = "" if models.encoder is None else f"{models.encoder} and "
        if models.verdict.registered.alias:
            following = f"recsys serve --model models:/{models.ranker.name}@champion"
        else:
            following = f"recsys promote {models.ranker.uri}"
        return [
            models.verdict.table(),
            "",
            *models.verdict.sentences,
            "",
            f"registered {encoder}{models.ranker} in {self.usage}",
            f"report: report.html of run {self.usage.run_id}, or a file of its own with --report FILE",
            f"runs, plots and models: mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}",
            f"next: {following}",
        ]


def resume(folder: Path, run_id: str, *, page: Path | None = None) -> TrainReport:
    """Resume a training that was interrupted, in its own run and with its settings, from its last checkpoint.

    Raises RunNotFound where there is nothing to resume, InputError where the data is not what it began with.
    """
    tracking.connect()
    run = interrupted(run_id)
    return train(folder, run.config, name=run.name, page=page, resumed=run)


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
    timer = Stopwatch(STAGES)
    experiment = tracking.connect()
    with tempfile.TemporaryDirectory() as rejects:
        data, tables = read_data(folder, config, timer, rejects=Path(rejects))
        if resumed is not None:
            resumed.require_data(folder, tables.fingerprint)
        context = open_training_context(config, data)
        with (
            _opened_run(experiment, f"{name} {run_name_of(folder)}", resumed) as run,
            checkpoint_folder(run.info.run_id) as checkpoints,
            resume_command_on_failure(folder, run.info.run_id, checkpoints),
        ):
            if resumed is None:
                mlflow.set_tag(TRAINING, name)
                run_logging.log_inputs(config, folder, tables.fingerprint, "training", rejects=Path(rejects))
            else:
                resumed.delete_partial_outputs()
            log.info(
                "run %s; if it is interrupted, resume with: %s",
                run.info.run_id,
                resume_command(folder, run.info.run_id),
            )
            training = Training(experiment, run.info.run_id, folder, context, tables, timer)
            return _registered(training, fit(training, checkpoints), name, page)


def run_name_of(folder: Path) -> str:
    """What the name of a run on a data directory ends with: the directory's and the time now."""
    return f"{folder.resolve().name} {datetime.now(UTC):%Y-%m-%d %H:%M}"


def read_data(folder: Path, config: Config, timer: Stopwatch, *, rejects: Path) -> tuple[Log, TableReport]:
    """The tables of a training, and the report of them, which is logged. rejects: folder for rows that are left out."""
    with timer.stage("read"):
        data, tables = load_log(folder, read_options(config), rejects=rejects, impressions_required=True)
    for line in tables.lines():
        log.info("%s", line)
    return data, tables


def _opened_run(experiment: str, name: str, resumed: ResumableRun | None) -> AbstractContextManager[Run]:
    if resumed is not None:
        return tracking.resumed_run(experiment, resumed.run_id)
    return tracking.run(experiment, name, parent=True)


@dataclass(frozen=True)
class Training:
    """A training whose run is open. experiment, run_id: of MLflow. folder: the data directory."""

    experiment: str
    run_id: str
    folder: Path
    context: TrainingContext
    tables: TableReport
    timer: Stopwatch


@dataclass(frozen=True)
class Fitted:
    """What a training fitted and measured. evaluation_run: id of the child run that holds the evaluation."""

    trained: TrainedEncoder
    lexical: Lexical
    ranked: RankerResult
    evaluation: Evaluation
    evaluation_run: str


def fit(training: Training, checkpoints: Path) -> Fitted:
    """Train, evaluate and audit, each in a child run; nothing is registered. checkpoints: a folder."""
    context, experiment, timer = training.context, training.experiment, training.timer
    with tracking.run(experiment, "encoder"), timer.stage("encoder"):
        minutes = context.config.encoder.checkpoint_minutes
        trained, lexical = _encoder_run(context, Checkpoints(checkpoints, minutes=minutes))
    with tracking.run(experiment, "ranker"), timer.stage("ranker"):
        ranked = _ranker_run(context, trained, lexical)
    with tracking.run(experiment, "evaluation") as run, timer.stage("evaluation"):
        evaluation = evaluation_stage(context, ranked, {"text_frozen": trained.frozen, "text_head": trained.head})
        run_logging.log_evaluation(evaluation)
    with timer.stage("audit"):
        _audit_run(context, lexical, ranked)
    mlflow.set_tags(fingerprints(context, trained, lexical, ranked))
    return Fitted(trained, lexical, ranked, evaluation, run.info.run_id)


def _registered(training: Training, fitted: Fitted, name: str, page: Path | None) -> TrainReport:
    """Register and report. name: of the models. page: as in `train`."""
    context, timer, folder = training.context, training.timer, training.folder.resolve()
    trained, ranked, evaluation = fitted.trained, fitted.ranked, fitted.evaluation
    with timer.stage("register"):
        log_reference(training_reference(context, ranked, fitted.lexical, evaluation))
        models = register(
            name, context, training.tables, trained, fitted.lexical, ranked, evaluation, folder=folder.name
        )
    report = TrainReport(
        tables=training.tables,
        slices=context.sliced.counts(),
        encoder=_encoder_report(trained),
        evaluation=evaluation,
        models=models,
        choice=ranked.choice,
        usage=timer.usage(training.run_id),
    )
    mlflow.set_tag(RANKER, models.ranker.uri)
    model_metrics.log_slices(models, folder, training.tables.fingerprint, run_id=fitted.evaluation_run)
    _log_report(report)
    html = training_html(name, report.as_dict(), evaluation, context, trained, ranked)
    mlflow.log_text(html, "report.html")
    if page is not None:
        with replaced_file(page) as partial:
            partial.write_text(html, encoding="utf-8")
    return report


def _encoder_run(context: TrainingContext, checkpoints: Checkpoints) -> tuple[TrainedEncoder, Lexical]:
    schedule = encoder_schedule(context.log.impressions, context.sliced, context.config)
    trained = train_encoder(context.log, schedule, context.config, checkpoints=checkpoints)
    curve = encoder_curve(trained)
    run_logging.log_steps(
        {"loss": [p.loss for p in curve.points], "validation_ndcg_at_10": [p.ndcg_at_10 for p in curve.points]}
    )
    run_logging.log_figure(figures.learning_curves(curve), "encoder_learning")
    return trained, lexical_stage(context)


def _encoder_report(trained: TrainedEncoder) -> dict[str, Any]:
    return {"trained": trained.trained, "reason": trained.reason, **asdict(trained.counts), "seconds": trained.seconds}


def _ranker_run(context: TrainingContext, trained: TrainedEncoder, lexical: Lexical) -> RankerResult:
    frozen = trained.frozen if trained.trained else None
    ranked = ranker_stage(context, trained.states, lexical, frozen=frozen, reads_text=trained.counts.reads_text)
    ranker, choice = ranked.registered, ranked.choice
    log.info("ranker: %s is registered: %s", choice.method, choice.reason)
    run_logging.log_steps({"valid_ndcg_at_10": ranked.valid_ndcg})
    mlflow.log_metric("trees", ranker.n_trees)
    if ranked.selection is not None:
        mlflow.log_dict(ranked.selection.as_dict(), "selection.json")
        for line in ranked.selection.lines():
            log.info("%s", line)
    run_logging.log_figure(figures.learning_curves(ranker_curve(ranked)), "ranker_learning")
    run_logging.log_figure(figures.feature_importance(ranker_gains(ranked)), "feature_importance")
    return ranked


def _audit_run(context: TrainingContext, lexical: Lexical, ranked: RankerResult) -> None:
    """The audit's cheap rules, logged; raises AuditFailed on any finding, so that nothing is registered."""
    report = audit(
        AuditContext(context, ranked.features, lexical, ranked.texts, max_lists=AUDITED_LISTS), TRAINING_RULES
    )
    run_logging.log_audit(report)
    raise_if_failed(report)


def _log_report(report: TrainReport) -> None:
    evaluation = report.evaluation
    test = evaluation.test
    model_metrics.log_summary(evaluation)
    model_metrics.log_usage(report.usage.metrics(), report.usage.run_id)
    run_logging.log_figure(figures.method_intervals(test), "methods")
    run_logging.log_figure(figures.lift_intervals(evaluation.lifts, test), "lifts")
    run_logging.log_report(report.as_dict(), report.lines())
