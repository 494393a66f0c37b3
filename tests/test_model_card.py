"""What MLflow shows of a training: run names, tags, few metrics, metrics by slice, and model cards."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from trained_site import NAME, TrainedSite

from recsys.config import load_config
from recsys.evaluation.run_differences import RunDifference, differences_text, run_differences
from recsys.evaluation.slices import SliceResult
from recsys.metrics.bootstrap import Interval
from recsys.registry.model_card import LONGEST, TrainingFacts, ranker_card
from recsys.registry.model_metrics import logged_model
from recsys.registry.provenance import config_hash, git_commit
from recsys.registry.run_tags import MAIN_METRIC, STAGE


def test_a_rankers_description_is_a_model_card(trained: TrainedSite) -> None:
    client = mlflow.MlflowClient()
    card = client.get_model_version(f"{NAME}-ranker", "1").description
    assert len(card) <= LONGEST
    headings = re.findall(r"^## (.+)$", card, re.MULTILINE)
    assert headings == ["Data", "Metrics on test", "Slices", "Limits", "How to load", "Not to be used"]
    assert trained.report.tables.fingerprint[:16] in card
    assert "| popularity | " in card and "| user warm | " in card
    assert "recsys serve --model models:/tiny-ranker/1" in card
    encoder = client.get_model_version(f"{NAME}-encoder", "1").description
    assert "Text encoder of tiny-ranker/1" in encoder and "| text_frozen | " in encoder


def test_a_long_card_leaves_out_slices_and_fits_into_mlflows_database(trained: TrainedSite) -> None:
    verdict, tables = trained.report.models.verdict, trained.report.tables
    facts = TrainingFacts("data", tables.as_dict(), trained.report.slices, trained.config)
    interval = Interval(0.5, 0.4, 0.6)
    slices = [SliceResult("category", f"c|{number}", 10, 5, (interval,) * 3) for number in range(500)]
    card = ranker_card(verdict, slices, facts, encoder=None)
    assert LONGEST - 100 < len(card) <= LONGEST
    assert r"| category c\|0 | 10 | .500 [.400, .600] |" in card
    assert "More slices: report.html" in card and card.endswith("it learns what is clicked")
    assert "It reads no encoder." in card


def test_a_trainings_run_has_few_metrics_and_tags_that_say_where_it_comes_from(trained: TrainedSite) -> None:
    run = mlflow.MlflowClient().get_run(trained.report.usage.run_id)
    assert re.fullmatch(rf"tiny data \d{{4}}-\d\d-\d\d \d\d:\d\d {run.info.run_id[:6]}", run.info.run_name)
    metrics = sorted(run.data.metrics)
    assert metrics[0].startswith("lift.ranker_over_behaviour") and MAIN_METRIC in metrics
    assert [name for name in metrics if not name.startswith(("lift.", "test.", "usage."))] == []
    lift = trained.report.evaluation.lifts["ranker_over_behaviour"]
    assert run.data.metrics["lift.ranker_over_behaviour.low"] == pytest.approx(lift.low)
    tags = run.data.tags
    assert tags["data.fingerprint"] == trained.report.tables.fingerprint
    assert tags["text_lift"].startswith(f"{lift.mean:+.3f}".replace("0.", "."))
    assert (tags["ranker"], tags["config.hash"]) == ("models:/tiny-ranker/1", config_hash(trained.config))
    assert {"env.torch", "env.cpu", "env.dtype", "encoder.fingerprint", "ranker.fingerprint"} <= set(tags)
    experiment = mlflow.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == MAIN_METRIC


def test_the_logged_ranker_has_its_metrics_by_slice_each_tied_to_a_data_set(trained: TrainedSite) -> None:
    client, models = mlflow.MlflowClient(), trained.report.models
    parent = trained.report.usage.run_id
    experiment = client.get_run(parent).info.experiment_id
    found = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}' and tags.`{STAGE}` = 'evaluation'")
    names = {one.dataset.name: one.dataset.digest for one in found[0].inputs.dataset_inputs}
    assert names["data, test: user warm"] == trained.report.tables.fingerprint[:36]
    by_name = {metric.key: metric for metric in mlflow.get_logged_model(logged_model(models.ranker)).metrics}
    for result in models.slices:
        metric = by_name[f"slice.{result.name}.ndcg_at_10"]
        assert metric.value == pytest.approx(result.intervals[1].mean)
        assert metric.dataset_name == f"data, test: {result.name}"


def test_seeds_of_one_configuration_have_one_hash() -> None:
    config = load_config()
    assert config_hash(replace_seed(1)) == config_hash(config)
    assert config_hash(load_config(None, ("ranker.max_trees=7",))) != config_hash(config)


def replace_seed(seed: int) -> object:
    return load_config(None, (f"seed={seed}",))


def test_the_commit_is_that_of_the_code_and_says_where_files_have_changed(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    assert git_commit(package) is None  # as an installation in a folder that a repository ignores
    git("add", ".")
    git("commit", "-qm", "first")
    assert git_commit(package) == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("changed")
    assert git_commit(package) == git("rev-parse", "HEAD") + "+"


def test_differences_are_the_values_that_are_not_the_same_in_all_runs() -> None:
    a = [{"seed": "0", "trees": "5", "torch": "2"}, {"seed": "1", "trees": "5", "torch": "2"}]
    b = [{"seed": "0", "trees": "7", "torch": "2", "new": "x" * 100}]
    found = run_differences(a, b)
    assert found == (
        RunDifference("new", ("-",), ("x" * 100,)),
        RunDifference("seed", ("0", "1"), ("0",)),
        RunDifference("trees", ("5",), ("7",)),
    )
    assert "seed     0, 1  0" in differences_text(found)
    assert "x" * 59 + "…" in differences_text(found)
    assert run_differences(b, b) == ()
    assert replace(found[1], a=("0",)).as_dict() == {"name": "seed", "a": ["0"], "b": ["0"]}
