"""Writes an evaluation into its MLflow run: metrics, and files that `EvaluationResult` can load and save."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.models.evaluation import EvaluationArtifact

from recsys.mlflow_evaluator.measure import Measurement
from recsys.mlflow_internals.names import evaluation_artifact
from recsys.report import figures
from recsys.report.page import figure_page


def log_metrics(metrics: Mapping[str, float], *, run_id: str, dataset: Any, model_id: str | None) -> None:
    """Log metrics to a run, each with the name and digest of MLflow's data set and, where known, the logged model."""
    shared = {"model_id": model_id, "dataset_name": dataset.name, "dataset_digest": dataset.digest, "run_id": run_id}
    now = time.time_ns() // 1_000_000
    logged = [Metric(name, value, now, 0, **shared) for name, value in metrics.items()]
    mlflow.MlflowClient().log_batch(run_id, metrics=logged)


def log_artifacts(
    measurement: Measurement, html: str, folder: Path, *, run_id: str, prefix: str
) -> dict[str, EvaluationArtifact]:
    """Log the files of a measurement to a run; by name without prefix, as MLflow's result holds them.

    html: the report. folder: an empty one to write the files into.
    """
    client = mlflow.MlflowClient()
    root = client.get_run(run_id).info.artifact_uri
    artifacts: dict[str, EvaluationArtifact] = {}
    for path in _write(measurement, html, folder, prefix):
        client.log_artifact(run_id, str(path))
        artifacts[path.stem.removeprefix(prefix)] = evaluation_artifact(path, f"{root}/{path.name}")
    return artifacts


def _write(measurement: Measurement, html: str, folder: Path, prefix: str) -> list[Path]:
    evaluation = measurement.evaluation
    pages = {
        "report": html,
        "methods_plot": figure_page(figures.method_intervals(evaluation.test)),
        "lifts_plot": figure_page(figures.lift_intervals(evaluation.lifts, evaluation.test)),
        "slices_plot": figure_page(figures.slice_intervals(measurement.slices, measurement.slice_columns)),
    }
    lists_file, slices_file = folder / f"{prefix}lists.parquet", folder / f"{prefix}slices.csv"
    measurement.per_impression.to_parquet(lists_file, index=False)
    measurement.slice_table().to_csv(slices_file, index=False)
    paths = {folder / f"{prefix}{name}.html": page for name, page in pages.items()}
    for path, page in paths.items():
        path.write_text(page, encoding="utf-8")
    return [lists_file, slices_file, *paths]
