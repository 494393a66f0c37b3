"""The whole chain on a small simulated site: the report, MLflow's runs and versions, and what may not leak."""

from __future__ import annotations

import json
from dataclasses import replace

import mlflow
import numpy as np
import pytest
from interfaces import key_paths, recorded_paths
from small_ranking_model import always
from trained_site import MODEL, NAME, TrainedSite

from features.clock import format_time
from features.errors import InputError
from features.tables.load import load_log
from pipelines.audit import model_context
from pipelines.data_options import read_options
from pipelines.evaluate import evaluate as evaluate_version
from pipelines.train import train
from recsys.encoder.text import item_texts
from recsys.encoder.training.train import train_encoder
from recsys.errors import EncoderMismatch, ModelError, ModelNotFound, TrainingError
from recsys.evaluation import evaluate
from recsys.ranker.column_names import ENCODER_COLUMNS, LEXICAL_COLUMNS
from recsys.ranker.model import load_ranking_model
from recsys.registry import versions
from recsys.registry.golden_requests import check_ranker
from recsys.registry.run_tags import STAGE
from recsys.training.context import make_context
from recsys.training.stages import ranker_stage
from recsys.training.text_models import check_no_label_leak, encoder_schedule
from recsys.training.time_split import slice_impressions

METHODS = set(evaluate.METHODS) - {"registered"}


def test_the_report_has_every_part_of_the_contract(trained: TrainedSite) -> None:
    report = json.loads(json.dumps(trained.report.as_dict(), allow_nan=False))
    assert {"items", "events", "impressions", "rejected", "fingerprint"} <= set(report["data"])
    assert sum(report["slices"].values()) == report["data"]["impressions"]
    assert set(report["test"]) == METHODS
    assert set(report["test"]["ranker"]) == {"auc", "mrr", "ndcg_at_5", "ndcg_at_10"}
    assert set(report["test"]["ranker"]["auc"]) == {"mean", "low", "high"}
    assert {"ranker_over_behaviour", "ranker_over_behaviour_lexical", "ranker_over_text"} <= set(report["lift"])
    assert METHODS | {"n"} == set(report["cold_items"]) == set(report["cold_users"])
    assert {"read", "encoder", "ranker", "evaluation", "register"} <= set(report["seconds"])
    assert report["peak_rss_mb"] > 0
    assert report["models"] == {"encoder": "models:/tiny-encoder/1", "ranker": "models:/tiny-ranker/1"}


def test_the_ranker_reads_every_text_column_and_never_the_position(trained: TrainedSite) -> None:
    columns = versions.load(MODEL).ranking_model.settings.columns
    assert set(LEXICAL_COLUMNS) | set(ENCODER_COLUMNS) <= set(columns)
    assert not any("position" in column for column in columns)


def test_mlflow_holds_a_parent_run_with_a_child_for_each_stage(trained: TrainedSite) -> None:
    client = mlflow.MlflowClient()
    parent = client.get_run(trained.report.usage.run_id)
    children = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    by_name = {child.data.tags[STAGE]: child.info.run_id for child in children}
    assert set(by_name) == {"encoder", "ranker", "evaluation"}
    assert {child.info.run_name for child in children} == {f"{stage} {parent.info.run_id[:6]}" for stage in by_name}
    assert parent.data.params["ranker.max_trees"] == "20"
    assert parent.inputs.dataset_inputs[0].dataset.digest == trained.report.tables.fingerprint[:36]
    assert parent.data.metrics["test.ranker.ndcg_at_10"] == pytest.approx(
        trained.report.evaluation.test.methods["ranker"]["ndcg_at_10"].mean
    )
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"config.json", "report.json", "report.txt", "plots"} <= artifacts
    steps = client.get_metric_history(by_name["ranker"], "valid_ndcg_at_10")
    assert [metric.step for metric in steps] == list(range(1, len(steps) + 1))
    plots = {file.path for name in ("encoder", "ranker") for file in client.list_artifacts(by_name[name], "plots")}
    assert plots == {"plots/encoder_learning.html", "plots/ranker_learning.html", "plots/feature_importance.html"}
    assert "lists.parquet" in {file.path for file in client.list_artifacts(by_name["evaluation"])}


def test_only_the_first_version_becomes_champion(trained: TrainedSite) -> None:
    again = train(trained.data, trained.config, name=NAME)
    assert again.models.ranker.number != "1"
    assert versions.resolve(MODEL) == versions.Version("tiny-ranker", "1")
    assert versions.resolve("models:/tiny-ranker@challenger") == again.models.ranker


def test_no_version_holds_a_pickle(trained: TrainedSite) -> None:
    files = [path.name for path in (trained.home / "mlruns" / "artifacts").rglob("*") if path.is_file()]
    assert "ranker.txt" in files
    assert "model.safetensors" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib"))]


@pytest.mark.kernels
def test_the_ranker_loads_the_encoder_that_it_was_trained_with(trained: TrainedSite) -> None:
    loaded = versions.load("models:/tiny-ranker/1")
    assert loaded.encoder == versions.Version("tiny-encoder", "1")
    assert loaded.ranking_model.encoder.fingerprint == loaded.ranking_model.settings.encoder_fingerprint


def test_another_encoder_is_refused_by_name(trained: TrainedSite) -> None:
    loaded = versions.load("models:/tiny-ranker/1")
    folder = versions._artifact(loaded.ranker, "unit")
    other = replace(loaded.ranking_model).encoder
    other.__dict__["fingerprint"] = "0" * 32
    with pytest.raises(EncoderMismatch, match=r"trained on scores of encoder models:/tiny-encoder/1.*'0000"):
        load_ranking_model(folder, other)


def test_a_ranker_that_scores_otherwise_than_in_training_is_refused(trained: TrainedSite, tmp_path: object) -> None:
    loaded = versions.load("models:/tiny-ranker/1")
    folder = versions._artifact(loaded.ranker, "unit")
    fewer = loaded.ranking_model.ranker.booster.model_to_string(num_iteration=1)
    altered = replace(loaded.ranking_model.ranker, booster=type(loaded.ranking_model.ranker.booster)(model_str=fewer))
    with pytest.raises(ModelError, match="golden requests"):
        check_ranker(altered, folder)


@pytest.mark.parametrize("uri", ["models:/nobody-ranker@champion", "tiny", "models:/tiny"])
def test_a_wrong_model_name_says_what_is_there(trained: TrainedSite, uri: str) -> None:
    with pytest.raises(ModelNotFound, match=r"expected models:/NAME/VERSION|registered models: \['.*-encoder'"):
        versions.load(uri)


def test_an_encoder_that_saw_a_rankers_labels_is_caught(trained: TrainedSite) -> None:
    log, _ = load_log(trained.data, read_options(trained.config))
    sliced = slice_impressions(log.impressions, trained.config.slices)
    states = train_encoder(log, encoder_schedule(log.impressions, sliced, trained.config), trained.config).states
    oldest = int(log.impressions.requests.time[sliced.ranker[0]])
    assert len(states) == trained.config.encoder.progressive_chunks + 2, "the chunks, valid, and test"
    check_no_label_leak(states, oldest)
    for place in range(len(states)):
        start = max(states[place].start, oldest)
        late = replace(states[place], trained_until=start)
        with pytest.raises(TrainingError, match=f"labels up to {format_time(start)}, .*would leak"):
            check_no_label_leak((*states[:place], late, *states[place + 1 :]), oldest)


def test_the_report_has_the_keys_of_the_version(trained: TrainedSite) -> None:
    assert sorted(key_paths(json.loads(json.dumps(trained.report.as_dict())))) == recorded_paths("train_report")


def test_labels_from_a_part_on_change_no_state_that_scores_that_part_or_an_earlier_one(trained: TrainedSite) -> None:
    log, _ = load_log(trained.data, read_options(trained.config))
    sliced = slice_impressions(log.impressions, trained.config.slices)
    schedule = encoder_schedule(log.impressions, sliced, trained.config)
    label = log.impressions.label.copy()
    third = schedule.chunks[2]
    later = log.impressions.requests.rows_of(np.arange(third, len(log.impressions)))
    label[later] = 1 - np.minimum(label[later], 1)
    altered = replace(log, impressions=replace(log.impressions, label=label))
    texts = item_texts(log.catalog, trained.config.encoder.template)
    told = []
    for one in (log, altered):
        states = train_encoder(one, encoder_schedule(one.impressions, sliced, trained.config), trained.config).states
        told.append([state.model.encode_texts(texts) for state in states])
    same = [np.array_equal(one, other, equal_nan=True) for one, other in zip(*told, strict=True)]
    assert same == [True] * 3 + [False] * (len(same) - 3)


def test_test_labels_change_no_model(trained: TrainedSite) -> None:
    log, _ = load_log(trained.data, read_options(trained.config))
    sliced = slice_impressions(log.impressions, trained.config.slices)
    encoder, lexical = versions.load(MODEL).ranking_model.encoder, versions.load(MODEL).ranking_model.lexical
    label = log.impressions.label.copy()
    rows = log.impressions.requests.rows_of(sliced.test)
    label[rows] = np.roll(label[rows], 1)
    texts = []
    for one in (log, replace(log, impressions=replace(log.impressions, label=label))):
        chain = replace(make_context(trained.config, one), sliced=sliced)
        texts.append(ranker_stage(chain, always(encoder), lexical).rankers["ranker"].booster.model_to_string())
    assert texts[0] == texts[1]


def test_what_is_served_learns_test_and_the_version_keeps_what_was_evaluated(trained: TrainedSite) -> None:
    report = train(trained.data, trained.config.model_copy(update={"final_training": True}), name="final")
    assert report.evaluation.as_dict() == trained.report.evaluation.as_dict()
    uri = "models:/final-ranker@champion"
    served, evaluated, plain = versions.load(uri), versions.load(uri, evaluated=True), versions.load(MODEL)
    final, before = served.ranking_model, evaluated.ranking_model
    times = load_log(trained.data, read_options(trained.config))[0].impressions.requests.time
    assert final.encoder.fingerprint != before.encoder.fingerprint == plain.ranking_model.encoder.fingerprint
    texts = [loaded.ranking_model.ranker.booster.model_to_string() for loaded in (served, evaluated, plain)]
    assert texts[0] != texts[1] == texts[2]
    assert final.ranker.n_trees == before.ranker.n_trees
    assert before.settings.encoder_trained_until == before.settings.trained_until < times.max()
    assert final.settings.encoder_trained_until == final.settings.trained_until == times.max()
    assert (final.settings.final_training, before.settings.final_training) == (True, False)
    assert [loaded.before_final for loaded in (served, evaluated, plain)] == [False, True, False]
    version = mlflow.MlflowClient().get_model_version_by_alias("final-ranker", "champion")
    assert "figures are of the model before" in version.tags["final_training"]
    again = evaluate_version(trained.data, uri, trained.config)
    assert again.before_final
    assert "models:/final-ranker/1 as its training evaluated it" in "\n".join(again.lines())
    for method in ("ranker", "text"):
        found, expected = (one.evaluation.test.methods[method]["ndcg_at_10"].mean for one in (again, report))
        assert found == pytest.approx(expected, abs=1e-12)


def test_an_audit_of_a_version_looks_at_lists_that_its_encoder_has_not_learnt(trained: TrainedSite) -> None:
    ranking_model = versions.load(MODEL).ranking_model
    learnt = ranking_model.settings.encoder_trained_until
    assert learnt is not None
    chain = model_context(trained.data, ranking_model, trained.config).training
    times = chain.log.impressions.requests.time
    assert times[chain.sliced.encoder[-1]] == learnt < times[chain.sliced.ranker[0]]
    sizes = [len(part) for part in (chain.sliced.ranker, chain.sliced.valid, chain.sliced.test)]
    assert sum(sizes) == (times > learnt).sum()
    assert sizes[0] > sizes[2] > sizes[1]
    everything = replace(
        ranking_model, settings=ranking_model.settings.model_copy(update={"encoder_trained_until": int(times.max())})
    )
    with pytest.raises(InputError, match=r"learnt labels up to .*, so only later lists can be audited"):
        model_context(trained.data, everything, trained.config)
