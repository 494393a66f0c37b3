"""Where MLflow keeps runs and models, and how a run is opened there.

`MLFLOW_TRACKING_URI` decides; without it, `mlruns/mlflow.db` and `mlruns/artifacts/` under the working folder. Nothing
is created or set on import.
"""

from __future__ import annotations

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
from recsys.mlflow_internals.names import PRIMARY_METRIC, quiet
from recsys.registry.run_tags import MAIN_METRIC, STAGE

EXPERIMENT = "recsys"
SHOWN_ID = 6
"""Characters of a run's id that its name ends with."""
_SQLITE = "sqlite:///"
_SHOWN = 300
"""Characters of MLflow's message that an error repeats."""


def connect() -> str:
    """Point MLflow at its store and return the experiment's id; both are created when absent."""
    _quiet()
    uri = tracking_uri()
    artifacts = None
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        folder = Path("mlruns").resolve()
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
        artifacts = (folder / "artifacts").as_uri()
    if not has_database(uri):
        _make_database(_file_of(uri))
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    tags = {PRIMARY_METRIC: MAIN_METRIC}
    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts, tags=tags))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.get_experiment_by_name(EXPERIMENT).experiment_id)  # another process was faster


@contextmanager
def answering() -> Iterator[None]:
    """A block that asks MLflow. Raises RegistryUnreachable where it does not answer, and before the block where its
    database is a file that does not exist: to ask would make it. That there is no such model is an answer."""
    _require_database(tracking_uri())
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        raise RegistryUnreachable(f"MLflow at {tracking_uri()} does not answer: {reason}") from error


def fail_fast() -> None:
    """Let a request to MLflow's server fail within seconds, unless the environment says otherwise: by default it is
    repeated for minutes."""
    for variable, value in ((MLFLOW_HTTP_REQUEST_MAX_RETRIES, 1), (MLFLOW_HTTP_REQUEST_TIMEOUT, 20)):
        if not variable.is_set():
            variable.set(value)


def tracking_uri() -> str:
    """Where MLflow's store is: `MLFLOW_TRACKING_URI`, else the database under the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{Path('mlruns').resolve() / 'mlflow.db'}"


def has_database(uri: str) -> bool:
    """False where the store is a database file that does not exist yet."""
    return not uri.startswith(_SQLITE) or ":memory:" in uri or _file_of(uri).is_file()


def _file_of(uri: str) -> Path:
    """File of an embedded database."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0])


def count_registered_models() -> int:
    """How many models are registered, at most a thousand. Raises RegistryUnreachable where MLflow does not answer."""
    uri = tracking_uri()
    with answering():
        return len(mlflow.MlflowClient(tracking_uri=uri).search_registered_models(max_results=1000))


def _require_database(uri: str) -> None:
    path = _file_of(uri)
    if not has_database(uri):
        raise RegistryUnreachable(
            f"MLflow's database {str(path)!r}: expected a file, found none; train with `recsys train`, or set "
            "MLFLOW_TRACKING_URI"
        )


def _make_database(path: Path) -> None:
    """Make the embedded database whole or not at all, by one process at a time: MLflow cannot go on with one that is
    half made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked_output(path):
        if path.exists():
            return
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            mlflow.MlflowClient(tracking_uri=f"{_SQLITE}{partial}").search_experiments(max_results=1)
            partial.replace(path)
        finally:
            for left in path.parent.glob(f"{partial.name}*"):
                left.unlink(missing_ok=True)


@contextmanager
def run(experiment: str, name: str, *, parent: bool = False) -> Iterator[Run]:
    """An MLflow run for a block of work: a parent, or a child of the run that is open, with `name` as its stage.

    The beginning of a run's id ends its name, a child's its parent's, so that no two of them are called alike.
    """
    above = None if parent else mlflow.active_run()
    tags = {} if above is None else {STAGE: name}
    with mlflow.start_run(experiment_id=experiment, run_name=name, nested=not parent, tags=tags) as started:
        run_id = started.info.run_id if above is None else above.info.run_id
        name_run(started.info.run_id, name, ending=run_id)
        yield started


def name_run(run_id: str, name: str, *, ending: str | None = None) -> None:
    """Name a run so that no other is called alike. ending: the id that the name ends with; default: the run's own."""
    mlflow.MlflowClient().update_run(run_id, name=f"{name} {(ending or run_id)[:SHOWN_ID]}")


@contextmanager
def resumed_run(experiment: str, run_id: str) -> Iterator[Run]:
    """A run that was begun before, open again."""
    with mlflow.start_run(run_id, experiment_id=experiment) as started:
        yield started


def _quiet() -> None:
    """Keep MLflow's progress messages off the terminal."""
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    quiet()
    warnings.filterwarnings("ignore", message=".*Add type hints to the `predict` method.*")
