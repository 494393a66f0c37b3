"""What a run logs besides its models: configuration, data, metrics by step, plots and reports."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric

from recsys.audit.report import AuditReport
from recsys.config import Config
from recsys.evaluation.report import Evaluation
from recsys.mlflow_internals.names import folder_source
from recsys.registry.provenance import origin_tags
from recsys.registry.run_tags import AUDIT_FINDINGS, DATA_FINGERPRINT, DATA_NAME, FORMAT, FORMAT_TAG
from recsys.report.figures import Figure
from recsys.report.page import figure_page


def log_inputs(config: Config, folder: Path, fingerprint: str, context: str, *, rejects: Path) -> None:
    """The inputs of a run: every setting as a parameter named a.b and the whole configuration as config.json, the data
    directory, and its rejected rows; as tags the data, the commit of the code, and what it runs on."""
    settings = config.model_dump(mode="json")
    mlflow.log_params(pd.json_normalize(settings).to_dict("records")[0])
    mlflow.log_dict(settings, "config.json")
    log_dataset(folder, fingerprint, context)
    mlflow.set_tags({DATA_NAME: folder.resolve().name, DATA_FINGERPRINT: fingerprint, **origin_tags(config)})
    mlflow.log_artifacts(str(rejects), "rejects")


def log_report(report: Mapping[str, Any], lines: Sequence[str], name: str = "report") -> None:
    """A report for machines as NAME.json and for people as NAME.txt."""
    mlflow.log_dict(dict(report), f"{name}.json")
    mlflow.log_text("\n".join(lines), f"{name}.txt")


def log_dataset(folder: Path, fingerprint: str, context: str) -> None:
    """The data directory as an input of the run, by its path and the fingerprint of its content."""
    mlflow.log_input(
        MetaDataset(folder_source(folder), name=folder.resolve().name, digest=fingerprint[:36]), context=context
    )


def log_steps(columns: Mapping[str, Sequence[float]]) -> None:
    """Series of a training, one value a step, as metrics with steps from 1; NaN is left out."""
    now = time.time_ns() // 1_000_000
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
    """The number of findings as a tag, the report as audit.json and audit.txt."""
    mlflow.set_tag(AUDIT_FINDINGS, len(report.findings))
    log_report(report.as_dict(), report.lines(), "audit")
