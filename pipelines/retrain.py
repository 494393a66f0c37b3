"""`recsys retrain DIR`: train on what is there now, audit, and promote what is better, if anything is new.

Reads a data directory. Writes what `recsys train` and `recsys promote` write, and deletes old versions where asked. Run
it as often as you like: on data and settings that have been trained it does nothing, and what a kill interrupted it
resumes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock, Timeout

from features.errors import InputError, RecsysError
from features.tables.load import load_log
from pipelines.audit import audit_version
from pipelines.data_options import read_options
from pipelines.promote import OUTCOME, promote
from pipelines.train import TrainReport, resume, train
from recsys.config import Config
from recsys.errors import ModelNotFound, RunNotFound
from recsys.evaluation.promotion_gate import FORCED, PROMOTED, REFUSED, Decision
from recsys.registry import tracking
from recsys.registry.aliases import champion_of
from recsys.registry.names import Version, name_problem, ranker_name
from recsys.registry.past_trainings import PastTraining, past_trainings, same_training
from recsys.registry.resume import interrupted, is_training
from recsys.registry.retention import Unneeded, delete, find_unneeded

log = logging.getLogger(__name__)

LOCKS = Path("mlruns") / "retrain"
NOTHING, TRAIN, RESUME, PROMOTE = "nothing", "train", "resume", "promote"


@dataclass(frozen=True)
class Step:
    """What there is to do, and why. action: one of those above. run_id: to resume. version: that is trained already."""

    action: str
    reason: str
    run_id: str = ""
    version: Version | None = None


@dataclass(frozen=True)
class RetrainReport:
    """step: what there was to do. version: of the ranker, None where none is trained. decision: of the gate, None where
    it was not asked. champion: afterwards. deleted: what went or, with dry_run, what would go."""

    step: Step
    fingerprint: str
    version: Version | None
    decision: Decision | None
    champion: Version | None
    deleted: Unneeded
    dry_run: bool

    @property
    def promoted(self) -> bool:
        """Whether this call made a version the champion."""
        if self.dry_run or self.step.action == NOTHING:
            return False
        return self.version == self.champion if self.decision is None else self.decision.promoted

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys retrain --json`."""
        return {
            "action": self.step.action,
            "reason": self.step.reason,
            "data_fingerprint": self.fingerprint,
            "version": None if self.version is None else self.version.uri,
            "promoted": self.promoted,
            "decision": None if self.decision is None else self.decision.as_dict(),
            "champion": None if self.champion is None else self.champion.uri,
            "deleted": self.deleted.as_dict(),
            "dry_run": self.dry_run,
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        would = "would " if self.dry_run else ""
        words = {NOTHING: "nothing to do", TRAIN: "train", RESUME: "resume", PROMOTE: "ask the gate"}
        lines = [f"{would if self.step.action != NOTHING else ''}{words[self.step.action]}: {self.step.reason}"]
        if self.decision is not None:
            lines += self.decision.lines()
        elif self.promoted:
            lines.append(f"{self.version} is the champion, the first one")
        lines += [f"{'would delete' if self.dry_run else 'deleted'} {line}" for line in self.deleted.lines()]
        if self.deleted.runs and not self.dry_run:
            uri = mlflow.get_tracking_uri()
            lines.append(f"to free their disk space: mlflow gc --backend-store-uri {uri} --tracking-uri {uri}")
        return [*lines, f"champion: {self.champion or 'none'}"]


def retrain(
    folder: Path, config: Config, *, name: str = "recsys", keep: int | None = None, dry_run: bool = False
) -> RetrainReport:
    """Train, audit and promote, unless this data was trained with these settings before.

    keep: delete versions, runs and checkpoints of NAME but for those of the newest `keep` rankers, and those that are
    protected; None deletes nothing. dry_run: change nothing, and say what would be done. Raises RecsysError where
    another process retrains NAME, InputError and TrainingError as `train` does.
    """
    if problem := name_problem(name):
        raise InputError(f"name of the models: {problem}")
    experiment = tracking.connect()
    with _alone(name):
        _, tables = load_log(folder, read_options(config), impressions_required=True)
        step = next_step(experiment, name, config, tables.fingerprint)
        log.info("%s: %s", step.action, step.reason)
        version, decision = step.version, None
        if not dry_run:
            version, decision = _carry_out(step, folder, config, name)
        unneeded = Unneeded() if keep is None else find_unneeded(experiment, name, keep=keep)
        if not dry_run:
            delete(unneeded)
        return RetrainReport(
            step=step,
            fingerprint=tables.fingerprint,
            version=version,
            decision=decision,
            champion=_champion(name),
            deleted=unneeded,
            dry_run=dry_run,
        )


def next_step(experiment: str, name: str, config: Config, fingerprint: str) -> Step:
    """What is left to do for data of a fingerprint. Raises RecsysError where a process is training it now."""
    past = same_training(past_trainings(experiment, name), config, fingerprint)
    if past is None:
        return Step(TRAIN, "no training of this data with these settings is recorded")
    if past.version is not None:
        return _after_training(past, past.version)
    if is_training(past.run_id):
        raise RecsysError(f"run {past.run_id} is training the same data now; wait for it, or end it")
    try:
        interrupted(past.run_id)
    except RunNotFound as error:
        return Step(TRAIN, f"the last training of this data did not end well and cannot be resumed: {error}")
    return Step(RESUME, f"run {past.run_id} was interrupted", run_id=past.run_id)


def _after_training(past: PastTraining, version: Version) -> Step:
    """Of a training that has registered a version: whether the gate has decided."""
    stored = mlflow.MlflowClient().get_model_version(version.name, version.number)
    outcome = stored.tags.get(OUTCOME)
    same = f"the data and the settings are those of run {past.run_id}, which registered {version}"
    if champion_of(version.name) == version:
        return Step(NOTHING, f"{same}, the champion", version=version)
    if outcome in (PROMOTED, FORCED, REFUSED):
        why = f"; it was refused because {stored.tags.get('promotion.reasons')}" if outcome == REFUSED else ""
        return Step(NOTHING, f"{same}; the gate has decided: {outcome}{why}", version=version)
    return Step(PROMOTE, f"{same}; the gate has not decided yet", version=version)


def _carry_out(step: Step, folder: Path, config: Config, name: str) -> tuple[Version | None, Decision | None]:
    """The version that is trained then, and the gate's decision where it was asked."""
    version = step.version
    if step.action in (TRAIN, RESUME):
        version = _train(step, folder, config, name).models.ranker
    if step.action == NOTHING or version is None or champion_of(version.name) == version:
        return version, None
    return version, promote(version.uri, config, folder=folder, audit=partial(audit_version, config=config))


def _train(step: Step, folder: Path, config: Config, name: str) -> TrainReport:
    return resume(folder, step.run_id) if step.action == RESUME else train(folder, config, name=name)


def _champion(name: str) -> Version | None:
    try:
        return champion_of(ranker_name(name))
    except ModelNotFound:
        return None


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Keep other processes from retraining NAME; the lock is released when the process ends, however it ends."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCKS / f"{name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RecsysError(
            f"another `recsys retrain` of {name!r} is at work in this folder; wait until it ends"
        ) from error
    try:
        yield
    finally:
        lock.release()
