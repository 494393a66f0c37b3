"""`recsys reproduce RUN [--data DIR]`: trains again from what a training's run recorded, and compares.

Reads the run's configuration, the data directory that it names, or another with the same content, and the metrics of
its test impressions. Writes a run of its own that names the first; it registers nothing and moves no alias.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Run, RunStatus

from features.errors import InputError
from pipelines.stopwatch import RunUsage, Stopwatch
from pipelines.train import STAGES, Fitted, Training, fit, read_data
from recsys.config import Config
from recsys.errors import RunNotFound
from recsys.evaluation.comparison import ComparedRun, ComparedRuns, Comparison, compare
from recsys.evaluation.report import count, format_interval
from recsys.evaluation.run_differences import RunDifference, differences_text, run_differences
from recsys.registry import model_metrics, run_logging, tracking
from recsys.registry.lookup import resolve
from recsys.registry.names import is_version
from recsys.registry.resume import recorded_config, recorded_digest
from recsys.registry.run_queries import data_folder, find_run, recorded_lists, run_of_version, training_origin
from recsys.registry.run_tags import ENCODER_FINGERPRINT, RANKER_FINGERPRINT, REPRODUCES, TRAINING
from recsys.training.context import open_training_context
from recsys.training.stages import REGISTERED

log = logging.getLogger(__name__)

_INSTEAD = "name the run of a training that ended well"


@dataclass(frozen=True)
class Reproduction:
    """A training that was repeated. run: id of the first. equal: whether the bits of a part are the same, None where
    the first run did not record them. differences: in data, code, libraries and machine, A now and B then. comparison:
    of the test impressions, A now and B then."""

    run: str
    equal: dict[str, bool | None]
    differences: tuple[RunDifference, ...]
    comparison: Comparison
    usage: RunUsage

    @property
    def same_bits(self) -> bool:
        """Whether everything that can be compared has the same bits."""
        return all(equal is not False for equal in self.equal.values())

    @property
    def passed(self) -> bool:
        """Whether the bits are the same, or the interval of the difference holds 0."""
        difference = self.comparison.difference
        return self.same_bits or difference.low <= 0 <= difference.high

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys reproduce --json`."""
        return {
            "reproduces": self.run,
            "run_id": self.usage.run_id,
            "passed": self.passed,
            "same_bits": self.same_bits,
            "equal": dict(self.equal),
            "comparison": self.comparison.as_dict(),
            "environment": [found.as_dict() for found in self.differences],
            "seconds": dict(self.usage.seconds),
        }

    def lines(self) -> list[str]:
        """The report for a person; the last line is the verdict."""
        words = {True: "the same bits", False: "other bits", None: "not recorded by the first run"}
        parts = [f"{name}: {words[equal]}" for name, equal in self.equal.items()]
        differences = [differences_text(self.differences), ""] if self.differences else []
        whole = self.comparison.slices[0]
        difference = format_interval(self.comparison.difference, signed=True)
        size = f"{count(whole.n_lists, 'list')} of {count(whole.n_users, 'user')}"
        if self.same_bits:
            verdict = f"run {self.run} is reproduced: the same bits"
        elif self.passed:
            verdict = f"run {self.run} is reproduced within chance: {difference} {self.comparison.metric} on {size}"
        else:
            verdict = f"run {self.run} is not reproduced: {difference} {self.comparison.metric} on {size}"
        return ["A is this run, B the first.", *differences, *parts, f"now in {self.usage}", verdict]


def reproduce(run: str, *, folder: Path | None = None) -> Reproduction:
    """Train again as a run did. run: its id, or a version that it registered. folder: its data, where it is not where
    the run read it.

    Raises RunNotFound for a run that is no finished training, InputError where its data is not there or has changed.
    """
    experiment = tracking.connect()
    first = _finished_training(run)
    config, digest = recorded_config(first, instead=_INSTEAD), recorded_digest(first, instead=_INSTEAD)
    folder = folder or _recorded_folder(first)
    recorded = recorded_lists(first.info.run_id)
    timer = Stopwatch({name: STAGES[name] for name in STAGES if name != "register"})
    with tempfile.TemporaryDirectory() as rejects, tempfile.TemporaryDirectory() as checkpoints:
        data, tables = read_data(folder, config, timer, rejects=Path(rejects))
        if tables.fingerprint[: len(digest)] != digest:
            raise InputError(
                f"{str(folder)!r}: expected the data of run {first.info.run_id}, fingerprint {digest!r}, got "
                f"{tables.fingerprint[: len(digest)]!r}; name a copy of that data with --data DIR"
            )
        context = open_training_context(config, data)
        with tracking.run(experiment, f"reproduce {first.info.run_name}", parent=True) as opened:
            mlflow.set_tag(REPRODUCES, first.info.run_id)
            run_logging.log_inputs(config, folder, tables.fingerprint, "reproduction", rejects=Path(rejects))
            training = Training(experiment, opened.info.run_id, folder, context, tables, timer)
            fitted = fit(training, Path(checkpoints))
            model_metrics.log_summary(fitted.evaluation)
            report = _report(first, find_run(opened.info.run_id), fitted, recorded, config, timer)
            model_metrics.log_usage(report.usage.metrics(), opened.info.run_id)
            run_logging.log_report(report.as_dict(), report.lines(), "reproduction")
    return report


def _finished_training(name: str) -> Run:
    run = find_run(run_of_version(resolve(name)) if is_version(name) else name)
    if TRAINING not in run.data.tags:
        raise RunNotFound(f"run {name!r}: expected the run of a `recsys train`, see `recsys runs`; got another")
    if run.info.status != RunStatus.to_string(RunStatus.FINISHED):
        raise RunNotFound(f"run {name!r}: expected a training that ended well, it is {run.info.status}; {_INSTEAD}")
    return run


def _recorded_folder(run: Run) -> Path:
    folder = data_folder(run.info.run_id)
    if folder is None:
        raise InputError(
            f"the data directory that run {run.info.run_id} read is not there any more; name a copy with --data DIR, "
            f"whose fingerprint is {recorded_digest(run)!r}"
        )
    return folder


def _report(
    first: Run, now: Run, fitted: Fitted, recorded: ComparedRun, config: Config, timer: Stopwatch
) -> Reproduction:
    frame = fitted.evaluation.per_impression_frame()
    method = REGISTERED if REGISTERED in fitted.evaluation.test.methods else "ranker"
    origin = training_origin(now)
    sides = ComparedRuns((ComparedRun("this run", frame, origin=origin),)), ComparedRuns((recorded,))
    settings = config.evaluation
    return Reproduction(
        run=first.info.run_id,
        equal={
            "encoder": _equal_tags(first, now, ENCODER_FINGERPRINT),
            "ranker": _equal_tags(first, now, RANKER_FINGERPRINT),
            "test metrics": _same_metrics(frame, recorded.frame),
        },
        differences=run_differences([origin], [recorded.origin]),
        comparison=compare(*sides, method=method, resamples=settings.resamples, seed=config.seed),
        usage=timer.usage(now.info.run_id),
    )


def _same_metrics(now: pd.DataFrame, first: pd.DataFrame) -> bool:
    """Whether both hold the same impressions with the same metrics of the same methods, to the last bit."""
    columns = list(now.select_dtypes("float64"))
    if not set(columns) <= set(first) or list(now["impression_id"]) != list(first["impression_id"]):
        return False
    return bool(np.array_equal(now[columns].to_numpy(), first[columns].to_numpy(np.float64), equal_nan=True))


def _equal_tags(first: Run, now: Run, tag: str) -> bool | None:
    recorded = first.data.tags.get(tag)
    return None if recorded is None else bool(recorded == now.data.tags[tag])
