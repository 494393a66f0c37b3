"""mlflow.models.evaluate with model_type "ranker": the project's metrics for any model, found by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import EvaluationResult
from mlflow.models.evaluation.evaluator_registry import _model_evaluation_registry
from trained_site import MODEL, TrainedSite

from features.errors import InputError
from features.offline.reader import LogIndex
from features.tables.load import load_log
from pipelines.data_options import read_options
from recsys.errors import ConfigError
from recsys.metrics.bootstrap import mean_intervals
from recsys.metrics.ranking import METRICS, list_metrics
from recsys.mlflow_evaluator.evaluator import RankerEvaluator
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import versions
from recsys.training.time_split import slice_impressions

ROOT = Path(__file__).resolve().parents[1]
GROUP = "mlflow.model_evaluator"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """URI of an MLflow store for these tests and an experiment in it."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri)
    return uri, client.create_experiment("evaluator", artifact_location=(folder / "artifacts").as_uri())


@pytest.fixture
def mlflow_run(store: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[mlflow.ActiveRun]:
    """The evaluator registered, and an open run."""
    monkeypatch.setitem(_model_evaluation_registry._registry, "recsys", RankerEvaluator)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store[0])
    with mlflow.start_run(experiment_id=store[1]) as run:
        yield run
    mlflow.set_tracking_uri(before)


def three_lists() -> pd.DataFrame:
    """List a: clicked item second by price; b: first; c: of a null user, without a click. Rows mixed."""
    return pd.DataFrame(
        {
            "impression_id": ["a", "b", "a", "c", "b", "a", "c"],
            "user_id": ["u1", "u2", "u1", None, "u2", "u1", None],
            "price": [3.0, 9.0, 2.0, 1.0, 1.0, 1.0, 2.0],
            "clicked": [0, 1, 1, 0, 0, 0, 0],
        }
    )


def by_price(rows: pd.DataFrame) -> pd.Series:
    """A foreign model."""
    return rows["price"]


def evaluate(data: pd.DataFrame, model: Any = by_price, *, predictions: str | None = None, **config: Any) -> Any:
    return mlflow.models.evaluate(
        model,
        data,
        targets="clicked",
        model_type="ranker",
        predictions=predictions,
        evaluators="recsys",
        evaluator_config=config,
    )


def random_lists(n: int = 60) -> pd.DataFrame:
    """Lists of 2 to 14 candidates of a dozen users, graded labels, ties in price, shuffled."""
    random = np.random.default_rng(3)
    sizes = random.integers(2, 15, n)
    rows = pd.DataFrame({"impression_id": np.repeat([f"list {i}" for i in range(n)], sizes)})
    rows["user_id"] = np.repeat(random.integers(0, 12, n), sizes).astype(str)
    rows["price"] = random.integers(0, 9, len(rows)).astype(float)
    rows["clicked"] = (random.random(len(rows)) < 0.2) * random.integers(1, 4, len(rows))
    return rows.sample(frac=1, random_state=1).reset_index(drop=True)


def test_metrics_of_a_foreign_model_can_be_worked_out_by_hand(mlflow_run: mlflow.ActiveRun) -> None:
    found = evaluate(three_lists()).metrics
    # a: the click is second of three, b: first of two, c has no click
    assert found["auc"] == pytest.approx((0.5 + 1) / 2, abs=1e-12)
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2, abs=1e-12)
    assert found["ndcg_at_10"] == pytest.approx((1 / np.log2(3) + 1) / 2, abs=1e-12)
    assert (found["lists"], found["users"], found["rows"]) == (2, 2, 7)


def test_metrics_and_intervals_equal_those_of_recsys_on_the_same_rows(mlflow_run: mlflow.ActiveRun) -> None:
    data = random_lists()
    found = evaluate(data, resamples=200, seed=4).metrics
    rows = data.sort_values("impression_id", kind="stable")
    offsets = np.append(0, np.cumsum(rows.groupby("impression_id").size()))
    values = list_metrics(rows["price"].to_numpy(), rows["clicked"].to_numpy(), offsets).columns()
    user = rows["user_id"].to_numpy()[offsets[:-1]]
    tested = ~np.isnan(values[:, 0])
    intervals = mean_intervals(values[tested], pd.factorize(user, sort=True)[0][tested], resamples=200, seed=4)
    for name, interval in zip(METRICS, intervals, strict=True):
        assert found[name] == pytest.approx(interval.mean, abs=1e-12)
        assert found[f"{name}.low"] == pytest.approx(interval.low, abs=1e-12)
        assert found[f"{name}.high"] == pytest.approx(interval.high, abs=1e-12)


def test_the_order_of_the_rows_changes_nothing(mlflow_run: mlflow.ActiveRun) -> None:
    data = random_lists()
    metrics = [name for name in evaluate(data).metrics if "random" not in name]
    other = evaluate(data.sort_values("price"), metric_prefix="again ").metrics
    first = mlflow.get_run(mlflow_run.info.run_id).data.metrics
    assert {name: other[f"again {name}"] for name in metrics if not name.endswith((".low", ".high"))} == pytest.approx(
        {name: first[name] for name in metrics if not name.endswith((".low", ".high"))}, abs=1e-12
    )


def test_without_a_user_each_list_is_a_cluster_of_its_own(mlflow_run: mlflow.ActiveRun) -> None:
    assert (
        evaluate(random_lists().drop(columns="user_id")).metrics["users"] == evaluate(random_lists()).metrics["lists"]
    )


def test_null_users_are_never_pooled(mlflow_run: mlflow.ActiveRun) -> None:
    data = random_lists()
    data["user_id"] = data["user_id"].where(data["user_id"] != "3", None)
    unknown = data[data["user_id"].isna()].groupby("impression_id")["clicked"]
    n_unknown = int((unknown.max().gt(0) & unknown.min().eq(0)).sum())
    n_known = evaluate(data[data["user_id"].notna()]).metrics["users"]
    assert n_unknown > 1 and evaluate(data).metrics["users"] == n_known + n_unknown


def test_evaluators_that_are_not_named_leave_a_ranker_to_this_one(mlflow_run: mlflow.ActiveRun) -> None:
    found = mlflow.models.evaluate(by_price, three_lists(), targets="clicked", model_type="ranker")
    assert set(METRICS) <= set(found.metrics)
    assert not RankerEvaluator.can_evaluate(model_type="classifier", evaluator_config={})


def test_a_registered_ranker_gets_the_figures_that_its_training_reported(
    trained: TrainedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_model_evaluation_registry._registry, "recsys", RankerEvaluator)
    data, settings = ranker_rows(trained), trained.config.evaluation
    experiment = mlflow.set_experiment("recsys")
    with mlflow.start_run(experiment_id=experiment.experiment_id):
        found = evaluate(data, MODEL, resamples=settings.resamples, seed=trained.config.seed).metrics
    reported = trained.report.evaluation.test
    assert found["lists"] == reported.n_lists and found["users"] == reported.n_users
    for name, interval in reported.methods["ranker"].items():
        assert found[name] == pytest.approx(interval.mean, abs=1e-12)
        assert (found[f"{name}.low"], found[f"{name}.high"]) == pytest.approx((interval.low, interval.high), abs=1e-12)


def ranker_rows(trained: TrainedSite) -> pd.DataFrame:
    """The test lists with the registered ranker's columns."""
    ranking_model = versions.load(MODEL).ranking_model
    log, _ = load_log(trained.data, read_options(trained.config))
    index, texts = LogIndex(log), ranking_model.texts(log.catalog)
    test = log.impressions.take(slice_impressions(log.impressions, trained.config.slices).test)
    matrix = OfflineScorer(ranking_model, index, texts, threads=2).matrix(test.requests)
    owner = test.requests.request_of_row()
    user = np.append(log.users, None)[test.requests.row_user()]  # the code of an unknown user is -1
    return pd.DataFrame(matrix.astype("float64"), columns=list(ranking_model.settings.columns)).assign(
        impression_id=test.ids[owner], user_id=user, clicked=test.label
    )


def test_scores_that_are_in_the_data_need_no_model(mlflow_run: mlflow.ActiveRun) -> None:
    found = evaluate(three_lists(), None, predictions="price").metrics
    assert found["mrr"] == pytest.approx(0.75, abs=1e-12)


OUTPUTS = {
    "a frame with a score": lambda rows: pd.DataFrame({"score": rows["price"], "rank": 1}),
    "a frame with one number": lambda rows: pd.DataFrame({"p": rows["price"], "why": "so"}),
    "an array": lambda rows: rows["price"].to_numpy(),
    "a column": lambda rows: rows[["price"]].to_numpy(),
    "a list": lambda rows: rows["price"].tolist(),
    "a list of dicts": lambda rows: [{"score": price} for price in rows["price"]],
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_any_form_of_output_is_read(kind: str, mlflow_run: mlflow.ActiveRun) -> None:
    assert evaluate(three_lists(), OUTPUTS[kind]).metrics["mrr"] == pytest.approx(0.75, abs=1e-12)


def test_one_of_several_outputs_is_named_by_predictions(mlflow_run: mlflow.ActiveRun) -> None:
    def two(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"score": -rows["price"], "other": rows["price"]})

    assert evaluate(three_lists(), two, predictions="other").metrics["mrr"] == pytest.approx(0.75, abs=1e-12)


def test_the_model_sees_the_features_that_are_named_and_never_the_target(mlflow_run: mlflow.ActiveRun) -> None:
    seen: list[list[str]] = []

    def watching(rows: pd.DataFrame) -> pd.Series:
        seen.append(list(rows.columns))
        return rows["price"]

    evaluate(three_lists(), watching)
    evaluate(three_lists(), watching, features=["price"])
    assert seen == [["impression_id", "user_id", "price"], ["price"]]


def test_rows_without_a_score_are_counted(mlflow_run: mlflow.ActiveRun) -> None:
    found = evaluate(three_lists(), lambda rows: rows["price"].where(rows["price"] > 1)).metrics
    assert found["rows_without_score"] == 3


def test_a_baseline_is_compared_with_list_by_list(mlflow_run: mlflow.ActiveRun) -> None:
    data = three_lists().assign(**{"cheap first": -three_lists()["price"]})
    found = evaluate(data, baselines=["cheap first"]).metrics
    # a: the same place from both ends, b: first against second
    assert found["cheap_first.mrr"] == pytest.approx((1 / 2 + 1 / 2) / 2, abs=1e-12)
    assert found["lift.model_over_cheap_first"] == pytest.approx((0 + 1 - 1 / np.log2(3)) / 2, abs=1e-12)
    assert found["lift.model_over_cheap_first.low"] <= found["lift.model_over_cheap_first"]


def sliced() -> pd.DataFrame:
    """Lists a and b again, with everything that lists can be sliced by."""
    data = three_lists()
    data["when"] = data["impression_id"].map({"a": "2026-03-01T05:00Z", "b": "2026-03-01T23:00Z", "c": "2026-03-02"})
    data["topic"] = ["x", "体育 & 音乐|x", "<y>", "x", "x", "x", "x"]
    data["position"] = [1, 1, 2, 1, 2, 3, 2]
    data["item_id"] = ["i1", "i1", "i2", "i1", "i3", "i4", "i2"]
    data["seen"] = [5, 9, 0, 0, 9, 9, 9]
    data["user_clicks"] = data["impression_id"].map({"a": 0, "b": 7, "c": 0})
    return data


CONFIG = {"time": "when", "category": "topic", "item_clicks": "seen", "timezone": "Europe/Berlin"}


def test_slices_hold_the_lists_that_they_name(mlflow_run: mlflow.ActiveRun) -> None:
    table = evaluate(sliced(), **CONFIG).artifacts["slices"].content
    found = {f"{row.by} {row.value}".strip(): (row.lists, row.auc) for row in table.fillna({"value": ""}).itertuples()}
    assert found["all lists"] == (2, 0.75)
    assert found["user cold"] == (1, 0.5) and found["user warm"] == (1, 1.0)
    assert found["hour 6 to 11"] == (1, 0.5) and found["hour 0 to 5"] == (1, 1.0)  # a and b, on Berlin's clock
    assert found["category <y>"] == (1, 0.5) and found["category 体育 & 音乐"] == (1, 1.0)
    assert found["clicked position 1"] == (1, 1.0) and found["clicked position 2 to 3"] == (1, 0.5)
    assert found["clicked item warm"] == (1, 1.0)  # in list a nothing else is cold: it is no cold list


def test_slices_are_metrics_but_for_those_named_by_the_data(mlflow_run: mlflow.ActiveRun) -> None:
    found = evaluate(sliced(), **CONFIG).metrics
    assert found["slice.user_cold.auc"] == 0.5
    assert not any("category" in name for name in found)
    assert found["coverage_at_10"] == 1.0
    assert found["popularity.auc"] == pytest.approx(0.25, abs=1e-12)  # a: 0 below 5 and 9; b: a tie


def test_everything_is_logged_to_the_run_and_can_be_saved(mlflow_run: mlflow.ActiveRun, tmp_path: Path) -> None:
    result = evaluate(sliced(), metric_prefix="test_", **CONFIG)
    logged = mlflow.get_run(mlflow_run.info.run_id).data.metrics
    assert logged == pytest.approx(result.metrics)
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(mlflow_run.info.run_id)}
    names = ("lists.parquet", "slices.csv", "report.html", "methods_plot.html", "lifts_plot.html", "slices_plot.html")
    assert files == {f"test_{name}" for name in names}
    lists = result.artifacts["lists"].content.set_index("impression_id")
    assert lists.loc["a", "model_auc"] == 0.5 and lists.loc["b", "category"] == "x|体育 & 音乐"
    result.save(str(tmp_path / "saved"))
    assert EvaluationResult.load(str(tmp_path / "saved")).metrics == pytest.approx(result.metrics)


def test_what_the_data_does_not_tell_is_not_in_the_lists(mlflow_run: mlflow.ActiveRun) -> None:
    columns = set(evaluate(three_lists().drop(columns="user_id")).artifacts["lists"].content.columns)
    assert columns == {"impression_id", "user_id", "candidates", "clicked"} | {
        f"{method}_{name}" for method in ("random", "model") for name in METRICS
    }


WRONG_DATA = {
    "no impression_id": ({"drop": "impression_id"}, {}, "'impression_id' is not in the data, which has 'user_id', 'p"),
    "no such user column": ({}, {"user_id": "uid"}, "'uid' is not in the data"),
    "no such baseline": ({}, {"baselines": ["old"]}, "'old' is not in the data"),
    "a null id": ({"impression_id": ["a", None, "a", "c", "b", "a", "c"]}, {}, "1 are null"),
    "two users of a list": ({"user_id": ["u1", "u2", "u3", "u4", "u2", "u1", "u4"]}, {}, "impression 'a' has more"),
    "a negative label": ({"clicked": [0, 1, -1, 0, 0, 0, 0]}, {}, "got -1.0"),
    "half a click": ({"clicked": [0, 1, 0.5, 0, 0, 0, 0]}, {}, "got 0.5"),
    "no click": ({"clicked": [0] * 7}, {}, "found none: 0 of 7 rows are clicked, in 3 lists by column 'impression_id'"),
    "nothing but clicks": ({"clicked": [2] * 7}, {}, "found none: 7 of 7 rows are clicked"),
    "a list of each row": (
        {"impression_id": list("abcdefg"), "user_id": None},
        {},
        "2 of 7 rows are clicked, in 7 lis",
    ),
    "labels in words": ({"clicked": ["no"] * 7}, {}, "expected numbers, 0 for no click"),
    "no time": ({"time": ["soon"] * 7}, {}, "'time': expected a time on every row"),
    "an item twice": ({"item_id": ["x", "y", "x", "x", "x", "y", "y"]}, {}, "'a' holds 'x' more than once"),
    "clicks in words": ({"item_clicks": ["many"] * 7}, {}, "'item_clicks': expected numbers"),
    "a baseline named model": ({"model": [1.0] * 7}, {"baselines": ["model"]}, "baseline 'model'"),
}


@pytest.mark.parametrize("case", WRONG_DATA)
def test_what_is_wrong_with_the_data_is_said_by_name(case: str, mlflow_run: mlflow.ActiveRun) -> None:
    changes, config, message = WRONG_DATA[case]
    data = (
        three_lists().drop(columns=changes.get("drop", [])).assign(**{k: v for k, v in changes.items() if k != "drop"})
    )
    with pytest.raises(InputError, match=message):
        evaluate(data, **config)


WRONG_OUTPUTS = {
    "too few": (lambda rows: rows["price"][:3], "one score for each of 7 candidate rows, got shape \\(3,\\)"),
    "two numbers": (lambda rows: pd.DataFrame({"p": rows["price"], "q": 1.0}), "expected a column 'score' or a single"),
    "words": (lambda rows: ["good"] * len(rows), "expected a number for each row"),
}


@pytest.mark.parametrize("case", WRONG_OUTPUTS)
def test_what_is_wrong_with_the_output_is_said(case: str, mlflow_run: mlflow.ActiveRun) -> None:
    model, message = WRONG_OUTPUTS[case]
    with pytest.raises(InputError, match=message):
        evaluate(three_lists(), model)


def test_an_unknown_setting_is_an_error_that_lists_the_known_ones(mlflow_run: mlflow.ActiveRun) -> None:
    with pytest.raises(ConfigError, match=r"'group': .*known keys: \['baselines'"):
        evaluate(three_lists(), group="impression_id")


def test_targets_are_needed(mlflow_run: mlflow.ActiveRun) -> None:
    with pytest.raises(InputError, match="targets: expected the name"):
        mlflow.models.evaluate(by_price, three_lists(), model_type="ranker", evaluators="recsys")


def entry_points() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(project["entry-points"][GROUP])


def test_the_entry_point_of_the_project_names_the_evaluator() -> None:
    assert {name: EntryPoint(name, value, GROUP).load() for name, value in entry_points().items()} == {
        "recsys": RankerEvaluator
    }


def test_an_installed_project_is_found_by_mlflow(tmp_path: Path) -> None:
    """A folder on the path that says what an installation says."""
    information = tmp_path / "recsys_shim-0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: recsys-shim\nVersion: 0\n")
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in entry_points().items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    code = "import mlflow.models; print(mlflow.models.list_evaluators())"
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'recsys'" in done.stdout
    assert "Failure attempting" not in done.stderr
