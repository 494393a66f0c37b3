"""`recsys evaluate DIR --model URI`: a registered version on the lists of a data directory that it has not learnt from.

Reads the tables in DIR as the version's training read its own, and scores with the one scoring function. Writes an
MLflow run with the metrics, the report, and those of every list as `lists.parquet`, as a training's evaluation has.

`recsys evaluate --rankings LOG --events EVENTS`: the versions that a server answered with, on the clicks that came.
Reads its log of rankings and an events table; writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from features.clock import format_time
from features.tables.load import ReadOptions
from features.tables.logged_clicks import label_logged
from features.tables.report import TableReport
from pipelines.stopwatch import RunUsage, Stopwatch
from pipelines.unseen_data import load_unseen, trained_until
from recsys.config import Config
from recsys.evaluation.report import LIFT_METRIC, Evaluation, format_interval
from recsys.evaluation.served import ServedReport, measure_served
from recsys.evaluation.slices import COLD_ITEMS, SliceResult, measure_slices
from recsys.evaluation.text_table import text_table
from recsys.metrics.jsonable import jsonable
from recsys.registry import run_logging, tracking
from recsys.registry.run_tags import RANKER, TRAINED_UNTIL
from recsys.registry.versions import load

SEEN = (
    "warning: these lists include labels that the version learnt from (--all): the figures are too good, "
    "and no measure of what it would do on new lists"
)
BEFORE_FINAL = " as its training evaluated it"
STAGES = {
    "read": "reads the version and the tables",
    "evaluation": "evaluates the version on the later impressions",
}
SHOWN = ("popularity", "text", "ranker")
"""Methods in the printed table of slices; the JSON report has all."""


@dataclass(frozen=True)
class EvaluateReport:
    """What a version was evaluated on, and how it did. seen: whether its own labels were among the lists. before_final:
    as in `LoadedModel`."""

    tables: TableReport
    versions: Mapping[str, str | None]
    trained_until: int
    seen: bool
    before_final: bool
    evaluation: Evaluation
    slices: tuple[SliceResult, ...]
    usage: RunUsage

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys evaluate --json`: the evaluation's keys are those of `recsys train --json`."""
        return {
            "data": self.tables.as_dict(),
            "models": dict(self.versions),
            "trained_until": format_time(self.trained_until),
            "labels_seen": self.seen,
            **self.evaluation.as_dict(),
            "by_slice": [self._slice_dict(result) for result in self.slices],
            **asdict(self.usage),
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        warning = [SEEN, ""] if self.seen else []
        return [
            *warning,
            self.evaluation.table(),
            "",
            self._slices_text(),
            "",
            f"{self.versions['ranker']}{BEFORE_FINAL if self.before_final else ''}, which learnt from labels up to "
            f"{format_time(self.trained_until)}; "
            f"run {self.usage.run_id}",
            *warning[:1],
        ]

    def _slice_dict(self, result: SliceResult) -> dict[str, Any]:
        methods = zip(self.evaluation.metrics, jsonable(result.intervals), strict=True)
        return {**result.as_dict(), LIFT_METRIC: dict(methods)}

    def _slices_text(self) -> str:
        methods = list(self.evaluation.metrics)
        shown = [method for method in SHOWN if method in methods]
        rows = [["slice", "lists", "users", *shown]]
        for result in self.slices:
            cells = (format_interval(result.intervals[methods.index(method)]) for method in shown)
            rows.append([*result.cells(), *cells])
        return f"{LIFT_METRIC} by slice\n\n{text_table(rows)}"


def evaluate(folder: Path, model: str, config: Config, *, all_lists: bool = False) -> EvaluateReport:
    """Evaluate the version `model` names on the lists of `folder` that are later than all it learnt from.

    all_lists: on every list instead, its own labels among them. Of the configuration only evaluation, seed, threads
    and how files are read count. Raises InputError where no list is late enough, ModelNotFound and its kin for the
    model.
    """
    timer = Stopwatch(STAGES)
    experiment = tracking.connect()
    with timer.stage("read"):
        loaded = load(model, evaluated=True)
        until = trained_until([loaded])
        (opened,) = load_unseen([loaded], folder, after=None if all_lists else until, files=config.data.files)
    with timer.stage("evaluation"):
        evaluation = opened.evaluate(config)
        slices = _by_slice(evaluation, config)
    with tracking.run(experiment, f"evaluate {loaded.ranker}", parent=True) as run:
        report = EvaluateReport(
            tables=opened.tables,
            versions=loaded.uris(),
            trained_until=until,
            seen=all_lists,
            before_final=loaded.before_final,
            evaluation=evaluation,
            slices=slices,
            usage=timer.usage(run.info.run_id),
        )
        run_logging.log_dataset(folder, opened.tables.fingerprint, "evaluation")
        mlflow.set_tags({RANKER: loaded.ranker.uri, TRAINED_UNTIL: str(until)})
        run_logging.log_evaluation(evaluation)
        run_logging.log_report(report.as_dict(), report.lines())
    return report


def evaluate_served(rankings: Path, events: Path, config: Config) -> ServedReport:
    """Measure the versions that ranked the lists of a log by the clicks in an events table.

    Of the configuration data, evaluation and seed count. Raises InputError where log or events cannot be used, or no
    list is in the period of the events.
    """
    options = ReadOptions(config.data, files=config.data.files)
    labelled = label_logged(rankings, events, options)
    return measure_served(labelled, resamples=config.evaluation.resamples, seed=config.seed)


def _by_slice(evaluation: Evaluation, config: Config) -> tuple[SliceResult, ...]:
    frame, settings = evaluation.per_impression_frame(), config.evaluation
    values = {
        prefix: frame[[f"{prefix}{method}_{LIFT_METRIC}" for method in evaluation.metrics]].to_numpy(np.float64)
        for prefix in ("", COLD_ITEMS)
    }
    return measure_slices(frame, values, resamples=settings.resamples, seed=config.seed)
