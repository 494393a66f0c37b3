"""A disk that fills up in the middle of a command: one clear line, and nothing half-written that looks whole."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from small_ranking_model import tiny_settings
from trained_site import MODEL, TrainedSite
from warm_process import run_warm

from recsys.registry import tracking, versions

CHILD = """
import resource, sys
from pipelines import cli, train
from recsys.registry import registration
when, limit = sys.argv[1], int(sys.argv[2])
sys.argv[1:3] = []
def fill(bytes_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, resource.RLIM_INFINITY))
if when == "start":
    fill(limit)
else:
    name, _, freed = when.partition(" ")
    module = train if hasattr(train, name) else registration
    step = getattr(module, name)
    def filled(*arguments, **named):
        fill(limit)
        try:
            return step(*arguments, **named)
        finally:
            if freed:
                fill(resource.RLIM_INFINITY)
    setattr(module, name, filled)
cli.main()
"""
"""Runs `recsys` with no file allowed to grow beyond a limit from some step on, or, with "freed", during that step."""


def run(home: Path, when: str, limit: int, *arguments: str) -> list[str]:
    """The error of a command that fails for want of disk: what it says on standard error."""
    done = run_warm("-c", CHILD, when, str(limit), *arguments, cwd=home)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "free some" in lines[-1]
    return lines


def look_into(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point MLflow at a folder's own store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(home)
    tracking.connect()


def train_options(trained: TrainedSite) -> list[str]:
    settings = (*tiny_settings(trained.base), "encoder.head_epochs=1", "encoder.fine_tune_epochs=0")
    return [str(trained.data), *(part for setting in settings for part in ("--set", setting))]


@pytest.mark.parametrize(
    "when",
    [
        "log_ranker",
        *(pytest.param(when, marks=pytest.mark.slow) for when in ("_encoder_run", "log_encoder", "log_ranker freed")),
    ],
)
def test_a_training_without_disk_registers_no_half_of_a_model(
    trained: TrainedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    run(tmp_path, when, 10_000, "train", *train_options(trained))
    look_into(tmp_path, monkeypatch)
    registered = mlflow.MlflowClient().search_model_versions()
    assert [version.name for version in registered] == (["recsys-encoder"] if when == "log_ranker" else [])
    for version in registered:  # of a database that could not be written either: whole, and no ranker names it
        assert versions._artifact(versions.Version(version.name, str(version.version)), "encoder").is_dir()


def test_a_database_that_could_not_be_made_is_made_when_there_is_room(
    trained: TrainedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = run(tmp_path, "start", 700_000, "train", *train_options(trained))
    assert lines == [lines[-1]]
    assert lines[0].startswith("error: MLflow's database")
    assert [path.name for path in (tmp_path / "mlruns").iterdir()] == ["artifacts"]
    look_into(tmp_path, monkeypatch)
    assert mlflow.search_experiments()


def test_a_batch_without_disk_leaves_no_output(trained: TrainedSite, tmp_path: Path) -> None:
    candidates = str(trained.data / "impressions.parquet")
    out = tmp_path / "scored"
    run(trained.home, "start", 20_000, "score", str(trained.data), "--candidates", candidates, "--out", str(out),
        "--model", MODEL)  # fmt: skip
    assert list(tmp_path.iterdir()) == []
