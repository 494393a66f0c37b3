"""Interrupted trainings: their runs, and the folder of their checkpoints on this machine.

The folder is `mlruns/checkpoints/RUN` under the working folder, wherever `MLFLOW_TRACKING_URI` keeps the runs.
"""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from features.errors import InputError
from recsys.config import Config
from recsys.encoder.training.checkpoint import CHECKPOINT_FILE
from recsys.errors import RunNotFound, TrainingError
from recsys.mlflow_internals.names import PARENT_RUN
from recsys.registry.run_queries import find_run, versions_of_run
from recsys.registry.run_tags import REPRODUCES, TRAINING

log = logging.getLogger(__name__)

CHECKPOINTS = Path("mlruns") / "checkpoints"


@dataclass(frozen=True)
class ResumableRun:
    """A training to resume. name: of its models. digest: the beginning of its data's fingerprint."""

    run_id: str
    name: str
    config: Config
    digest: str

    def require_data(self, folder: Path, fingerprint: str) -> None:
        """Raise InputError where a data directory is not the one that the training began with."""
        got = fingerprint[: len(self.digest)]
        if got != self.digest:
            raise InputError(
                f"{str(folder)!r}: expected the data that run {self.run_id} began with, fingerprint {self.digest!r}, "
                f"got {got!r}; train again without --resume"
            )

    def delete_partial_outputs(self) -> None:
        """Delete the run's child runs, which are repeated, and its encoder that has no ranker."""
        client = mlflow.MlflowClient()
        experiment = client.get_run(self.run_id).info.experiment_id
        for child in client.search_runs([experiment], f"tags.{PARENT_RUN} = '{self.run_id}'"):
            client.delete_run(child.info.run_id)
        for version in versions_of_run(self.run_id):
            client.delete_model_version(version.name, version.number)


def interrupted(run_id: str) -> ResumableRun:
    """The training of a run that has not come to its end.

    Raises RunNotFound where there is no such run, it has ended well, or there is nothing on this machine to go on from.
    """
    run = find_run(run_id, expected="the id that the training printed")
    if PARENT_RUN in run.data.tags:
        raise RunNotFound(f"run {run_id!r} is a part of run {run.data.tags[PARENT_RUN]!r}; resume that one")
    if REPRODUCES in run.data.tags:
        raise RunNotFound(
            f"run {run_id!r} is a reproduction, which is not resumed; run "
            f"`recsys reproduce {run.data.tags[REPRODUCES]}` again"
        )
    rankers = [str(version) for version in versions_of_run(run_id) if version.is_ranker]
    if rankers or run.info.status == RunStatus.to_string(RunStatus.FINISHED):
        registered = f"; it registered {', '.join(rankers)}" if rankers else ""
        raise RunNotFound(f"run {run_id!r} has ended well, there is nothing to resume{registered}")
    if not (CHECKPOINTS / run_id).is_dir():
        raise RunNotFound(
            f"run {run_id!r}: expected its checkpoints in {str(CHECKPOINTS / run_id)!r}, found none; resume it in the "
            "folder where it began, or train again without --resume"
        )
    with _lock(run_id):  # before the run is opened, which would mark it as failed
        pass
    name = run.data.tags.get(TRAINING, run.info.run_name)  # a training of an older version has no such tag
    return ResumableRun(run_id, name, recorded_config(run), recorded_digest(run))


def is_training(run_id: str) -> bool:
    """Whether a process on this machine is training this run now."""
    if not (CHECKPOINTS / run_id).is_dir():
        return False
    try:
        with _lock(run_id):
            return False
    except RunNotFound:
        return True


@contextmanager
def checkpoint_folder(run_id: str) -> Iterator[Path]:
    """The folder of a training's checkpoints, for one process at a time.

    Removed when the block ends well, or in a TrainingError, which a resumed training would raise again; else it stays.
    """
    folder = CHECKPOINTS.resolve() / run_id
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(run_id):
        try:
            yield folder
        except TrainingError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def resume_command(folder: Path, run_id: str) -> str:
    """The command that resumes a training."""
    return f"recsys train {shlex.quote(str(folder))} --resume {run_id}"


@contextmanager
def resume_command_on_failure(folder: Path, run_id: str, checkpoints: Path) -> Iterator[None]:
    """Log how to resume if the block is interrupted or fails for a reason outside of the training."""
    try:
        yield
    except TrainingError:
        raise
    except BaseException as error:
        if not (checkpoints / CHECKPOINT_FILE).is_file():
            raise
        note = f"the progress so far is saved, resume with: {resume_command(folder, run_id)}"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(note) from error
        log.info("%s", note)
        raise


@contextmanager
def _lock(run_id: str) -> Iterator[None]:
    """Keep other processes from training this run; the lock is released when the process ends, however it ends."""
    lock = FileLock(CHECKPOINTS / run_id / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RunNotFound(f"run {run_id!r} is still training in another process; end that first") from error
    try:
        yield
    finally:
        lock.release()


def recorded_config(run: Run, *, instead: str = "train again without --resume") -> Config:
    """The configuration of a training's run. instead: what to do where there is none, for the error.

    Raises RunNotFound where the run holds none, or one of another version of this project.
    """
    try:
        return Config.model_validate(mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/config.json"))
    except (MlflowException, OSError) as error:
        raise RunNotFound(
            f"run {run.info.run_id!r} was interrupted before it began, it holds no config.json; {instead}"
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise RunNotFound(
            f"run {run.info.run_id!r} is of another version of this project: config key "
            f"{'.'.join(map(str, problem['loc']))!r}: {problem['msg']}; {instead}"
        ) from error


def recorded_digest(run: Run, *, instead: str = "train again without --resume") -> str:
    """The beginning of the fingerprint of the data that a run read. instead: as in `recorded_config`."""
    inputs = run.inputs.dataset_inputs
    if not inputs:
        raise RunNotFound(f"run {run.info.run_id!r} was interrupted before it began, it names no data; {instead}")
    return str(inputs[0].dataset.digest)
