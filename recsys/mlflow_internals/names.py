"""Names of MLflow that its documentation does not promise: every use of them in this project comes from here.

tests/test_mlflow_internals.py holds them against the installed version, and fails where another module imports one.
What takes long to import is imported where it is used.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from mlflow.utils.mlflow_tags import MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME as PRIMARY_METRIC
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS as MODEL_VERSIONS
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID as PARENT_RUN

if TYPE_CHECKING:
    from mlflow.data.dataset import Dataset
    from mlflow.data.dataset_source import DatasetSource
    from mlflow.models.evaluation import EvaluationArtifact

__all__ = [
    "MODEL_VERSIONS",
    "PARENT_RUN",
    "PRIMARY_METRIC",
    "dataset_input",
    "evaluation_artifact",
    "folder_source",
    "quiet",
]

_PROGRESS = ("mlflow.tracking.fluent", "mlflow.pyfunc", "alembic")
_DATABASE = "mlflow.store.db.utils"


def dataset_input(dataset: Dataset, context: str) -> DatasetInput:
    """A data set as an input of a run, for `MlflowClient.log_inputs`. context: what the run uses it for."""
    return DatasetInput(dataset._to_mlflow_entity(), [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def folder_source(folder: Path) -> DatasetSource:
    """A folder of this machine as the source of a data set."""
    from mlflow.data.sources import LocalArtifactDatasetSource

    source: DatasetSource = LocalArtifactDatasetSource(uri=folder.resolve().as_uri())
    return source


def evaluation_artifact(path: Path, uri: str) -> EvaluationArtifact:
    """A file (.parquet, .csv or .html) that was logged as `uri`, as an artifact of MLflow's evaluation result."""
    from mlflow.models.evaluation import artifacts

    classes = {
        ".parquet": artifacts.ParquetEvaluationArtifact,
        ".csv": artifacts.CsvEvaluationArtifact,
        ".html": artifacts.TextEvaluationArtifact,
    }
    artifact: EvaluationArtifact = classes[path.suffix](uri=uri)
    artifact._load(str(path))
    return artifact


def quiet() -> None:
    """Keep MLflow's progress messages off the terminal; its warnings and errors stay. What its database refuses is
    raised, so that its log of the same is not needed."""
    for name in _PROGRESS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(_DATABASE).setLevel(logging.CRITICAL)
