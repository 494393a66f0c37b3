"""`recsys evaluate` and `recsys compare` on trained versions: the training's own figures again, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from trained_site import MODEL, TrainedSite, tables_until

from features.clock import format_time
from features.errors import InputError
from pipelines import cli
from pipelines.compare import compare
from pipelines.evaluate import SEEN, evaluate
from pipelines.train import TrainReport, train
from recsys.config import Config, load_config
from recsys.errors import ComparisonError, ModelNotFound, RunNotFound
from recsys.metrics.ranking import METRICS
from recsys.registry.run_queries import LISTS, data_folder, recorded_lists
from recsys.registry.run_tags import FORMAT, FORMAT_TAG
from recsys.registry.versions import load

CONFIG = load_config(None, ("evaluation.resamples=100", "threads=1"))


@pytest.fixture(scope="module")
def other(trained_once: TrainedSite) -> TrainReport:
    """A further version, of two stumps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(trained_once.home)
        return train(trained_once.data, weaker(trained_once.config), name="other")


def weaker(config: Config) -> Config:
    return config.model_copy(update={"ranker": config.ranker.model_copy(update={"max_trees": 2, "num_leaves": 2})})


def test_the_figures_on_the_training_data_are_those_of_the_trainings_test(trained: TrainedSite) -> None:
    report = evaluate(trained.data, MODEL, CONFIG)
    training = trained.report.evaluation
    assert list(report.evaluation.test.methods) == ["random", "popularity", "item_knn", "tfidf", "text", "ranker"]
    found, expected = report.evaluation.as_dict(), training.as_dict()
    for part in ("test", "cold_items", "cold_users"):
        for method in report.evaluation.test.methods:
            for metric in METRICS:
                assert found[part][method][metric] == pytest.approx(expected[part][method][metric], abs=1e-12)
    for part, name in (("lift", "ranker_over_text"), ("beyond", "ranker")):
        flat, other = (pd.json_normalize(one[part][name]).iloc[0].dropna() for one in (found, expected))
        assert flat.to_dict() == pytest.approx(other.to_dict(), abs=1e-12)


def test_the_report_has_the_keys_of_a_trainings_evaluation_and_its_slices(trained: TrainedSite) -> None:
    report = json.loads(json.dumps(evaluate(trained.data, MODEL, CONFIG).as_dict(), allow_nan=False))
    assert set(trained.report.evaluation.as_dict()) <= set(report)
    assert report["models"] == {"encoder": "models:/tiny-encoder/1", "ranker": "models:/tiny-ranker/1"}
    assert report["labels_seen"] is False
    by = {one["by"] for one in report["by_slice"]}
    assert {"all lists", "user", "clicked item", "history", "category", "hour", "list size", "clicked position"} == by
    whole = report["by_slice"][0]
    assert whole["ndcg_at_10"]["ranker"] == pytest.approx(report["test"]["ranker"]["ndcg_at_10"])
    assert (whole["lists"], whole["users"]) == tuple(report["tested"].values())


def test_the_run_names_version_and_data_and_holds_every_list(trained: TrainedSite) -> None:
    report = evaluate(trained.data, MODEL, CONFIG)
    run = mlflow.MlflowClient().get_run(report.usage.run_id)
    assert run.data.tags["ranker"] == "models:/tiny-ranker/1"
    assert run.inputs.dataset_inputs[0].dataset.digest == report.tables.fingerprint[:36]
    assert run.data.metrics["ranker.ndcg_at_10"] == pytest.approx(
        report.evaluation.test.methods["ranker"]["ndcg_at_10"].mean
    )
    assert data_folder(report.usage.run_id) == trained.data
    own, training = recorded_lists(report.usage.run_id).frame, recorded_lists(trained.report.usage.run_id).frame
    pd.testing.assert_frame_equal(own, training[own.columns])


def test_only_lists_later_than_every_label_are_evaluated(trained: TrainedSite) -> None:
    learnt = load(MODEL, evaluated=True).ranking_model.settings.trained_until
    report = evaluate(trained.data, MODEL, CONFIG)
    assert report.evaluation.impressions.requests.time.min() > learnt


def test_data_without_later_lists_is_refused_and_says_so(trained: TrainedSite, tmp_path: Path) -> None:
    learnt = load(MODEL, evaluated=True).ranking_model.settings.trained_until
    older = tables_until(trained.data, tmp_path / "older", learnt)
    with pytest.raises(InputError, match=rf"later than every label.*{format_time(learnt)}.*0 lists later.*give newer"):
        evaluate(older, MODEL, CONFIG)


def test_all_lists_come_with_a_warning_and_seen_ones_are_never_compared(trained: TrainedSite, tmp_path: Path) -> None:
    report = evaluate(trained.data, MODEL, CONFIG, all_lists=True)
    assert report.lines()[0] == SEEN
    assert report.as_dict()["labels_seen"] is True
    assert report.evaluation.test.n_lists > 5 * trained.report.evaluation.test.n_lists
    recorded = recorded_lists(report.usage.run_id)
    assert len(recorded.frame) == trained.report.evaluation.test.n_lists
    assert recorded.n_seen == report.evaluation.test.n_lists - len(recorded.frame)
    found = compare(report.usage.run_id, trained.report.usage.run_id, CONFIG)
    assert found.slices[0].n_lists == trained.report.evaluation.test.n_lists
    assert any("labels it had learnt from" in line for line in found.lines())


def test_a_version_stands_for_the_run_that_trained_it(trained: TrainedSite, other: TrainReport) -> None:
    by_version = compare(MODEL, "models:/other-ranker/1", CONFIG)
    by_run = compare(trained.report.usage.run_id, other.usage.run_id, CONFIG)
    assert by_version.as_dict()["slices"] == by_run.as_dict()["slices"]
    assert by_version.slices[0].n_lists == trained.report.evaluation.test.n_lists
    assert by_version.difference.mean != 0


def test_both_scored_on_data_give_what_their_runs_recorded(trained: TrainedSite, other: TrainReport) -> None:
    scored = compare(trained.report.usage.run_id, "models:/other-ranker/1", CONFIG, folder=trained.data)
    recorded = compare(trained.report.usage.run_id, other.usage.run_id, CONFIG)
    assert scored.as_dict()["slices"] == recorded.as_dict()["slices"]


def test_data_is_only_used_after_what_either_learnt_from(trained: TrainedSite, tmp_path: Path) -> None:
    # a version trained on all but the newest lists has seen most of what the first was tested on
    times = pd.read_parquet(trained.data / "impressions.parquet")["timestamp"]
    older = tables_until(
        trained.data, tmp_path / "older", int(np.quantile(times.astype("datetime64[us, UTC]").astype(int), 0.7))
    )
    early = train(older, weaker(trained.config), name="early")
    found = compare(MODEL, early.models.ranker.uri, CONFIG, folder=trained.data)
    assert found.slices[0].n_lists == trained.report.evaluation.test.n_lists
    with pytest.raises(ComparisonError, match="no list is in all of them"):
        compare(MODEL, early.usage.run_id, CONFIG)
    with pytest.raises(InputError, match="later than every label"):
        compare(MODEL, early.models.ranker.uri, CONFIG, folder=older)


def test_several_runs_make_a_side(trained: TrainedSite, other: TrainReport) -> None:
    found = compare(f"{trained.report.usage.run_id},{other.usage.run_id}", f"{MODEL}, {other.usage.run_id}", CONFIG)
    assert found.difference.mean == pytest.approx(0.0)
    assert len(found.as_dict()["a"]["seeds"]["means"]) == 2


def test_names_that_are_not_there_are_refused(trained: TrainedSite) -> None:
    with pytest.raises(RunNotFound, match=r"run 'nonsense' is not at .*; expected a run's id or models:/NAME/VERSION"):
        compare("nonsense", MODEL, CONFIG)
    with pytest.raises(ModelNotFound, match="not registered"):
        compare(MODEL, "models:/nobody/1", CONFIG)
    with pytest.raises(ComparisonError, match="expected a run's id"):
        compare(",", MODEL, CONFIG)
    encoder = mlflow.search_runs(experiment_names=["recsys"], filter_string="tags.`recsys.stage` = 'encoder'")
    with pytest.raises(RunNotFound, match="found none in it or its child runs"):
        compare(encoder["run_id"].iloc[0], MODEL, CONFIG)
    with pytest.raises(RunNotFound, match="registered no ranker"):
        empty = mlflow.MlflowClient().create_run(encoder["experiment_id"].iloc[0])
        compare(empty.info.run_id, MODEL, CONFIG, folder=trained.data)


def test_an_evaluation_of_another_format_is_refused(trained: TrainedSite) -> None:
    client = mlflow.MlflowClient()
    recorded = client.get_run(recorded_lists(trained.report.usage.run_id).run_id)
    assert recorded.data.tags[FORMAT_TAG] == FORMAT
    later = client.create_run(recorded.info.experiment_id).info.run_id
    client.log_text(later, "of a later format", LISTS)
    client.set_tag(later, FORMAT_TAG, "2")
    with pytest.raises(RunNotFound, match=r"expected an evaluation of format 1, found 2; .* `recsys evaluate`"):
        recorded_lists(later)


def test_both_commands_print_and_write_their_reports(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--set", "evaluation.resamples=100", "--json", str(tmp_path / "report.json")]
    assert (
        cli.run(lambda: cli.cli(["evaluate", str(trained.data), "--model", MODEL, *common], standalone_mode=False)) == 0
    )
    assert "ndcg_at_10 by slice" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "report.json").read_text())["test"]) >= {"ranker", "random"}
    assert cli.run(lambda: cli.cli(["compare", MODEL, MODEL, *common], standalone_mode=False)) == 0
    assert "not told apart" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["difference"]["mean"] == 0
