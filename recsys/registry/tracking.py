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
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from features.atomic_files import locked_output
from recsys.errors import RegistryUnreachable

EXPERIMENT = "recsys"
_SQLITE = "sqlite:///"
_SHOWN = 300
"""Characters of MLflow's message that an error repeats."""


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


@contextmanager
def answering() -> Iterator[None]:
    """A block that asks MLflow. Raises RegistryUnreachable where it does not answer, and before the block where its
    database is a file that does not exist: to ask would make it. That there is no such model is an answer."""
    _require_database(_tracking_uri())
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        raise RegistryUnreachable(f"MLflow at {_tracking_uri()} does not answer: {reason}") from error


def fail_fast() -> None:
    """Let a request to MLflow's server fail within seconds, unless the environment says otherwise: by default it is
    repeated for minutes."""
    for variable, value in ((MLFLOW_HTTP_REQUEST_MAX_RETRIES, 1), (MLFLOW_HTTP_REQUEST_TIMEOUT, 20)):
        if not variable.is_set():
            variable.set(value)


def _tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{Path('mlruns').resolve() / 'mlflow.db'}"


def _require_database(uri: str) -> None:
    path = Path(uri.removeprefix(_SQLITE))
    if uri.startswith(_SQLITE) and not path.is_file():
        raise RegistryUnreachable(
            f"MLflow's database {str(path)!r}: expected a file, found none; train with `recsys train`, or set "
            "MLFLOW_TRACKING_URI"
        )


def _database(path: Path) -> str:
    """The URI of the embedded database, made whole or not at all: MLflow cannot go on with one that is half made."""
    if not path.exists():
        with locked_output(path):
            if not path.exists():
                _make_database(path)
    return f"{_SQLITE}{path}"


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
