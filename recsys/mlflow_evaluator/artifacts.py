"""What an evaluation leaves in its MLflow run: metrics, and files that `EvaluationResult` can load and save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.models.evaluation.artifacts import (
    CsvEvaluationArtifact,
    ImageEvaluationArtifact,
    ParquetEvaluationArtifact,
    TextEvaluationArtifact,
)
from mlflow.models.evaluation.base import EvaluationArtifact
from mlflow.utils.time import get_current_time_millis

from recsys.evaluation import plots
from recsys.mlflow_evaluator.measure import Measurement

_KINDS = {
    ".parquet": ParquetEvaluationArtifact,
    ".csv": CsvEvaluationArtifact,
    ".png": ImageEvaluationArtifact,
    ".html": TextEvaluationArtifact,
}
_MOST_IN_A_CALL = 1000


def log_metrics(metrics: Mapping[str, float], *, run_id: str, dataset: Any, model_id: str | None) -> None:
    """Log metrics to a run, each with the name and digest of MLflow's data set and, where known, the logged model."""
    now = get_current_time_millis()
    logged = [
        Metric(
            name,
            value,
            now,
            0,
            model_id=model_id,
            dataset_name=dataset.name,
            dataset_digest=dataset.digest,
            run_id=run_id,
        )
        for name, value in metrics.items()
    ]
    for start in range(0, len(logged), _MOST_IN_A_CALL):
        mlflow.MlflowClient().log_batch(run_id, metrics=logged[start : start + _MOST_IN_A_CALL])


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
        artifact = _KINDS[path.suffix](uri=f"{root}/{path.name}")
        artifact._load(str(path))
        artifacts[path.stem.removeprefix(prefix)] = artifact
    return artifacts


def _write(measurement: Measurement, html: str, folder: Path, prefix: str) -> list[Path]:
    evaluation = measurement.evaluation
    test = evaluation.test
    paths = [folder / f"{prefix}{name}" for name in ("lists.parquet", "slices.csv", "report.html")]
    lists, slices, report = paths
    measurement.lists.to_parquet(lists, index=False)
    measurement.slice_table().to_csv(slices, index=False)
    report.write_text(html, encoding="utf-8")
    for name, figure in (
        ("methods_plot", plots.method_intervals(test)),
        ("lifts_plot", plots.lift_intervals(evaluation.lifts, n_lists=test.n_lists, n_users=test.n_users)),
        ("slices_plot", plots.slice_intervals(measurement.drawable_slices())),
    ):
        paths.append(folder / f"{prefix}{name}.png")
        figure.savefig(paths[-1])
    return paths
