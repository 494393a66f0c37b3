"""`recsys runs` on a store of hand-made runs: what it lists, in which order, and how often it asks MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipelines import cli
from pipelines.runs import list_runs
from recsys.registry import tracking
from recsys.registry.run_tags import DATA_FINGERPRINT, DATA_NAME, TRAINING


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three trainings of `news`, the second failed, one of `shop`, and a run of another kind."""
    home = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(home)
        experiment = tracking.connect()
        training(experiment, "news", text=0.5, registers=True)
        with pytest.raises(ZeroDivisionError), tracking.run(experiment, "news site", parent=True):
            mlflow.set_tag(TRAINING, "news")
            raise ZeroDivisionError
        training(experiment, "news", text=0.6, registers=True)
        training(experiment, "shop", text=0.7)
        with tracking.run(experiment, "evaluate news-ranker/1", parent=True):
            pass
        mlflow.MlflowClient().set_registered_model_alias("news-ranker", "champion", "1")
        yield home


def training(experiment: str, name: str, *, text: float, registers: bool = False) -> None:
    client = mlflow.MlflowClient()
    with tracking.run(experiment, f"{name} site", parent=True) as run:
        mlflow.set_tags({TRAINING: name, DATA_NAME: "site", DATA_FINGERPRINT: "0123456789abcdef"})
        mlflow.log_metrics({"test.ranker.ndcg_at_10": 0.75, "test.text.ndcg_at_10": text})
        mlflow.log_metrics({"lift.ranker_over_behaviour": 0.1, "lift.ranker_over_behaviour.low": 0.05})
        mlflow.log_metrics({"lift.ranker_over_behaviour.high": 0.15})
        with tracking.run(experiment, "evaluation"):
            pass
        if registers:
            for model in (f"{name}-encoder", f"{name}-ranker"):
                if not client.search_registered_models(f"name = '{model}'"):
                    client.create_registered_model(model)
                client.create_model_version(model, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)


@pytest.fixture
def home(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(store)
    return store


def test_trainings_are_listed_the_newest_first_with_version_aliases_and_figures(home: Path, tmp_path: Path) -> None:
    assert cli.run(lambda: cli.cli(["runs", "--json", str(tmp_path / "r.json")], standalone_mode=False)) == 0
    runs = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert [run["models"] for run in runs] == ["shop", "news", "news", "news"]
    assert [run["version"] for run in runs] == [None, "models:/news-ranker/2", None, "models:/news-ranker/1"]
    assert [run["aliases"] for run in runs] == [[], [], [], ["champion"]]
    assert [run["status"] for run in runs] == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    assert runs[1]["ndcg_at_10"] == {"ranker": 0.75, "text": 0.6, "popularity": None}
    assert runs[1]["lift"] == {"ranker_over_behaviour": {"mean": 0.1, "low": 0.05, "high": 0.15}}
    assert runs[2]["ndcg_at_10"] == {"ranker": None, "text": None, "popularity": None}
    assert (runs[0]["data_name"], runs[0]["data_fingerprint"]) == ("site", "0123456789abcdef")
    line = next(line for line in list_runs().lines() if "news-ranker/1" in line)
    assert "news-ranker/1 champion" in line
    assert "+.100 [+.050, +.150]" in line


def test_no_two_runs_are_called_alike(home: Path) -> None:
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    names = [run.info.run_name for run in runs]
    assert len(names) == len(set(names)) == 8
    child = next(run for run in runs if run.info.run_name.startswith("evaluation "))
    assert child.info.run_name == f"evaluation {child.data.tags['mlflow.parentRunId'][:6]}"


def test_a_name_and_a_limit_choose_the_runs(home: Path) -> None:
    assert [run.models for run in list_runs(name="shop").runs] == ["shop"]
    limited = list_runs(name="news", limit=2)
    assert [run.status for run in limited.runs] == ["FINISHED", "FAILED"]
    assert "--limit N for more than 2" in limited.lines()[-1]
    assert list_runs(name="nobody").lines() == [
        "no training of 'nobody' is recorded; train with `recsys train DIR --name nobody`"
    ]
    assert cli.run(lambda: cli.cli(["runs", "--limit", "0"], standalone_mode=False)) == 2


def test_more_runs_are_no_more_questions(home: Path) -> None:
    list_runs(limit=2)
    assert statements(limit=2) == statements(limit=4) > 0


def statements(*, limit: int) -> int:
    """How many statements MLflow sends to its database for a list."""
    sent: list[str] = []

    def count(*arguments: object) -> None:
        sent.append(str(arguments[2]))

    event.listen(Engine, "before_cursor_execute", count)
    try:
        list_runs(limit=limit)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return len([statement for statement in sent if statement.startswith("SELECT")])


def test_a_version_that_was_deleted_is_not_listed(home: Path) -> None:
    mlflow.MlflowClient().delete_model_version("news-ranker", "2")
    assert [run.version for run in list_runs(name="news", limit=1).runs] == [None]
