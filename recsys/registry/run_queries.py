"""Queries of MLflow's runs: the metrics of an evaluation's impressions, and which run and version belong together."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from recsys.errors import ModelError, ModelNotFound, RunNotFound
from recsys.evaluation.comparison import ComparedRun
from recsys.mlflow_internals.names import PARENT_RUN
from recsys.registry.lookup import resolve
from recsys.registry.names import Version, is_version
from recsys.registry.run_tags import FORMAT, FORMAT_TAG, ORIGIN, RANKER, STAGE, TRAINED_UNTIL, TRAINING

LISTS = "lists.parquet"
EVALUATION = "evaluation"


def recorded_lists(name: str) -> ComparedRun:
    """The lists of the evaluation that `name` names: a run of an evaluation, a run of a training, or a version.

    name: a run's id, or models:/NAME/VERSION or @ALIAS, which stands for the run that trained it. Raises RunNotFound
    where no such run, no evaluation in it or one of another format is recorded, ModelNotFound for a version.
    """
    parent = find_run(run_of_version(resolve(name)) if is_version(name) else name)
    for run in (parent, *_evaluations_below(parent)):
        run_id = str(run.info.run_id)
        if any(file.path == LISTS for file in mlflow.MlflowClient().list_artifacts(run_id)):
            _check_format(run)
            frame = pd.read_parquet(Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=LISTS)))
            seen = _seen(run, frame)
            rest = frame[~seen].reset_index(drop=True)
            return ComparedRun(name, rest, int(seen.sum()), run_id, training_origin(parent))
    raise RunNotFound(f"run {name!r}: expected an evaluation with {LISTS}, found none in it or its child runs")


def training_origin(run: Run) -> dict[str, str]:
    """Settings, data, code, libraries and machine of the training that a run is, is a part of, or evaluates, by name;
    empty where it is not recorded or was deleted."""
    tags = run.data.tags
    if TRAINING not in tags and (PARENT_RUN in tags or RANKER in tags):
        try:
            run = find_run(tags[PARENT_RUN] if PARENT_RUN in tags else run_of_version(resolve(tags[RANKER])))
        except ModelError:
            return {}
    origin = {name: value for name, value in run.data.tags.items() if name.startswith(ORIGIN)}
    return origin | dict(run.data.params)


def run_of_version(version: Version) -> str:
    """Id of the run that logged a version."""
    run_id = mlflow.MlflowClient().get_model_version(version.name, version.number).run_id
    if not run_id:
        raise ModelNotFound(f"{version} names no run; expected a version that `recsys train` registered")
    return str(run_id)


def ranker_of_run(run_id: str) -> str:
    """URI of the ranker version that a training's run registered. Raises RunNotFound where there is none."""
    tags = find_run(run_id).data.tags
    if RANKER in tags:
        return str(tags[RANKER])
    run_id = tags.get(PARENT_RUN, run_id)
    rankers = [version for version in versions_of_run(run_id) if version.is_ranker]
    if not rankers:
        raise RunNotFound(f"run {run_id!r} registered no ranker; expected the parent run of a training, or a version")
    return rankers[0].uri


def versions_of_run(run_id: str) -> list[Version]:
    """The versions that a run registered."""
    registered = mlflow.MlflowClient().search_model_versions(f"run_id = '{run_id}'")
    return [Version(version.name, str(version.version)) for version in registered]


def data_folder(run_id: str) -> Path | None:
    """The data directory that a run logged as its input, where it is still there."""
    for logged in find_run(run_id).inputs.dataset_inputs:
        address = urlparse(json.loads(logged.dataset.source).get("uri", ""))
        folder = Path(url2pathname(address.path))
        if address.scheme == "file" and folder.is_dir():
            return folder
    return None


def _check_format(run: Run) -> None:
    recorded = run.data.tags.get(FORMAT_TAG, FORMAT)
    if recorded != FORMAT:
        raise RunNotFound(
            f"run {run.info.run_id!r}: expected an evaluation of format {FORMAT}, found {recorded}; evaluate its "
            "version again with `recsys evaluate`"
        )


def _seen(run: Run, frame: pd.DataFrame) -> pd.Series:
    until = run.data.tags.get(TRAINED_UNTIL)
    if until is None:
        return pd.Series(data=False, index=frame.index)
    return frame["time"] <= pd.Timestamp(int(until), unit="us", tz="UTC")


def find_run(run_id: str, *, expected: str = "a run's id or models:/NAME/VERSION") -> Run:
    """A run by its id. expected: what the error asks for. Raises RunNotFound where there is no such run."""
    try:
        return mlflow.MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise RunNotFound(f"run {run_id!r} is not at {mlflow.get_tracking_uri()}; expected {expected}") from error


def _evaluations_below(run: Run) -> list[Run]:
    """Evaluation runs below a run, the newest first. Those of older trainings have no tag, but the stage as name."""
    children = mlflow.MlflowClient().search_runs(
        [run.info.experiment_id],
        f"tags.{PARENT_RUN} = '{run.info.run_id}'",
        order_by=["attributes.start_time DESC"],
    )
    return [child for child in children if EVALUATION in (child.data.tags.get(STAGE), child.info.run_name)]
