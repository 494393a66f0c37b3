"""What a training registers: the model that was chosen, its alias, its encoder if it reads one, and the verdict."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
from trained_site import MODEL, TrainedSite

from features.clock import format_time
from features.offline.reader import LogIndex
from features.tables.load import load_log
from pipelines import cli
from pipelines.data_options import read_options
from pipelines.evaluate import evaluate
from pipelines.load import load_events, load_items
from pipelines.promote import promote
from pipelines.train import TrainReport, train
from recsys.config import Config, load_config
from recsys.errors import ModelError
from recsys.metrics.bootstrap import Interval
from recsys.metrics.ranking import list_metrics
from recsys.online.open_state import open_state
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import versions
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService

WITHOUT_TORCH = """
import sys
from recsys.registry import tracking, versions
tracking.connect()
loaded = versions.load(sys.argv[1])
print(loaded.encoder, len(loaded.ranking_model.settings.columns))
loaded_modules = {"torch", "transformers"} & set(sys.modules)
assert not loaded_modules, loaded_modules
"""


CUSTOM = """
from pathlib import Path
from features.definitions.custom import ITEM, Count, CountOf, Feature
Path("executed").touch()
FEATURES = (Feature("mine", "Clicks.", CountOf(Count("click", ITEM))),)
"""

_REPORTS: dict[str, TrainReport] = {}


def trained_as(trained: TrainedSite, method: str, name: str) -> TrainReport:
    """A training of the shared site that registers a method, once for all tests."""
    if name not in _REPORTS:
        config: Config = trained.config.model_copy(update={"registered": method})
        _REPORTS[name] = train(trained.data, config, name=name)
    return _REPORTS[name]


@pytest.fixture
def behaviour(trained: TrainedSite) -> TrainReport:
    return trained_as(trained, "behaviour", "behaviour")


@pytest.fixture
def popularity(trained: TrainedSite) -> TrainReport:
    return trained_as(trained, "popularity", "popularity")


def test_a_version_without_text_columns_has_no_encoder_and_loads_no_torch(behaviour: TrainReport) -> None:
    assert behaviour.models.encoder is None
    assert behaviour.as_dict()["models"] == {"encoder": None, "ranker": "models:/behaviour-ranker/1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "models:/behaviour-ranker/1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "None"


@pytest.mark.parametrize("method", ["popularity", "blend", "behaviour", "text", "no_collaborative", "frozen_text"])
def test_a_version_ranks_the_same_online_and_in_batch(trained: TrainedSite, tmp_path: Path, method: str) -> None:
    uri = trained_as(trained, method, method.replace("_", "-")).models.ranker.uri
    store = str(tmp_path / "store")
    for load, table in ((load_items, "items"), (load_events, "events"), (load_events, "impressions")):
        load(trained.data / f"{table}.parquet", store, uri)
    loaded = versions.load(uri)
    model = loaded.ranking_model
    log, _ = load_log(trained.data, read_options(trained.config))
    last = log.impressions.take(np.array([len(log.impressions) - 1])).requests
    moment = int(max(log.events.time.max(), last.time.max())) + 3_600_000_000
    requests = replace(last, time=np.array([moment]))
    expected = OfflineScorer(model, LogIndex(log), model.texts(log.catalog), threads=1).scores(requests)
    assert len(np.unique(expected)) > 1
    items = log.catalog.ids[requests.item].tolist()
    with open_state(store, model.settings, create=False) as state:
        service = RankService(model, state, ranker=str(loaded.ranker), encoder=loaded.encoder_name)
        service.served.online.refresh(moment)
        user = None if last.user[0] < 0 else str(log.users[last.user[0]])
        request = {"user_id": user, "candidates": items, "timestamp": format_time(moment), "explain": True}
        answer = service.rank(RankRequest.model_validate(request))
    assert answer["model"] == {"ranker": str(loaded.ranker), "encoder": loaded.encoder_name}
    found = {item["item_id"]: item["score"] for item in answer["items"]}
    assert [found[item] for item in items] == expected.tolist()


def test_a_version_with_custom_code_is_refused_before_any_of_it_runs_where_that_is_not_allowed(
    trained: TrainedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    downloaded = mlflow.artifacts.download_artifacts

    def with_custom_code(uri: str, dst_path: str | None = None) -> str:
        copy = Path(dst_path) if dst_path else tmp_path / uri.replace("/", "-").replace(":", "-")
        shutil.copytree(downloaded(uri), copy, dirs_exist_ok=True)
        settings = copy / "artifacts" / "unit" / "unit.json"
        if settings.exists():
            digest = sha256(CUSTOM.encode()).hexdigest()
            settings.write_text(json.dumps(json.loads(settings.read_text()) | {"custom_features": digest}))
            settings.with_name("features.py").write_text(CUSTOM)
        return str(copy)

    assert versions.load(MODEL, custom_code=False).ranking_model.settings.custom is None
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", with_custom_code)
    serve = ["serve", "--model", MODEL, "--no-custom-code", "--create", "--store", str(tmp_path / "store"), "--port=0"]
    assert cli.run(lambda: cli.cli(serve, standalone_mode=False)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "carries a file of custom features" in line and "--no-custom-code" in line
    assert not Path("executed").exists()
    loaded = versions.load(MODEL)
    assert loaded.ranking_model.settings.custom is not None
    assert Path("executed").exists()
    Path("executed").unlink()


def test_popularity_is_registered_as_what_it_is(trained: TrainedSite, popularity: TrainReport) -> None:
    model = versions.load(popularity.models.ranker.uri).ranking_model
    assert (model.ranker.n_trees, model.settings.columns) == (0, ("item_clicks_all_zscore",))
    assert [feature.name for feature in model.features] == ["item_clicks_all"]
    assert model.settings.collaborative is None
    metrics = popularity.evaluation.metrics
    np.testing.assert_allclose(metrics["registered"].ndcg_at_10, metrics["popularity"].ndcg_at_10, atol=1e-12)
    assert popularity.as_dict()["registered"]["method"] == "popularity"
    again = evaluate(trained.data, popularity.models.ranker.uri, trained.config)
    assert again.evaluation.test.methods["ranker"] == again.evaluation.test.methods["popularity"]
    assert "tfidf" in again.evaluation.test.methods


def test_the_verdict_stands_in_report_description_and_console(trained: TrainedSite) -> None:
    registered = trained.report.as_dict()["registered"]
    assert (registered["method"], registered["alias"]) == ("ranker", "champion")
    assert registered["reason"] == "the configuration names it"
    description = mlflow.MlflowClient().get_model_version("tiny-ranker", "1").description
    lines = trained.report.lines()
    for sentence in registered["verdict"]:
        assert sentence in description
        assert sentence in lines
    assert lines[-1] == "next: recsys serve --model models:/tiny-ranker@champion"
    assert any(trained.report.usage.run_id in line for line in lines)


def test_a_first_version_that_loses_to_a_baseline_is_no_champion(
    trained: TrainedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.registry.registration.better_baselines", lambda lifts: ("popularity",))
    report = trained_as(trained, "ranker", "worse")
    registered = report.as_dict()["registered"]
    assert registered["alias"] is None
    assert "it is significantly worse than popularity on test" in registered["reason"]
    assert mlflow.MlflowClient().get_registered_model("worse-ranker").aliases == {}
    assert report.lines()[-1] == "next: recsys promote models:/worse-ranker/1"


def test_promote_without_a_champion_compares_with_the_baselines(
    trained: TrainedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("recsys.registry.registration.better_baselines", lambda lifts: ("popularity",))
        report = trained_as(trained, "ranker", "first")
    few = load_config(None, ("promotion.min_lists=10", "promotion.min_users=5", "evaluation.resamples=200"))
    sound = SimpleNamespace(passed=True, lines=lambda: [])
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.promote.lifts_of", lambda *_: {"popularity": Interval(-0.2, -0.3, -0.1)})
        refused = promote("1", few, name="first", audit=lambda *_: sound)
    assert (refused.outcome, refused.evidence.champion) == ("refused", None)
    assert refused.reasons == ("it is worse than popularity: -.200 [-.300, -.100] ndcg_at_10",)
    assert "refused: there is still no champion, because" in refused.lines()
    promoted = promote("1", few, name="first", audit=lambda *_: sound)
    assert promoted.outcome == "promoted"
    assert set(promoted.as_dict()["baselines"]) == {"random", "popularity", "item_knn", "tfidf"}
    assert promoted.evidence.baselines["random"].low > 0
    client = mlflow.MlflowClient()
    assert str(client.get_model_version_by_alias("first-ranker", "champion").version) == report.models.ranker.number


def test_what_was_registered_is_not_compared_with_itself(behaviour: TrainReport) -> None:
    verdict = behaviour.models.verdict
    assert not {"behaviour", "registered"} & set(verdict.lifts)
    assert "behaviour alone" not in verdict.sentences[0]


@pytest.mark.parametrize("method", ["behaviour", "frozen_text", "text"])
def test_the_reported_figures_are_those_of_the_version(trained: TrainedSite, method: str) -> None:
    report = trained_as(trained, method, method.replace("_", "-"))
    model = versions.load(report.models.ranker.uri, evaluated=True).ranking_model
    log, _ = load_log(trained.data, read_options(trained.config))
    times = log.impressions.requests.time
    test = log.impressions.take(np.flatnonzero((times > model.settings.trained_until) & log.impressions.has_both()))
    scores = OfflineScorer(model, LogIndex(log), model.texts(log.catalog), threads=1).scores(test.requests)
    ndcg = list_metrics(scores, test.label, test.requests.offsets).ndcg_at_10
    np.testing.assert_array_equal(ndcg, report.evaluation.metrics["registered"].ndcg_at_10)


def test_a_version_that_reads_text_holds_the_behaviour_ranker_of_its_training(
    trained: TrainedSite, behaviour: TrainReport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = versions.load(MODEL).ranking_model
    assert model.fallback is not None
    assert model.settings.fallback_columns == model.fallback.columns
    assert set(model.fallback.columns) < set(model.settings.columns)
    alone = versions.load(behaviour.models.ranker.uri).ranking_model
    assert alone.fallback is None
    assert alone.settings.columns == model.fallback.columns
    rows = np.random.default_rng(0).normal(size=(50, len(alone.settings.columns))).astype(np.float32)
    np.testing.assert_array_equal(model.fallback.scores(rows), alone.ranker.scores(rows))
    downloaded = mlflow.artifacts.download_artifacts

    def damaged(uri: str, dst_path: str | None = None) -> str:
        copy = tmp_path / uri.replace("/", "-").replace(":", "-")
        shutil.copytree(downloaded(uri), copy, dirs_exist_ok=True)
        golden = copy / "artifacts" / "unit" / "fallback" / "golden.json"
        if golden.exists():
            content = json.loads(golden.read_text())
            golden.write_text(json.dumps(content | {"scores": [score + 1 for score in content["scores"]]}))
        return str(copy)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", damaged)
    with pytest.raises(ModelError, match="golden requests"):
        versions.load(MODEL)
