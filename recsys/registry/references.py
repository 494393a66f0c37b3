"""The distributions and figures of a version's evaluation, as its training's run keeps them."""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
from pydantic import ValidationError

from recsys.errors import ModelNotFound, RunNotFound
from recsys.evaluation.report import LIFT_METRIC
from recsys.metrics.bootstrap import Interval, mean_interval
from recsys.monitoring.online_figures import Promise
from recsys.monitoring.reference import REFERENCE, Reference
from recsys.registry.names import Version
from recsys.registry.run_queries import recorded_lists, run_of_version

METHODS = ("registered", "ranker")
"""What goes live, by its name in an evaluation; the first that it has."""


def log_reference(reference: Reference) -> None:
    """Keep a reference with the open run, as `reference.json`."""
    mlflow.log_text(reference.model_dump_json(), REFERENCE)


def recorded_reference(version: Version) -> Reference | None:
    """The reference that a version's training kept, None where it kept none. Raises RunNotFound for a damaged one."""
    run_id = run_of_version(version)
    if not any(file.path == REFERENCE for file in mlflow.MlflowClient().list_artifacts(run_id)):
        return None
    text = mlflow.artifacts.load_text(f"runs:/{run_id}/{REFERENCE}")
    try:
        return Reference.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        raise RunNotFound(
            f"{REFERENCE} of run {run_id!r}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}; train again, or "
            "delete that file from the run: it is computed again from the tables then"
        ) from error


def promise_of(version: str, *, resamples: int, seed: int) -> Promise | None:
    """What the evaluation of NAME/VERSION promised, None where none is recorded."""
    name, _, number = version.rpartition("/")
    found = Version(name, number)
    try:
        reference = recorded_reference(found)
        if reference is not None:
            return Promise(reference.clicked, reference.ndcg_at_10)
        frame = recorded_lists(found.uri).frame
    except (ModelNotFound, RunNotFound):
        return None
    columns = [f"{method}_{LIFT_METRIC}" for method in METHODS if f"{method}_{LIFT_METRIC}" in frame]
    if not columns:
        return None
    users = pd.factorize(frame["user_id"])[0]
    ndcg = mean_interval(frame[columns[0]].to_numpy(np.float64), users, resamples=resamples, seed=seed)
    return Promise(Interval(np.nan, np.nan, np.nan), ndcg)
