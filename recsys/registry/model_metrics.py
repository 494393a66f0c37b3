"""Metrics that MLflow ties to data: the few that summarise a run, and those of a logged model by slice of the test."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric

from recsys.evaluation.report import LIFT_METRIC, Evaluation, format_interval
from recsys.evaluation.slices import SliceResult
from recsys.mlflow_internals.names import dataset_input, folder_source
from recsys.registry.names import Version
from recsys.registry.registration import RegisteredModels
from recsys.registry.run_tags import TEXT_LIFT

SUMMARY_METHODS = ("popularity", "tfidf", "behaviour", "text", "ranker", "registered")
SUMMARY_LIFTS = ("ranker_over_behaviour", "ranker_over_text", "ranker_over_popularity", "registered_over_ranker")
TEXT = "ranker_over_behaviour"
"""The comparison that says what text adds."""

_TEST = "test"
_LONGEST_NAME, _LONGEST_DIGEST = 200, 36
_NOT_IN_NAMES = re.compile(r"[^\w.\- :/]")
"""Characters that MLflow does not take in the name of a metric."""


def log_summary(evaluation: Evaluation) -> None:
    """The few metrics by which runs are compared, to the open run, and as a tag what text adds.

    MLflow ties them to the models that the run has logged.
    """
    test = evaluation.test.methods
    metrics = {
        f"{_TEST}.{name}.{LIFT_METRIC}": test[name][LIFT_METRIC].mean for name in SUMMARY_METHODS if name in test
    }
    for name in SUMMARY_LIFTS:
        if name in evaluation.lifts:
            metrics |= evaluation.lifts[name].named(f"lift.{name}")
    mlflow.log_metrics(_numbers(metrics))
    if TEXT in evaluation.lifts:
        mlflow.set_tag(TEXT_LIFT, format_interval(evaluation.lifts[TEXT], signed=True))


def log_usage(metrics: Mapping[str, float], run_id: str) -> None:
    """Times and memory, which belong to a run and to no model."""
    now = time.time_ns() // 1_000_000
    mlflow.MlflowClient().log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])


def log_slices(models: RegisteredModels, folder: Path, fingerprint: str, *, run_id: str) -> None:
    """nDCG@10 of the registered ranker with its interval over each slice of the test impressions: metrics of the run
    and of the logged model, each tied to a data set that is named for the slice.

    folder, fingerprint: of the data directory.
    """
    model_id = logged_model(models.ranker)
    source, digest = folder_source(folder), fingerprint[:_LONGEST_DIGEST]
    now = time.time_ns() // 1_000_000
    inputs, metrics = [], []
    for result in models.slices:
        dataset = MetaDataset(source, name=f"{folder.name}, {_TEST}: {result.name}"[:_LONGEST_NAME], digest=digest)
        inputs.append(dataset_input(dataset, _TEST))
        metrics += [
            Metric(
                name, value, now, 0, model_id=model_id, dataset_name=dataset.name, dataset_digest=digest, run_id=run_id
            )
            for name, value in _numbers(result.intervals[1].named(metric_name(result))).items()
        ]
    client = mlflow.MlflowClient()
    client.log_inputs(run_id, datasets=inputs)
    client.log_batch(run_id, metrics=metrics)


def metric_name(result: SliceResult) -> str:
    """Like `slice.history 5 to 19.ndcg_at_10`."""
    name = _NOT_IN_NAMES.sub("_", result.name)[:_LONGEST_NAME]
    return f"slice.{name}.{LIFT_METRIC}"


def logged_model(version: Version) -> str:
    """Id of the logged model that a version was made of."""
    source = str(mlflow.MlflowClient().get_model_version(version.name, version.number).source)
    return source.removeprefix("models:/")


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value == value}
