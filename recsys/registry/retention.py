"""Old versions, runs and checkpoints of a name: which may go, and their removal.

Never one that has an alias, or that a rollback could go back to, nor what a process is still training.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlflow
from mlflow.entities import RunStatus

from recsys.mlflow_internals.names import PARENT_RUN
from recsys.registry.aliases import protected_versions
from recsys.registry.names import Version, encoder_name, parse_uri, ranker_name
from recsys.registry.past_trainings import past_trainings
from recsys.registry.resume import CHECKPOINTS, is_training
from recsys.registry.run_queries import versions_of_run
from recsys.registry.run_tags import RANKER

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unneeded:
    """What may go. runs: ids, each before its child runs. checkpoints: ids of runs that have some on this machine."""

    rankers: tuple[Version, ...] = ()
    encoders: tuple[Version, ...] = ()
    runs: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, list[str]]:
        """For JSON."""
        return {
            "rankers": [version.uri for version in self.rankers],
            "encoders": [version.uri for version in self.encoders],
            "runs": list(self.runs),
            "checkpoints": list(self.checkpoints),
        }

    def lines(self) -> list[str]:
        """One line each."""
        return [f"{kind[:-1]} {name}" for kind, names in self.as_dict().items() for name in names]


def find_unneeded(experiment: str, name: str, *, keep: int) -> Unneeded:
    """What NAME can do without. keep: how many of the newest rankers stay beside those that are protected."""
    rankers = _versions(ranker_name(name))
    if not rankers:
        return Unneeded()
    protected = protected_versions(ranker_name(name))
    newest = {version.number for version in rankers[-keep:]}
    old = [version for version in rankers if version.number not in protected | newest]
    kept = [version for version in rankers if version not in old]
    encoders = _unread_encoders(name, kept)
    runs = [*_runs_without_version(experiment, name), *_runs_of(experiment, [*old, *encoders])]
    distinct = tuple(dict.fromkeys(runs))
    return Unneeded(
        tuple(old), tuple(encoders), distinct, tuple(run for run in distinct if (CHECKPOINTS / run).is_dir())
    )


def delete(unneeded: Unneeded) -> None:
    """Remove it from the registry and the runs; `mlflow gc` then frees the disk.

    Killed in between, what is left is found by the next `find_unneeded`. A version that was given an alias meanwhile
    stays, with all that belongs to it.
    """
    client = mlflow.MlflowClient()
    spared: set[str] = set()
    for version in (*unneeded.rankers, *unneeded.encoders):
        run_id = _delete_version(client, version)
        spared |= {run_id} if run_id else set()
    for run_id in unneeded.runs:
        if run_id not in spared:
            _delete_run(client, run_id)
    for run_id in unneeded.checkpoints:
        shutil.rmtree(CHECKPOINTS / run_id, ignore_errors=True)


def _delete_version(client: mlflow.MlflowClient, version: Version) -> str:
    """Delete a version; returns its run's id where it is to stay after all, else ""."""
    stored = client.get_model_version(version.name, version.number)
    if version.number in protected_versions(version.name):
        log.warning("%s has an alias by now and stays", version)
        return str(stored.run_id)
    client.delete_model_version(version.name, version.number)
    return ""


def _delete_run(client: mlflow.MlflowClient, run_id: str) -> None:
    """Mark a run and the models that it logged as deleted."""
    experiment = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        client.delete_logged_model(model.model_id)
    client.delete_run(run_id)


def _versions(name: str) -> list[Version]:
    """The versions of a registered model, ascending; none where it is not registered."""
    client, found, token = mlflow.MlflowClient(), [], None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        found += [Version(name, str(version.version)) for version in page]
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.number))


def _unread_encoders(name: str, rankers: Sequence[Version]) -> list[Version]:
    """Encoders that none of the rankers names; none where a ranker does not say which it reads. Newer ones than all
    that are named may belong to a training that is going on."""
    client = mlflow.MlflowClient()
    named = [client.get_model_version(version.name, version.number).tags.get("encoder") for version in rankers]
    if None in named:
        return []
    read = {parse_uri(uri).number for uri in named if uri and uri != "none"}
    last = max((int(number) for number in read if number), default=0)
    protected = protected_versions(encoder_name(name)) if last else set()
    return [
        version
        for version in _versions(encoder_name(name))
        if version.number not in read | protected and int(version.number) < last and not _in_training(client, version)
    ]


def _in_training(client: mlflow.MlflowClient, version: Version) -> bool:
    run_id = client.get_model_version(version.name, version.number).run_id
    return bool(run_id) and is_training(str(run_id))


def _runs_without_version(experiment: str, name: str) -> Iterator[str]:
    """Trainings that registered nothing and are older than the newest that did, with their child runs."""
    trainings = past_trainings(experiment, name)
    newest = next((i for i, past in enumerate(trainings) if past.version is not None), len(trainings))
    for past in trainings[newest:]:
        running_elsewhere = past.run.info.status == RunStatus.to_string(RunStatus.RUNNING)
        running_elsewhere = running_elsewhere and not (CHECKPOINTS / past.run_id).is_dir()
        if past.version is None and not running_elsewhere and not is_training(past.run_id):
            yield past.run_id
            yield from _children(experiment, past.run_id)


def _runs_of(experiment: str, versions: Sequence[Version]) -> Iterator[str]:
    """The trainings of some versions, where all that they registered is among these, and what measured a ranker."""
    client = mlflow.MlflowClient()
    for version in versions:
        run_id = str(client.get_model_version(version.name, version.number).run_id)
        if set(versions_of_run(run_id)) <= set(versions):
            yield run_id
            yield from _children(experiment, run_id)
        if version.is_ranker:
            measured = client.search_runs([experiment], f"tags.{RANKER} = '{version.uri}'")
            yield from (str(run.info.run_id) for run in measured)


def _children(experiment: str, run_id: str) -> list[str]:
    runs = mlflow.MlflowClient().search_runs([experiment], f"tags.{PARENT_RUN} = '{run_id}'")
    return [str(run.info.run_id) for run in runs]
