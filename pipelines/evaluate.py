"""`recsys evaluate DIR --model URI`: a registered version on the lists of a data directory that it has not learnt from.

Reads the tables in DIR as the version's training read its own, and scores with the one scoring function. Writes an
MLflow run with the metrics, the report, and those of every list as `lists.parquet`, as a training's evaluation has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from features.log import Log
from features.offline import LogIndex
from features.table_report import TableReport
from features.tables import load_log
from pipelines.reading import settings_options
from pipelines.stopwatch import Stopwatch, peak_rss_mb
from recsys.config import Config
from recsys.errors import InputError
from recsys.evaluation_report import LIFT_METRIC, Evaluation, aligned, count, format_interval
from recsys.registry import runs, tracking
from recsys.registry.recorded import RANKER, TRAINED_UNTIL
from recsys.registry.versions import Loaded, load
from recsys.slices import COLD_ITEMS, Measured, measure_slices
from recsys.unit_evaluation import Later, evaluate_unit, later_lists

SEEN = (
    "warning: these lists include labels that the version learnt from (--all): the figures are too good, "
    "and no measure of what it would do on new lists"
)
SHOWN = ("popularity", "text", "ranker")
"""Methods in the printed table of slices; the JSON report has all."""


@dataclass(frozen=True)
class EvaluateReport:
    """What a version was evaluated on, and how it did. seen: whether its own labels were among the lists."""

    tables: TableReport
    versions: Mapping[str, str]
    trained_until: int
    seen: bool
    evaluation: Evaluation
    slices: tuple[Measured, ...]
    seconds: Mapping[str, float]
    peak_rss_mb: int
    run_id: str

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys evaluate --json`: the evaluation's keys are those of `recsys train --json`."""
        return {
            "data": self.tables.as_dict(),
            "models": dict(self.versions),
            "trained_until": moment_text(self.trained_until),
            "labels_seen": self.seen,
            **self.evaluation.as_dict(),
            "by_slice": [self._slice_dict(one) for one in self.slices],
            "seconds": dict(self.seconds),
            "peak_rss_mb": self.peak_rss_mb,
            "run_id": self.run_id,
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
            f"{self.versions['ranker']}, which learnt from labels up to {moment_text(self.trained_until)}; "
            f"run {self.run_id}",
            *warning[:1],
        ]

    def _slice_dict(self, one: Measured) -> dict[str, Any]:
        methods = zip(self.evaluation.lists, one.intervals, strict=True)
        return {
            "by": one.by,
            "value": one.value,
            "lists": one.n_lists,
            "users": one.n_users,
            LIFT_METRIC: {method: interval.as_dict() for method, interval in methods},
        }

    def _slices_text(self) -> str:
        methods = list(self.evaluation.lists)
        rows = [["slice", "lists", "users", *SHOWN]]
        for one in self.slices:
            shown = (format_interval(one.intervals[methods.index(method)]) for method in SHOWN)
            rows.append([one.name, f"{one.n_lists:,}", f"{one.n_users:,}", *shown])
        return f"{LIFT_METRIC} by slice\n\n{aligned(rows)}"


def evaluate(folder: Path, model: str, config: Config, *, all_lists: bool = False) -> EvaluateReport:
    """Evaluate the version `model` names on the lists of `folder` that are later than all it learnt from.

    all_lists: on every list instead, its own labels among them. Of the configuration only evaluation, seed and threads
    are read. Raises InputError where no list is late enough, ModelNotFound and its kin for the model.
    """
    watch = Stopwatch()
    experiment = tracking.connect()
    with watch.stage("read"):
        loaded = load(model)
        data, tables = load_log(folder, settings_options(loaded.unit.settings), impressions_required=True)
    with watch.stage("evaluation"):
        evaluation = evaluate_version(loaded, data, folder, config, after=None if all_lists else trained_until(loaded))
        slices = _by_slice(evaluation, config)
    with tracking.run(experiment, f"evaluate {loaded.ranker}", parent=True) as run:
        report = EvaluateReport(
            tables=tables,
            versions={"encoder": loaded.encoder.uri, "ranker": loaded.ranker.uri},
            trained_until=trained_until(loaded),
            seen=all_lists,
            evaluation=evaluation,
            slices=slices,
            seconds=watch.seconds,
            peak_rss_mb=peak_rss_mb(),
            run_id=run.info.run_id,
        )
        runs.log_dataset(folder, tables.fingerprint, "evaluation")
        mlflow.set_tags({RANKER: loaded.ranker.uri, TRAINED_UNTIL: str(trained_until(loaded))})
        runs.log_evaluation(evaluation)
        mlflow.log_dict(report.as_dict(), "report.json")
        mlflow.log_text("\n".join(report.lines()), "report.txt")
    return report


def evaluate_version(loaded: Loaded, data: Log, folder: Path, config: Config, *, after: int | None) -> Evaluation:
    """A loaded version on the lists of a log that are later than `after`, microseconds, or on all for None.

    folder: where the log was read from, for the error's words. Raises InputError where no list is left.
    """
    found = later_lists(data.impressions, after)
    if not len(found.lists):
        raise InputError(_none_left(found, folder, after))
    return evaluate_unit(
        loaded.unit,
        LogIndex(data),
        data.impressions.take(found.lists),
        settings=config.evaluation,
        seed=config.seed,
        threads=config.threads or os.cpu_count() or 1,
    )


def trained_until(loaded: Loaded) -> int:
    """Time of the newest label that a version's training, early stopping or choices used; microseconds."""
    return loaded.unit.settings.trained_until


def moment_text(microseconds: int) -> str:
    """A time as ISO 8601 in UTC."""
    return f"{np.datetime64(microseconds, 'us')}Z"


def _by_slice(evaluation: Evaluation, config: Config) -> tuple[Measured, ...]:
    lists, settings = evaluation.frame(), config.evaluation
    values = {
        prefix: lists[[f"{prefix}{method}_{LIFT_METRIC}" for method in evaluation.lists]].to_numpy(np.float64)
        for prefix in ("", COLD_ITEMS)
    }
    return measure_slices(lists, values, resamples=settings.resamples, seed=config.seed)


def _none_left(found: Later, folder: Path, after: int | None) -> str:
    where = f"data directory {str(folder)!r}"
    if after is None:
        return f"{where}: expected lists with a clicked and an unclicked item, none of {found.n_all:,} has both"
    newest = "no list" if found.newest is None else f"a newest list of {moment_text(found.newest)}"
    return (
        f"{where}: expected lists with a clicked and an unclicked item later than every label that was learnt from "
        f"({moment_text(after)}), found {newest} and {count(found.n_later, 'list')} later, none with both; give newer "
        "data, or --all to evaluate on seen labels"
    )
