"""Where MLflow keeps runs and models, and how a run is opened there.

`MLFLOW_TRACKING_URI` decides; without it, `mlruns/mlflow.db` and `mlruns/artifacts/` under the working folder. Nothing
is created or set on import.
"""

from __future__ import annotations

import logging
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

from features.atomic_files import locked_output

EXPERIMENT = "recsys"


def connect() -> str:
    """Point MLflow at its store and return the experiment's id; both are created when absent."""
    _quiet()
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    artifacts = None
    if not uri:
        folder = Path("mlruns").resolve()
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
        uri = _database(folder / "mlflow.db")
        artifacts = (folder / "artifacts").as_uri()
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts))


def _database(path: Path) -> str:
    """The URI of the embedded database, made whole or not at all: MLflow cannot go on with one that is half made."""
    if not path.exists():
        with locked_output(path):
            if not path.exists():
                _make_database(path)
    return f"sqlite:///{path}"


def _make_database(path: Path) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{partial}").search_experiments(max_results=1)
        partial.replace(path)
    finally:
        for left in path.parent.glob(f"{partial.name}*"):
            left.unlink(missing_ok=True)


@contextmanager
def run(experiment: str, name: str, *, parent: bool = False, run_id: str | None = None) -> Iterator[Run]:
    """An MLflow run for a block of work: a parent, or a child of the run that is open. run_id: of one to go on with."""
    with mlflow.start_run(run_id, experiment_id=experiment, run_name=name, nested=not parent) as started:
        yield started


def _quiet() -> None:
    """Keep MLflow's progress messages off the terminal; its warnings and errors stay. What its database refuses is
    raised, so that its log of the same is not needed.
    """
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    for name in ("mlflow.tracking.fluent", "mlflow.pyfunc", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message=".*Add type hints to the `predict` method.*")
