"""MLflow's store: made by several processes at once, and on a tracking server over PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from documents import ROOT
from postgres_server import mlflow_server, postgres_running

from pipelines.runs import list_runs
from recsys.config import load_config
from recsys.registry import run_logging, tracking
from recsys.registry.run_queries import data_folder, find_run
from recsys.registry.run_tags import DATA_NAME, TRAINING

FIRST_RUN = """
import os, sys
import mlflow
import mlflow.store.tracking.sqlalchemy_store
from recsys.registry import tracking
for home in sys.argv[1:]:
    os.chdir(home)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it to the store before
    print("ready", flush=True)
    sys.stdin.readline()
    with tracking.run(tracking.connect(), "first", parent=True) as run:
        mlflow.log_metric("test", 1.0)
    print(run.info.experiment_id, flush=True)
"""
PROCESSES = 2


def test_several_processes_make_one_store_and_each_has_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First where there is nothing, then where there is a database without the experiment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    nothing, empty = tmp_path / "nothing", tmp_path / "empty"
    nothing.mkdir()
    (empty / "mlruns").mkdir(parents=True)
    database = f"sqlite:///{empty / 'mlruns' / 'mlflow.db'}"
    mlflow.MlflowClient(tracking_uri=database).search_experiments()
    command = [sys.executable, "-c", FIRST_RUN, str(nothing), str(empty)]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    for home in (nothing, empty):
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate(timeout=60)[1][-2000:]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        experiments = {process.stdout.readline() for process in processes if process.stdout is not None}
        assert len(experiments) == 1, experiments
        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{home / 'mlruns' / 'mlflow.db'}")
        runs = client.search_runs([experiments.pop().strip()])
        assert [(run.info.status, run.data.metrics) for run in runs] == PROCESSES * [("FINISHED", {"test": 1.0})]
        assert not list((home / "mlruns").glob("*.partial*"))
    assert [process.communicate(timeout=60) and process.returncode for process in processes] == PROCESSES * [0]


def test_a_database_that_the_environment_names_is_made_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///kept/here/runs.db")
    experiment = tracking.connect()
    assert tracking.connect() == experiment
    assert (tmp_path / "kept" / "here" / "runs.db").is_file()
    assert tracking.count_registered_models() == 0


def test_an_experiment_that_another_process_makes_in_between_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    experiment = tracking.connect()
    asked = mlflow.MlflowClient.get_experiment_by_name
    answers = [lambda *_: None, asked]  # at the first question there was none yet
    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", lambda *words: answers.pop(0)(*words))
    assert tracking.connect() == experiment
    assert answers == []


@pytest.mark.slow
def test_runs_and_files_are_kept_by_a_tracking_server_over_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, rejects = tmp_path / "site", tmp_path / "rejects"
    data.mkdir()
    rejects.mkdir()
    frame = pd.DataFrame({"impression_id": ["a", "b"], "ranker_ndcg_at_10": [0.5, 1.0]})
    with postgres_running() as database, mlflow_server(database, tmp_path) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.chdir(data)
        experiment = tracking.connect()
        with tracking.run(experiment, "news site", parent=True) as run:
            mlflow.set_tag(TRAINING, "news")
            run_logging.log_inputs(load_config(), data, "f" * 64, "training", rejects=rejects)
            with tracking.run(experiment, "evaluation"):
                run_logging.log_frame(frame, "lists")
        client = mlflow.MlflowClient()
        client.create_registered_model("news-ranker")
        client.create_model_version("news-ranker", f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
        client.set_registered_model_alias("news-ranker", "champion", "1")
        (listed,) = list_runs().runs
        assert (listed.run_id, str(listed.version), listed.aliases) == (run.info.run_id, "news-ranker/1", ("champion",))
        assert find_run(run.info.run_id).data.tags[DATA_NAME] == "site"
        assert data_folder(run.info.run_id) == data
        assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/config.json")["seed"] == 0
        (child,) = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
        fetched = client.download_artifacts(child.info.run_id, "lists.parquet", str(rejects))
        pd.testing.assert_frame_equal(pd.read_parquet(fetched), frame)
        assert list((tmp_path / "kept").rglob("lists.parquet"))  # the server keeps it, not this process
        assert not (data / "mlruns").exists()
        tracking.connect()
        assert tracking.count_registered_models() == 1
