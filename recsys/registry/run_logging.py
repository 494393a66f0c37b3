"""What a run logs besides its models: configuration, data, metrics by step, plots and reports."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.filesystem_dataset_source import FileSystemDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Metric
from mlflow.utils.time import get_current_time_millis

from recsys.audit.report import AuditReport
from recsys.config import Config
from recsys.evaluation.report import Evaluation
from recsys.registry.run_queries import FORMAT, FORMAT_TAG
from recsys.report.figures import Figure
from recsys.report.page import figure_page


def log_inputs(config: Config, folder: Path, fingerprint: str, context: str, *, rejects: Path) -> None:
    """The inputs of a run: every setting as a parameter named a.b and the whole configuration as config.json, the data
    directory, and its rejected rows."""
    settings = config.model_dump(mode="json")
    mlflow.log_params(pd.json_normalize(settings).to_dict("records")[0])
    mlflow.log_dict(settings, "config.json")
    log_dataset(folder, fingerprint, context)
    mlflow.log_artifacts(str(rejects), "rejects")


def log_report(report: Mapping[str, Any], lines: Sequence[str], name: str = "report") -> None:
    """A report for machines as NAME.json and for people as NAME.txt."""
    mlflow.log_dict(dict(report), f"{name}.json")
    mlflow.log_text("\n".join(lines), f"{name}.txt")


def log_dataset(folder: Path, fingerprint: str, context: str) -> None:
    """The data directory as an input of the run, by its path and the fingerprint of its content."""
    source: FileSystemDatasetSource = LocalArtifactDatasetSource(uri=folder.resolve().as_uri())
    mlflow.log_input(MetaDataset(source, name=folder.resolve().name, digest=fingerprint[:36]), context=context)


def log_steps(columns: Mapping[str, Sequence[float]]) -> None:
    """Series of a training, one value a step, as metrics with steps from 1; NaN is left out."""
    now = get_current_time_millis()
    metrics = [
        Metric(name, float(value), now, step)
        for name, values in columns.items()
        for step, value in enumerate(values, start=1)
        if value == value
    ]
    run = mlflow.active_run()
    assert run is not None
    mlflow.MlflowClient().log_batch(run.info.run_id, metrics=metrics)


def log_figure(figure: Figure, name: str) -> None:
    """A figure as plots/NAME.html."""
    mlflow.log_text(figure_page(figure), f"plots/{name}.html")


def log_frame(frame: pd.DataFrame, name: str) -> None:
    """A table as NAME.parquet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.parquet"
        frame.to_parquet(path, index=False)
        mlflow.log_artifact(str(path))


def log_evaluation(evaluation: Evaluation) -> None:
    """Every mean, and the interval of every lift, as metrics; the metrics of every list as one Parquet file."""
    metrics: dict[str, float] = {}
    for method, values in evaluation.test.methods.items():
        metrics |= {f"{method}.{name}": interval.mean for name, interval in values.items()}
    for name, interval in evaluation.lifts.items():
        metrics |= interval.named(f"lift.{name}")
    for slice_name, slice_ in (("cold_items", evaluation.cold_items), ("cold_users", evaluation.cold_users)):
        metrics |= {f"{slice_name}.{method}": values["ndcg_at_10"].mean for method, values in slice_.methods.items()}
    mlflow.log_metrics({name: value for name, value in metrics.items() if value == value})
    mlflow.set_tag(FORMAT_TAG, FORMAT)
    log_frame(evaluation.per_impression_frame(), "lists")


def log_audit(report: AuditReport) -> None:
    """The number of findings as a metric, the report as audit.json and audit.txt."""
    mlflow.log_metric("audit.findings", len(report.findings))
    log_report(report.as_dict(), report.lines(), "audit")
