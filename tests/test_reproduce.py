"""`recsys reproduce`: a training is repeated with the same bits; what cannot be repeated is one clear line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from trained_site import MODEL, NAME, TrainedSite

from features.errors import InputError
from pipelines import cli
from pipelines.reproduce import Reproduction, reproduce
from pipelines.stopwatch import RunUsage
from recsys.errors import RunNotFound
from recsys.evaluation.comparison import ComparedRun, ComparedRuns, compare
from recsys.registry import tracking
from recsys.registry.resume import interrupted
from recsys.registry.run_queries import recorded_lists
from recsys.registry.run_tags import REPRODUCES


@pytest.mark.slow
def test_a_training_is_repeated_with_the_same_bits_and_registers_nothing(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = mlflow.MlflowClient()
    before = client.get_registered_model(f"{NAME}-ranker")
    versions = len(client.search_model_versions(f"name = '{NAME}-ranker'"))
    report = tmp_path / "report.json"
    assert cli.run(lambda: cli.cli(["reproduce", MODEL, "--json", str(report)], standalone_mode=False)) == 0
    found = json.loads(report.read_text())
    assert found["equal"] == {"encoder": True, "ranker": True, "test metrics": True}
    assert found["reproduces"] == trained.report.usage.run_id
    assert found["comparison"]["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["environment"] == []
    assert capsys.readouterr().out.splitlines()[-1] == f"run {found['reproduces']} is reproduced: the same bits"
    assert client.get_registered_model(f"{NAME}-ranker").aliases == before.aliases
    assert len(client.search_model_versions(f"name = '{NAME}-ranker'")) == versions
    run = client.get_run(found["run_id"])
    assert (run.data.tags[REPRODUCES], run.info.status) == (found["reproduces"], "FINISHED")
    with pytest.raises(RunNotFound, match="is a reproduction, which is not resumed"):
        interrupted(found["run_id"])


def repeated(trained: TrainedSite, *, shift: float) -> Reproduction:
    """A repetition whose every list is `shift` better, or, with 0, as good on average with other bits."""
    run_id = trained.report.usage.run_id
    first = recorded_lists(run_id)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(first.frame)) * 0.01
    metric = first.frame["ranker_ndcg_at_10"] + (shift or noise - noise.mean())
    now = ComparedRun("this run", first.frame.assign(ranker_ndcg_at_10=metric), origin={"env.torch": "2.0"})
    first = replace(first, origin={"env.torch": "2.1"})
    comparison = compare(ComparedRuns((now,)), ComparedRuns((first,)), resamples=200, seed=0)
    equal = {"encoder": False, "ranker": None, "test metrics": False}
    return Reproduction(run_id, equal, comparison.differences, comparison, RunUsage({"read": 1.0}, 100, "now"))


def test_other_bits_pass_where_the_interval_of_the_difference_holds_zero(trained: TrainedSite) -> None:
    chance, other = repeated(trained, shift=0.0), repeated(trained, shift=-0.05)
    assert (chance.passed, other.passed) == (True, False)
    assert "is reproduced within chance: " in chance.lines()[-1]
    assert "is not reproduced: -.050 [-.050, -.050] ndcg_at_10" in other.lines()[-1]
    assert "ranker: not recorded by the first run" in other.lines()
    assert any("env.torch" in line and "2.1" in line for line in "\n".join(other.lines()).splitlines())
    assert other.as_dict()["environment"] == [{"name": "env.torch", "a": ["2.0"], "b": ["2.1"]}]


def test_data_that_is_not_there_or_has_changed_is_one_line(
    trained: TrainedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, other = trained.report.usage.run_id, tmp_path / "other"
    shutil.copytree(trained.data, other)
    pd.read_parquet(other / "impressions.parquet").iloc[6:].to_parquet(other / "impressions.parquet")
    with pytest.raises(InputError, match=r"other': expected the data of run \w+, fingerprint '\w+', got '\w+'; name a"):
        reproduce(run_id, folder=other)
    away = trained.data.rename(trained.data.with_name("away"))
    try:
        with pytest.raises(InputError, match=r"is not there any more; name a copy with --data DIR, whose fingerprint"):
            reproduce(run_id)
    finally:
        away.rename(trained.data)


def test_only_a_training_that_ended_well_is_repeated(trained: TrainedSite, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunNotFound, match="run 'nobody' is not at"):
        reproduce("nobody")
    with tracking.run(tracking.connect(), "something else", parent=True) as run:
        pass
    with pytest.raises(RunNotFound, match="expected the run of a `recsys train`, see `recsys runs`; got another"):
        reproduce(run.info.run_id)
    assert cli.run(lambda: cli.cli(["reproduce", "models:/x"], standalone_mode=False)) == 2
    assert cli.run(lambda: cli.cli(["reproduce", "a b"], standalone_mode=False)) == 2
