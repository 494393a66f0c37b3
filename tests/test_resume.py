"""`recsys train --resume`: killed in the middle of fine-tuning, a training ends with the same models in its run."""

from __future__ import annotations

import json
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from tiny_encoder import save_tiny_bert, tiny_config, topic_log
from warm_process import run_warm

from features.log import Log
from pipelines import cli
from pipelines.train import train
from recsys.config import Config
from recsys.encoder.training.checkpoint import Checkpoints
from recsys.ranker.ensemble_ranker import EnsembleRanker
from recsys.registry import tracking, versions
from recsys.registry.resume import CHECKPOINTS, checkpoint_folder
from recsys.registry.run_tags import STAGE

BEGAN = 1_700_000_000_000_000
"""Microseconds of the first list."""

CHILD = """
import os, signal, sys
from pipelines import cli
from recsys.encoder.training.fine_tune_phase import FineTunePhase
from recsys.encoder.training.trainer import EncoderTrainer
train_layers, backward, at = EncoderTrainer.train_layers, FineTunePhase.backward, [0, 0]
def entering(self, chunk):
    at[:] = at[0] + 1, 0
    train_layers(self, chunk)
def stepping(self, *arguments):
    at[1] += 1
    if at == [2, 4]:
        os.kill(os.getpid(), signal.SIGKILL)
    return backward(self, *arguments)
EncoderTrainer.train_layers, FineTunePhase.backward = entering, stepping
cli.main()
"""
"""Runs `recsys` until the layers are trained after the second part of the ranker slice: the first of two steps of their
second update there is done when the system kills it."""

SETTINGS = (
    "encoder.progressive_chunks=3",
    "encoder.accumulate=2",
    "encoder.checkpoint_minutes=0",
    "encoder.fine_tune_epochs=5",
    "encoder.fine_tune_learning_rate=1e-2",
    "encoder.warmup_updates=0",
    "encoder.ema_decay=0.5",
    "ranker.max_trees=20",
    "ranker.min_data_in_leaf=5",
    "evaluation.resamples=100",
    "audit.auc_gap=0.9",
    "audit.text_auc_gap=0.9",
    "audit.auc_most=1",
)
"""Of a training whose layers pay, and learn fast enough to alarm an audit."""


@dataclass(frozen=True)
class Killed:
    """A training that was killed. home: the folder that it ran in."""

    home: Path
    data: Path
    config: Config
    run_id: str


def write_tables(log: Log, folder: Path) -> Path:
    """A data directory of a log's items and lists."""
    folder.mkdir()
    ids, requests = log.catalog.ids, log.impressions.requests
    pd.DataFrame({"item_id": ids, "title": log.catalog.title[:-1]}).to_parquet(folder / "items.parquet")
    of_row = np.repeat(np.arange(len(requests)), requests.lengths())
    lists = {
        "impression_id": log.impressions.ids[of_row],
        "user_id": log.users[requests.user[of_row]],
        "timestamp": pd.to_datetime(requests.time[of_row] + BEGAN, unit="us", utc=True),
        "item_id": ids[requests.item],
        "clicked": log.impressions.label,
    }
    pd.DataFrame(lists).to_parquet(folder / "impressions.parquet")
    return folder


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    home = tmp_path_factory.mktemp("killed")
    data, base = write_tables(topic_log(1000), home / "data"), save_tiny_bert(home / "base")
    config = tiny_config(base, *SETTINGS)
    (home / "settings.yaml").write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    done = run_warm("-c", CHILD, "train", str(data), "--name", "news", "--config", "settings.yaml", cwd=home)
    assert done.returncode == -signal.SIGKILL, done.stderr
    told = re.search(r"resume with: recsys train (\S+) --resume (\w+)", done.stderr)
    assert told is not None
    assert told[1] == str(data)
    return Killed(home, data, config, told[2])


@pytest.fixture
def killed(killed_once: Killed, monkeypatch: pytest.MonkeyPatch) -> Killed:
    """The same, with its folder as the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(killed_once.home)
    tracking.connect()
    return killed_once


def recsys(*arguments: str) -> int:
    return cli.run(lambda: cli.cli(["train", *arguments], standalone_mode=False))


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a training that cannot be gone on with."""
    capsys.readouterr()
    assert recsys(*arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.slow
def test_a_run_that_cannot_be_gone_on_with_says_why(killed: Killed, capsys: pytest.CaptureFixture[str]) -> None:
    data, run_id = str(killed.data), killed.run_id
    assert "run 'nobody' is not at sqlite:" in error(capsys, data, "--resume", "nobody")
    experiment = tracking.connect()
    with tracking.run(experiment, "ended", parent=True) as ended, tracking.run(experiment, "part") as part:
        pass
    assert "has ended well, there is nothing to resume" in error(capsys, data, "--resume", ended.info.run_id)
    assert f"is a part of run {ended.info.run_id!r}" in error(capsys, data, "--resume", part.info.run_id)
    CHECKPOINTS.joinpath(run_id).rename("elsewhere")
    told = error(capsys, data, "--resume", run_id)
    assert f"expected its checkpoints in 'mlruns/checkpoints/{run_id}', found none" in told
    Path("elsewhere").rename(CHECKPOINTS / run_id)
    with pytest.raises(KeyboardInterrupt), checkpoint_folder(run_id):
        assert "is still training in another process" in error(capsys, data, "--resume", run_id)
        raise KeyboardInterrupt
    assert mlflow.MlflowClient().get_run(run_id).info.status == "RUNNING"


@pytest.mark.slow
def test_other_data_is_refused(killed: Killed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    shutil.copytree(killed.data, other)
    pd.read_parquet(other / "impressions.parquet").iloc[6:].to_parquet(other / "impressions.parquet")
    told = error(capsys, str(other), "--resume", killed.run_id)
    assert re.search(rf"expected the data that run {killed.run_id} began with, fingerprint '\w+', got '\w+'", told)


@pytest.mark.slow
def test_a_truncated_checkpoint_is_one_line(killed: Killed, capsys: pytest.CaptureFixture[str]) -> None:
    path = CHECKPOINTS / killed.run_id / "place.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    told = error(capsys, str(killed.data), "--resume", killed.run_id)
    assert "place.safetensors' cannot be read: SafetensorError" in told
    assert told.endswith("run `recsys train` again without --resume")
    path.write_bytes(whole)


@pytest.mark.slow
def test_a_training_killed_in_the_middle_of_fine_tuning_ends_with_the_same_models(
    killed: Killed, capsys: pytest.CaptureFixture[str]
) -> None:
    state = Checkpoints(CHECKPOINTS / killed.run_id, minutes=0).load()
    assert state is not None
    assert state["layers"]["layers"]["position"]["update"] == 1
    assert state["n_snapshots"] == 2
    whole = train(killed.data, killed.config, name="whole")
    assert recsys(str(killed.data), "--resume", killed.run_id) == 0

    expected, found = (versions.load(f"models:/{name}-ranker@champion") for name in ("whole", "news"))
    assert found.ranking_model.encoder.fingerprint == expected.ranking_model.encoder.fingerprint
    rankers = [loaded.ranking_model.ranker for loaded in (found, expected)]
    texts = [ranker.trees.booster.model_to_string() for ranker in rankers if isinstance(ranker, EnsembleRanker)]
    assert texts == 2 * texts[:1]
    assert rankers[0].scale == rankers[1].scale
    client = mlflow.MlflowClient()
    run, other = client.get_run(killed.run_id), client.get_run(whole.usage.run_id)
    assert run.info.status == "FINISHED"
    for name, value in other.data.metrics.items():
        if name.startswith("test."):
            assert run.data.metrics[name] == value
    children = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{killed.run_id}'")
    assert sorted(child.data.tags[STAGE] for child in children) == ["encoder", "evaluation", "ranker"]
    assert {child.info.status for child in children} == {"FINISHED"}
    assert list(CHECKPOINTS.iterdir()) == []
    told = error(capsys, str(killed.data), "--resume", killed.run_id)
    assert "has ended well, there is nothing to resume; it registered news-ranker/1" in told


@pytest.mark.parametrize("given", [("--set", "seed=1"), ("--config", "x.yaml"), ("--name", "recsys")])
def test_settings_and_name_are_those_of_the_run(given: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys("x", "--resume", "run", *given) == 2
    assert "takes the settings and the name of its run" in capsys.readouterr().err
