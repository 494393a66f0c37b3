"""`recsys retrain`: it resumes what was interrupted, does nothing twice, and deletes nothing that is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from interrupts import interrupted_at
from test_resume import SETTINGS, write_tables
from tiny_encoder import save_tiny_bert, tiny_config, topic_log

from features.errors import RecsysError
from features.tables.load import load_log
from pipelines import cli
from pipelines.data_options import read_options
from pipelines.retrain import LOCKS, NOTHING, PROMOTE, RESUME, TRAIN, next_step, retrain
from recsys.config import Config
from recsys.registry import aliases, run_logging, tracking
from recsys.registry.names import Version
from recsys.registry.resume import CHECKPOINTS, checkpoint_folder
from recsys.registry.retention import Unneeded, delete, find_unneeded
from recsys.registry.run_tags import TRAINING

NAME = "news"
FOREIGN_LOCK = """
import sys, time, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@dataclass(frozen=True)
class Site:
    """home: the working folder. data: the tables."""

    home: Path
    data: Path
    config: Config
    fingerprint: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    home = tmp_path_factory.mktemp("retrained")
    data, base = write_tables(topic_log(1000), home / "data"), save_tiny_bert(home / "base")
    config = tiny_config(base, *SETTINGS, "encoder.fine_tune_epochs=1", "encoder.progressive_chunks=1")
    return Site(home, data, config, load_log(data, read_options(config), impressions_required=True)[1].fingerprint)


@pytest.fixture
def site(made: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(made.home)
    tracking.connect()
    return made


def test_an_interrupted_retraining_is_resumed_and_the_next_call_does_nothing(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with interrupted_at("epoch 1/"), pytest.raises(KeyboardInterrupt):
        retrain(site.data, site.config, name=NAME)
    (run_id,) = (path.name for path in CHECKPOINTS.iterdir())
    planned = retrain(site.data, site.config, name=NAME, dry_run=True)
    assert (planned.step.action, planned.step.run_id, planned.promoted) == (RESUME, run_id, False)

    resumed = retrain(site.data, site.config, name=NAME)
    assert resumed.step.action == RESUME
    assert resumed.version == Version(f"{NAME}-ranker", "1") == resumed.champion
    assert resumed.promoted and mlflow.MlflowClient().get_model_version(f"{NAME}-ranker", "1").run_id == run_id

    (site.home / "settings.yaml").write_text(json.dumps(site.config.model_dump(mode="json")), encoding="utf-8")
    arguments = ["retrain", str(site.data), "--name", NAME, "--config", "settings.yaml", "--keep", "1"]
    assert cli.run(lambda: cli.cli([*arguments, "--json", "report.json"], standalone_mode=False)) == 0
    report = json.loads((site.home / "report.json").read_text(encoding="utf-8"))
    assert (report["action"], report["promoted"], report["champion"]) == (NOTHING, False, f"models:/{NAME}-ranker/1")
    assert f"the data and the settings are those of run {run_id}" in report["reason"]
    assert not any(report["deleted"].values())
    assert "nothing to do: the data and the settings" in capsys.readouterr().out
    assert len(mlflow.MlflowClient().search_model_versions(f"name = '{NAME}-ranker'")) == 1

    assert find_unneeded(tracking.connect(), NAME, keep=1) == Unneeded()
    experiment = tracking.connect()
    other = site.config.model_copy(update={"seed": 1})
    assert next_step(experiment, NAME, other, site.fingerprint).action == TRAIN
    assert next_step(experiment, NAME, site.config, "0" * 64).action == TRAIN
    served = site.config.model_copy(update={"threads": 3})  # changes nothing that is learnt
    assert next_step(experiment, NAME, served, site.fingerprint).action == NOTHING


def test_a_version_that_the_gate_has_not_decided_about_is_promoted_or_refused_without_a_training(site: Site) -> None:
    versions = registered(site, "undecided", 2)
    step = next_step(tracking.connect(), "undecided", site.config, site.fingerprint)
    assert (step.action, step.version) == (PROMOTE, versions[1])
    aliases.set_version_tags(versions[1], {"promotion.outcome": "refused", "promotion.reasons": "it is worse"})
    step = next_step(tracking.connect(), "undecided", site.config, site.fingerprint)
    assert step.action == NOTHING and "refused because it is worse" in step.reason


def test_a_training_that_cannot_be_resumed_is_begun_again_and_one_that_runs_is_waited_for(site: Site) -> None:
    run_id = training_run(site, "stopped")
    experiment = tracking.connect()
    step = next_step(experiment, "stopped", site.config, site.fingerprint)
    assert step.action == TRAIN and "cannot be resumed" in step.reason
    with checkpoint_folder(run_id), pytest.raises(RecsysError, match="is training the same data now"):
        next_step(experiment, "stopped", site.config, site.fingerprint)


def test_a_second_process_is_refused_and_a_dead_one_holds_no_lock(site: Site) -> None:
    LOCKS.mkdir(parents=True, exist_ok=True)
    registered(site, "locked", 1)
    aliases.set_version_tags(Version("locked-ranker", "1"), {"promotion.outcome": "refused"})
    with subprocess.Popen(
        [sys.executable, "-c", FOREIGN_LOCK, str(LOCKS / "locked.lock")], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(RecsysError, match="another `recsys retrain` of 'locked'"):
            retrain(site.data, site.config, name="locked")
        other.kill()
        other.wait()
    assert retrain(site.data, site.config, name="locked").step.action == NOTHING


def test_old_versions_go_but_for_the_newest_and_what_is_needed(site: Site) -> None:
    versions = registered(site, "many", 8)
    client, model = mlflow.MlflowClient(), "many-ranker"
    client.set_registered_model_alias(model, "champion", "2")
    aliases.promote(versions[3], over=versions[1])  # version 4 over version 2
    client.set_registered_model_alias(model, "challenger", "6")
    failed = training_run(site, "many", before=True)
    client.create_run(tracking.connect(), run_name="many", start_time=2)  # of somebody else
    unread = encoder_version("many", "9", training_run(site, "elsewhere"))
    experiment = tracking.connect()
    planned = find_unneeded(experiment, "many", keep=2)
    assert [version.number for version in planned.rankers] == ["1", "3", "5"]
    assert [version.number for version in planned.encoders] == ["1", "3", "5"]  # 9 is newer than all that are named
    runs = [str(client.get_model_version(model, number).run_id) for number in ("1", "3", "5")]
    assert set(planned.runs) == {failed, *runs}
    assert planned.lines()[0] == "ranker models:/many-ranker/1"

    client.set_registered_model_alias(model, "pinned", "5")  # meanwhile
    delete(planned)
    left = sorted(version.version for version in client.search_model_versions(f"name = '{model}'"))
    assert [str(number) for number in left] == ["2", "4", "5", "6", "7", "8"]
    assert client.get_run(runs[0]).info.lifecycle_stage == "deleted"
    assert client.get_run(runs[2]).info.lifecycle_stage == "active"
    assert client.get_model_version("many-encoder", unread.number) is not None
    assert find_unneeded(experiment, "many", keep=2) == Unneeded()
    assert aliases.rollback(model)[1].number == "2"
    assert [version.number for version in find_unneeded(experiment, "many", keep=2).rankers] == ["4"]
    kept = find_unneeded(experiment, "nobody", keep=1)
    assert kept.lines() == []


def training_run(site: Site, name: str, *, before: bool = False) -> str:
    """The run of a training that registered nothing. before: older than all others, and ended in an error."""
    client, experiment = mlflow.MlflowClient(), tracking.connect()
    run = client.create_run(experiment, run_name=name, tags={TRAINING: name}, start_time=1 if before else None)
    with mlflow.start_run(run.info.run_id):
        rejects = site.home / "no-rejects"
        rejects.mkdir(exist_ok=True)
        run_logging.log_inputs(site.config, site.data, site.fingerprint, "training", rejects=rejects)
    client.set_terminated(run.info.run_id, "FAILED")
    return str(run.info.run_id)


def registered(site: Site, name: str, n: int) -> list[Version]:
    """n rankers, each with an encoder and a run of its own; the first is the champion."""
    client, versions = mlflow.MlflowClient(), []
    client.create_registered_model(f"{name}-ranker")
    client.create_registered_model(f"{name}-encoder")
    for number in range(1, n + 1):
        run_id = training_run(site, name)
        encoder = encoder_version(name, str(number), run_id)
        stored = client.create_model_version(f"{name}-ranker", f"runs:/{run_id}/none", run_id=run_id)
        versions.append(Version(f"{name}-ranker", str(stored.version)))
        aliases.set_version_tags(versions[-1], {"encoder": encoder.uri})
    return versions


def encoder_version(name: str, number: str, run_id: str) -> Version:
    stored = mlflow.MlflowClient().create_model_version(f"{name}-encoder", f"runs:/{run_id}/none", run_id=run_id)
    assert str(stored.version) == number
    return Version(f"{name}-encoder", number)
