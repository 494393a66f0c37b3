"""The ablation: whole rankers on the same rows, paired, with what each costs and the cheapest good one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from small_ranking_model import SmallSite, small_site
from tiny_encoder import PLAIN, SECOND, TOPICS, catalog_of, save_tiny_bert, tiny_config
from trained_site import TrainedSite

from features.log import Events, Impressions, Log, Requests
from features.matrix.columns import FeaturePlan
from features.offline.reader import LogIndex
from pipelines import cli
from pipelines.ablate import CHOICE, AblateReport, ablate
from pipelines.train import train
from recsys.ablation.report import VariantCost, choose, difference
from recsys.ablation.variants import (
    VARIANTS,
    BuiltEncoder,
    Variant,
    frozen,
    run_variants,
    served_matrix,
    train_with,
    variants_of,
)
from recsys.collaborative.column_names import COLLABORATIVE_COLUMNS
from recsys.config import Config, load_config
from recsys.encoder.snapshots import ScheduledEncoder
from recsys.errors import TrainingError
from recsys.metrics.bootstrap import Interval
from recsys.ranker.column_names import ENCODER_COLUMNS, LEXICAL_COLUMNS
from recsys.ranker.matrix import ItemRepresentations, candidate_matrix
from recsys.training.context import TrainingContext, make_context
from recsys.training.model_choice import BEHAVIOUR, BEHAVIOUR_LEXICAL, NO_COLLABORATIVE, RANKER
from recsys.training.ranker_data import RANKERS
from recsys.training.stages import ranker_stage

NAMES = ["none", "tfidf", "frozen", "head", "fine_tuned"]


@dataclass(frozen=True)
class Ablated:
    """home: the folder whose `mlruns` holds the run. plot: the figure that the command wrote."""

    site: TrainedSite
    report: AblateReport
    plot: Path


@pytest.fixture(scope="module")
def ablated(trained_once: TrainedSite) -> Ablated:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(trained_once.home)
        plot = trained_once.home / "plots" / "ledger.html"
        return Ablated(trained_once, ablate(trained_once.data, trained_once.config, plot=plot), plot)


def test_lines_are_the_rankers_of_a_training_with_the_same_configuration(ablated: Ablated) -> None:
    found = ablated.report.ablation.evaluation
    training = ablated.site.report.evaluation
    for line, method in (("none", "behaviour"), ("tfidf", "behaviour_lexical"), ("fine_tuned", "ranker")):
        np.testing.assert_array_equal(found.metrics[line].ndcg_at_10, training.metrics[method].ndcg_at_10)
        assert found.test.methods[line] == training.test.methods[method]
        assert found.cold_items.methods[line] == training.cold_items.methods[method]
    assert found.lifts["fine_tuned_over_none"] == training.lifts["ranker_over_behaviour"]


@pytest.mark.usefixtures("trained")
def test_the_head_line_is_the_ranker_of_a_training_that_keeps_the_layers_frozen(ablated: Ablated) -> None:
    site = ablated.site
    encoder = site.config.encoder.model_copy(update={"fine_tune_epochs": 0})
    alone = train(site.data, site.config.model_copy(update={"encoder": encoder}), name="head-alone")
    assert ablated.report.ablation.evaluation.test.methods["head"] == alone.evaluation.test.methods["ranker"]


def test_all_lines_rank_the_same_rows_and_differ(ablated: Ablated) -> None:
    evaluation = ablated.report.ablation.evaluation
    assert list(evaluation.test.methods) == ["random", "popularity", "tfidf", *[n for n in NAMES if n != "tfidf"]]
    columns = np.stack([evaluation.metrics[name].ndcg_at_10 for name in NAMES])
    assert not np.isnan(columns).any()
    assert len(np.unique(columns.mean(axis=1))) == len(NAMES)


def test_each_line_is_paired_with_every_line_before_it(ablated: Ablated) -> None:
    ledger = ablated.report.ablation
    pairs = {f"{name}_over_{before}" for i, name in enumerate(NAMES) for before in NAMES[:i]}
    assert pairs == set(ledger.evaluation.lifts) == set(ledger.cold_lifts)
    cold = ledger.evaluation.cold_metrics
    gain = cold["head"].ndcg_at_10 - cold["none"].ndcg_at_10
    assert ledger.cold_lifts["head_over_none"].mean == pytest.approx(np.nanmean(gain))
    assert np.count_nonzero(~np.isnan(gain)) == ledger.evaluation.cold_items.n_lists > 0


def test_only_what_a_line_reads_costs_seconds(ablated: Ablated) -> None:
    costs = {one.name: one.cost for one in ablated.report.ablation.variants}
    assert list(costs) == NAMES
    assert costs["none"].seconds == 0.0
    assert 0.0 < costs["tfidf"].seconds < min(costs[name].seconds for name in ("frozen", "head", "fine_tuned"))
    assert all(cost.milliseconds > 0 for cost in costs.values())


def test_the_report_is_json_with_the_keys_of_a_trainings(ablated: Ablated) -> None:
    report = json.loads(json.dumps(ablated.report.as_dict(), allow_nan=False))
    training = ablated.site.report.as_dict()
    assert report["data"] == training["data"]
    assert report["slices"] == training["slices"]
    assert report["tested"] == training["tested"]
    assert report["test"]["fine_tuned"] == training["test"]["ranker"]
    assert set(report["lift"]["head_over_none"]) == {"mean", "low", "high"}
    assert set(report["cold_items_lift"]) == set(report["lift"])
    assert list(report["lines"]) == NAMES
    assert all(set(line) == {"what", "seconds", "milliseconds", "trees", "note"} for line in report["lines"].values())
    assert report["choice"]["line"] in report["choice"]["within"]
    assert report["choice"]["best"] in report["choice"]["within"]


def test_the_table_fits_a_terminal_and_names_the_choice(ablated: Ablated) -> None:
    lines = "\n".join(ablated.report.lines()).splitlines()
    assert max(map(len, lines)) <= 120
    chosen = ablated.report.ablation.choice.line
    assert [line.split()[0] for line in lines if line.endswith("<- choice")] == [chosen]
    assert any(line.startswith(f"cheapest choice within the interval of the best: {chosen}, ") for line in lines)


@pytest.mark.usefixtures("trained")
def test_the_run_holds_table_plot_figures_and_data_and_registers_nothing(ablated: Ablated) -> None:
    client, report = mlflow.MlflowClient(), ablated.report
    run = client.get_run(report.usage.run_id)
    assert run.info.run_name == f"ablate {run.info.run_id[:6]}"
    assert run.inputs.dataset_inputs[0].dataset.digest == report.tables.fingerprint[:36]
    assert run.data.params["encoder.head_epochs"] == "2"
    assert run.data.tags[CHOICE] == report.ablation.choice.line
    lift = report.ablation.evaluation.lifts["head_over_none"]
    expected = {
        "head.ndcg_at_10": report.ablation.evaluation.test.methods["head"]["ndcg_at_10"].mean,
        "head.cold_items.ndcg_at_10": report.ablation.evaluation.cold_items.methods["head"]["ndcg_at_10"].mean,
        "head.seconds": report.ablation.variants[3].cost.seconds,
        "head.milliseconds": report.ablation.variants[3].cost.milliseconds,
        "lift.head_over_none": lift.mean,
        "lift.head_over_none.low": lift.low,
        "lift.head_over_none.high": lift.high,
    }
    assert {name: run.data.metrics[name] for name in expected} == pytest.approx(expected)
    artifacts = {file.path for file in client.list_artifacts(report.usage.run_id)}
    assert {"config.json", "report.json", "report.txt", "lines.parquet"} <= artifacts
    assert [file.path for file in client.list_artifacts(report.usage.run_id, "plots")] == ["plots/ledger.html"]
    lists = pd.read_parquet(
        mlflow.artifacts.download_artifacts(run_id=report.usage.run_id, artifact_path="lines.parquet")
    )
    assert {f"{name}_ndcg_at_10" for name in NAMES} <= set(lists.columns)
    assert not client.search_model_versions(f"run_id = '{report.usage.run_id}'")
    assert "<h1>Ablation of the text: " in ablated.plot.read_text(encoding="utf-8")


@pytest.mark.usefixtures("trained")
def test_the_command_prints_and_writes_its_report(
    ablated: Ablated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def given(folder: Path, config: Config, *, name: str, plot: Path | None) -> AblateReport:
        asked.extend([folder, config.encoder.fine_tune_epochs, name, plot])
        return ablated.report

    monkeypatch.setattr("pipelines.ablate.ablate", given)
    data = tmp_path / "data"
    data.mkdir()
    words = ["ablate", str(data), "--name", "text", "--set", "encoder.fine_tune_epochs=0"]
    words += ["--plot", str(tmp_path / "p.html"), "--json", str(tmp_path / "report.json")]
    assert cli.run(lambda: cli.cli(words, standalone_mode=False)) == 0
    assert asked == [data, 0, "text", tmp_path / "p.html"]
    assert "cheapest choice" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["run_id"] == ablated.report.usage.run_id


def test_fine_tuning_has_no_line_where_no_layer_is_trained() -> None:
    assert [line.name for line in variants_of(load_config())] == NAMES
    assert [line.name for line in variants_of(load_config(None, ("encoder.fine_tune_epochs=0",)))] == NAMES[:-1]


# The choice


def costs(**milliseconds_and_seconds: tuple[float, float]) -> dict[str, VariantCost]:
    return {name: VariantCost(seconds, ms) for name, (ms, seconds) in milliseconds_and_seconds.items()}


MEANS = {"none": 0.50, "tfidf": 0.53, "head": 0.56, "fine_tuned": 0.57}
LIFTS = {
    "fine_tuned_over_none": Interval(0.07, 0.05, 0.09),
    "fine_tuned_over_tfidf": Interval(0.04, 0.01, 0.06),
    "fine_tuned_over_head": Interval(0.01, 0.0, 0.02),
}


def test_the_choice_is_the_cheapest_that_is_not_told_apart_from_the_best() -> None:
    # the low end of fine_tuned over head is 0: not above it; none and tfidf are cheaper but told apart
    found = choose(costs(none=(1, 0), tfidf=(2, 1), head=(5, 30), fine_tuned=(5, 300)), MEANS, LIFTS)
    assert (found.line, found.best, found.within) == ("head", "fine_tuned", ("head", "fine_tuned"))
    clear = LIFTS | {"fine_tuned_over_head": Interval(0.01, 0.001, 0.02)}
    found = choose(costs(none=(1, 0), tfidf=(2, 1), head=(5, 30), fine_tuned=(5, 300)), MEANS, clear)
    assert (found.line, found.within) == ("fine_tuned", ("fine_tuned",))


def test_milliseconds_count_before_seconds_unless_they_are_alike() -> None:
    quick = choose(costs(none=(1, 0), tfidf=(2, 1), head=(5, 30), fine_tuned=(4, 300)), MEANS, LIFTS)
    assert quick.line == "fine_tuned"
    alike = choose(costs(none=(1, 0), tfidf=(2, 1), head=(5, 30), fine_tuned=(4.6, 300)), MEANS, LIFTS)
    assert alike.line == "head"


def test_a_plainer_line_that_is_best_is_compared_the_other_way_round() -> None:
    means = {"none": 0.6, "head": 0.5}
    assert difference({"head_over_none": Interval(-0.1, -0.2, -0.05)}, "none", "head") == Interval(0.1, 0.05, 0.2)
    for low, within in ((-0.05, ("none",)), (0.05, ("none", "head"))):
        found = choose(costs(none=(1, 0), head=(0.5, 0)), means, {"head_over_none": Interval(-0.1, -0.2, low)})
        assert (found.best, found.within) == ("none", within)
        assert found.line == within[-1]


def test_one_user_tells_no_line_apart() -> None:
    nothing = {"head_over_none": Interval(0.1, np.nan, np.nan)}
    found = choose(costs(none=(1, 0), head=(5, 30)), {"none": 0.5, "head": 0.6}, nothing)
    assert (found.line, found.best) == ("none", "head")


# What a line reads


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@pytest.mark.parametrize("method", RANKERS)
def test_a_timed_variant_computes_the_columns_of_its_training_to_the_bit(site: SmallSite, method: str) -> None:
    ranked, context = site.ranked, site.chain
    left_out = {
        BEHAVIOUR: {*LEXICAL_COLUMNS, *ENCODER_COLUMNS},
        BEHAVIOUR_LEXICAL: set(ENCODER_COLUMNS),
        NO_COLLABORATIVE: set(COLLABORATIVE_COLUMNS),
        RANKER: set(),
    }
    of_one_value = {name for name in ranked.columns if name.startswith(("user_item_interval", "user_item_elapsed"))}
    assert set(ranked.columns) - set(ranked.rankers[method].columns) == left_out[method] | of_one_value
    matrix = served_matrix(context, ranked, method)(ranked.test.requests)
    assert np.array_equal(matrix, ranked.matrix_for(method), equal_nan=True)


def test_columns_of_a_ranker_without_text_ask_no_text_model(site: SmallSite) -> None:
    ranked, context = site.ranked, site.chain
    read = ranked.rankers[BEHAVIOUR].columns
    reader = context.index.reader(ranked.test.requests)
    no_text = ItemRepresentations(vectors=None, terms=None)  # type: ignore[arg-type]
    names, matrix = candidate_matrix(FeaturePlan(ranked.features), None, reader, no_text, None, None, read=read)  # type: ignore[arg-type]
    assert matrix.shape[1] == len(names)
    assert set(read) - set(names) == set(COLLABORATIVE_COLUMNS) - set(ENCODER_COLUMNS)


def test_only_the_asked_rankers_are_trained_and_as_ever(site: SmallSite) -> None:
    alone = ranker_stage(site.chain, site.ranked.texts.states, site.ranking_model.lexical, methods=("ranker",))
    of_trees = [method for method, ranker in alone.rankers.items() if ranker.n_trees]
    assert of_trees == ["ranker", "ensemble"], "the ensemble's trees are the ranker's"
    np.testing.assert_array_equal(alone.scores("ranker", threads=1), site.ranked.scores("ranker", threads=1))


# Lines of one's own


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> TrainingContext:
    """A log whose every item is shown once: nothing is known of it but its words, and clicks follow these."""
    config = tiny_config(
        save_tiny_bert(tmp_path_factory.mktemp("base")),
        "ranker.max_trees=60",
        "ranker.min_data_in_leaf=10",
        "evaluation.resamples=200",
        "encoder.dtype=float32",
        "collaborative.tables=1",
        "encoder.progressive_chunks=2",
        "encoder.fine_tune_block_size=64",
    )
    log = unseen_items_log()
    return make_context(config, log)


def unseen_items_log(n_lists: int = 900, n_users: int = 60) -> Log:
    """Each user likes one topic; every list shows six items that no other list shows, the first liked one clicked."""
    generator = np.random.default_rng(11)
    taste = generator.integers(0, len(TOPICS), n_users)
    user = generator.integers(0, n_users, n_lists).astype(np.int32)
    time = np.arange(n_lists, dtype=np.int64) * SECOND
    titles, label = [], []
    for one in user:
        liked = int(generator.integers(0, 6))
        for place in range(6):
            others = [topic for topic in range(len(TOPICS)) if topic != taste[one]]
            topic = taste[one] if place == liked else generator.choice(others)
            titles.append(f"{generator.choice(PLAIN)} {generator.choice(TOPICS[topic])} {len(titles)}")
            label.append(int(place == liked))
    item, labels = np.arange(len(titles), dtype=np.int32), np.array(label, np.int8)
    requests = Requests(user, time, np.arange(0, len(titles) + 1, 6, dtype=np.int64), item)
    ids = np.array([str(k) for k in range(n_lists)], object)
    shown = Impressions(requests, ids, np.zeros(n_lists, bool), labels, np.tile(np.arange(6, dtype=np.int32), n_lists))
    clicks = np.ones(n_lists, bool)
    events = Events(user, item[labels > 0], time, np.zeros(n_lists, np.int8), ("click",), clicks, clicks)
    return Log(catalog_of(titles), np.array([f"u{k:03d}" for k in range(n_users)], object), events, shown)


@pytest.mark.slow
def test_where_clicks_follow_words_every_text_line_is_above_none(news: TrainingContext) -> None:
    ledger = run_variants(news, VARIANTS)
    for name in NAMES[1:]:
        assert ledger.evaluation.lifts[f"{name}_over_none"].low > 0.1
        assert ledger.cold_lifts[f"{name}_over_none"].low > 0.1
    random = ledger.evaluation.test.methods["random"]["ndcg_at_10"]
    none = ledger.evaluation.test.methods["none"]["ndcg_at_10"]
    assert none.low < random.high
    assert "none" not in ledger.choice.within


def test_another_encoder_is_another_line(news: TrainingContext) -> None:
    def constant(chain: TrainingContext) -> BuiltEncoder:
        return replace(frozen(chain), note="as it came")

    lines = (VARIANTS[0], VARIANTS[2], Variant("other", "another encoder", "ranker", constant))
    ledger = run_variants(news, lines)
    assert [one.name for one in ledger.variants] == ["none", "frozen", "other"]
    assert ledger.evaluation.lifts["other_over_frozen"].mean == 0.0
    assert "other: as it came" in ledger.lines()


def test_a_line_says_where_its_encoder_is_not_what_its_name_promises(news: TrainingContext) -> None:
    assert train_with({})(news).note == ""
    titles = [""] * len(news.log.catalog)
    log = replace(news.log, catalog=catalog_of(titles))
    assert train_with({})(replace(news, log=log, index=LogIndex(log))).note.startswith("not trained, ")


def test_a_line_whose_encoder_learnt_what_it_scores_is_refused(news: TrainingContext) -> None:
    late = int(news.log.impressions.requests.time[news.sliced.ranker[0]])

    def leaking(chain: TrainingContext) -> BuiltEncoder:
        return BuiltEncoder(tuple(ScheduledEncoder(state.start, late, state.model) for state in frozen(chain).states))

    with pytest.raises(TrainingError, match="would leak"):
        run_variants(news, (VARIANTS[0], Variant("leak", "too late", "ranker", leaking)))


def test_a_ledger_without_an_encoder_is_refused(news: TrainingContext) -> None:
    with pytest.raises(ValueError, match=r"expected a variant with an encoder, got \['none', 'tfidf'\]"):
        run_variants(news, VARIANTS[:2])
