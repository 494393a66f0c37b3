"""Drift between what a version was evaluated on and what comes: noise raises no alarm, what is planted is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import ks_2samp
from trained_site import MODEL, NAME, TrainedSite

from features.tables.logged_columns import FEATURE, LOGGED
from pipelines import cli
from pipelines.load import load_items
from pipelines.monitor import monitor
from pipelines.unseen_data import load_unseen, trained_until
from recsys.config import Config, load_config
from recsys.metrics.bootstrap import Interval
from recsys.monitoring.drift import column_drifts, measure_drift
from recsys.monitoring.histogram import deal_groups, label_histogram, number_histogram
from recsys.monitoring.online_figures import OnlineFigures, Promise
from recsys.monitoring.reference import Reference, ScoredRows, feature_histograms, make_reference, row_users
from recsys.monitoring.texts import SCRIPT, UNKNOWN_WORDS, main_script, text_histograms, text_histograms_like
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry.references import recorded_reference
from recsys.registry.versions import load
from recsys.settings.monitor import MonitorConfig

NAN = float("nan")
COLUMN = "item_clicks_all"
QUIET = ("monitor.min_lists=50", "monitor.min_users=20", "evaluation.resamples=200", "threads=1")


def config(*settings: str) -> Config:
    return load_config(None, (*QUIET, *settings))


@pytest.fixture(scope="module")
def rows(trained_once: TrainedSite) -> ScoredRows:
    """The test lists as the trained version ranks them, with its site as the working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(trained_once.home)
        from recsys.registry import tracking

        tracking.connect()
        loaded = load(MODEL, evaluated=True)
        (opened,) = load_unseen([loaded], trained_once.data, after=trained_until([loaded]), files=config().data.files)
        requests = opened.impressions.requests.take(opened.positions)
        matrix = OfflineScorer(loaded.ranking_model, opened.index, opened.texts, 1).matrix(requests)
        titles = opened.index.log.catalog.title[np.unique(requests.item)].tolist()
        return ScoredRows(
            loaded.ranking_model.settings.columns,
            matrix,
            loaded.ranking_model.ranker.scores(matrix, threads=1),
            row_users(requests.user, requests.lengths()),
            titles,
            len(requests),
            len(np.unique(requests.user)),
        )


def test_ks_is_that_of_scipy_where_every_value_has_a_bin() -> None:
    random = np.random.default_rng(0)
    before, after = random.integers(0, 9, 400).astype(float), random.integers(2, 11, 300).astype(float)
    histogram = number_histogram(before, deal_groups(np.arange(400)))
    _, ks = measure_drift(
        histogram, histogram.count_numbers(after, np.zeros(300, int)), n_users=1000, resamples=10, seed=0
    )
    assert ks is not None and ks.mean == pytest.approx(ks_2samp(before, after).statistic)
    assert np.isnan(ks.low)  # one group of users says nothing about how users differ


def test_psi_of_a_known_shift_is_the_sum_over_bins() -> None:
    before = label_histogram(["a"] * 50 + ["b"] * 50, np.zeros(100, int))
    after = before.count_labels(["a"] * 75 + ["b"] * 25, np.zeros(100, int))
    psi, ks = measure_drift(before, after, n_users=1000, resamples=10, seed=0)
    assert psi.mean == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5), abs=0.001)
    assert ks is None


def test_values_beyond_either_end_and_missing_ones_have_bins_of_their_own() -> None:
    histogram = number_histogram(np.array([1.0, 2.0, 3.0]), np.zeros(3, int))
    counts = histogram.count_numbers(np.array([0.0, 4.0, np.nan, np.nan]), np.zeros(4, int)).counts[0]
    assert (counts[0], counts[-2], counts[-1], sum(counts)) == (1, 1, 2, 4)


def test_the_interval_of_no_drift_holds_zero_and_shrinks_with_users() -> None:
    def width(n: int) -> float:
        random = np.random.default_rng(n)
        before = number_histogram(random.normal(size=n), deal_groups(np.arange(n)))
        psi, _ = measure_drift(
            before,
            before.count_numbers(random.normal(size=n), deal_groups(np.arange(n))),
            n_users=n,
            resamples=300,
            seed=0,
        )
        assert psi.low < 0.01
        return psi.high

    assert width(20_000) < 0.02 < width(500)


def test_two_halves_of_the_same_users_raise_no_alarm(rows: ScoredRows) -> None:
    users = np.unique(rows.user)
    settings = MonitorConfig()
    for split in range(10):
        half = np.isin(rows.user, np.random.default_rng(split).permutation(users)[::2])
        drifts = drift_between(rows, half, ~half)
        assert [drift.name for drift in drifts if drift.alarm(settings)] == []


def test_a_scaled_column_is_found_by_name_and_no_other(rows: ScoredRows) -> None:
    planted = rows.matrix.copy()
    place = rows.columns.index(COLUMN)
    planted[:, place] *= 10
    half = np.isin(rows.user, np.random.default_rng(0).permutation(np.unique(rows.user))[::2])
    drifts = drift_between(rows, half, ~half, planted)
    assert [drift.name for drift in drifts if drift.alarm(MonitorConfig())] == [COLUMN]


def drift_between(rows: ScoredRows, before: np.ndarray, after: np.ndarray, matrix: np.ndarray | None = None) -> list:
    def part(chosen: np.ndarray, values: np.ndarray) -> ScoredRows:
        return ScoredRows(rows.columns, values[chosen], rows.score[chosen], rows.user[chosen], (), 1, 1)

    nothing = Interval(NAN, NAN, NAN)
    reference = make_reference(part(before, rows.matrix), (), (), start="", end="", clicked=nothing, ndcg_at_10=nothing)
    now = feature_histograms(reference.features, part(after, rows.matrix if matrix is None else matrix))
    return column_drifts("feature", reference.features, now, n_users=60, unjudged={}, resamples=200, seed=0)


def test_a_language_that_changes_is_found_by_script_or_by_its_words() -> None:
    english = [f"the minister of sport number {i} opens a new hall" for i in range(300)]
    terms = sorted({word for text in english for word in text.split() if not word.isdigit()})
    before = text_histograms(english, terms)

    def found(texts: list[str]) -> list[str]:
        after = text_histograms_like(before, texts, terms)
        drifts = column_drifts("text", before, after, n_users=60, unjudged={}, resamples=200, seed=0)
        return sorted(drift.name for drift in drifts if drift.alarm(MonitorConfig()))

    assert found(english[::2]) == []
    assert {SCRIPT, UNKNOWN_WORDS} <= set(found([f"министр спорта номер {i} открывает новый зал" for i in range(300)]))
    assert UNKNOWN_WORDS in found([f"der Sportminister Nummer {i} weiht eine Halle ein" for i in range(300)])


@pytest.mark.parametrize(
    ("text", "script"),
    [("Red 红", "latin"), ("红色的鞋", "cjk"), ("Ελλάδα", "greek"), ("12", "no letters"), ("ا", "arabic")],
)
def test_the_script_of_a_text_is_that_of_most_letters(text: str, script: str) -> None:
    assert main_script(text) == script


def test_a_training_keeps_its_reference_and_the_same_lists_raise_no_alarm(trained: TrainedSite, tmp_path: Path) -> None:
    loaded = load(MODEL, evaluated=True)
    kept = recorded_reference(loaded.ranker)
    assert kept is not None
    assert Reference.model_validate_json(kept.model_dump_json()) == kept
    assert set(kept.features) == set(loaded.ranking_model.settings.columns)
    test = trained.report.evaluation.test
    assert kept.n_lists == test.n_lists and kept.ndcg_at_10 == test.methods["ranker"]["ndcg_at_10"]
    page = tmp_path / "drift.html"
    report = monitor(str(trained.data), config(), model=MODEL, page=page)
    assert report.alarms == []
    assert max(drift.psi.mean for drift in report.drifts) == 0
    assert "No alarm." in page.read_text(encoding="utf-8")


def test_a_version_without_a_reference_is_compared_with_its_recorded_evaluation(
    trained: TrainedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = monitor(str(trained.data), config(), model=MODEL)
    monkeypatch.setattr("pipelines.monitor.recorded_reference", lambda version: None)
    computed = monitor(str(trained.data), config(), model=MODEL)
    assert "as recorded with it" in kept.before.source and "computed again" in computed.before.source
    assert computed.before.lists == kept.before.lists
    assert [drift.psi for drift in computed.drifts] == [drift.psi for drift in kept.drifts]


def test_items_in_another_language_are_named_and_end_in_exit_code_1(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "drift.json"
    shutil.copytree(trained.data, data)
    items = pd.read_parquet(data / "items.parquet")
    words = dict.fromkeys({"title", "description", "category"} & set(items), "новый зал")
    items.assign(**words).to_parquet(data / "items.parquet")
    code = cli.run(
        lambda: cli.cli(
            ["monitor", str(data), "--model", MODEL, "--json", str(out), *(f"--set={line}" for line in QUIET)],
            standalone_mode=False,
        )
    )
    assert code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "text script" in last and "text unknown words" in last
    report = json.loads(out.read_text(encoding="utf-8"))
    moved = {entry["column"] for entry in report["drift"] if entry["alarm"]}
    assert {"script", "unknown words"} <= moved
    assert any(("latin" in alarm and "cyrillic" not in alarm) or "other" in alarm for alarm in report["alarms"])


@pytest.fixture(scope="module")
def write_log(trained_once: TrainedSite, rows: ScoredRows) -> Callable[..., Path]:
    """Writes the test lists as if the version had ranked them; columns can be scaled on the way."""
    impressions = pd.read_parquet(trained_once.data / "impressions.parquet")

    def write(folder: Path, scaled: dict[str, float]) -> Path:
        lists = [
            name
            for name, part in impressions.groupby("impression_id", sort=False)
            if 0 < part["clicked"].sum() < len(part)
        ]
        chosen = impressions[impressions["impression_id"].isin(lists)].sort_values("timestamp", kind="stable")
        chosen = chosen.tail(len(rows.score))
        frame = pd.DataFrame({name: rows.matrix[:, i] * scaled.get(name, 1.0) for i, name in enumerate(rows.columns)})
        frame.columns = [FEATURE + name for name in frame.columns]
        heads = chosen[["impression_id", "user_id", "timestamp", "item_id"]].reset_index(drop=True)
        heads = heads.assign(
            query=None,
            score=rows.score,
            shown=True,
            described=False,
            history_given=False,
            rung="full",
            ranker=f"{NAME}-ranker/1",
            encoder=f"{NAME}-encoder/1",
            propensity=1.0,
            position=heads.groupby("impression_id").cumcount() + 1,
        )
        table = pa.Table.from_pandas(heads[LOGGED.names], LOGGED, preserve_index=False)
        for name in frame.columns:
            table = table.append_column(name, pa.array(frame[name].to_numpy(np.float32)))
        folder.mkdir()
        pq.write_table(table, folder / "rankings-test.parquet")
        return folder

    return write


@pytest.fixture(scope="module")
def store(trained_once: TrainedSite, tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(trained_once.home)
        place = str(tmp_path_factory.mktemp("monitored") / "store")
        load_items(trained_once.data / "items.parquet", place, MODEL)
        return place


def test_a_store_is_compared_by_its_items_and_by_what_was_logged(
    trained: TrainedSite, store: str, write_log: Callable[..., Path], tmp_path: Path
) -> None:
    alone = monitor(store, config(), model=MODEL)
    assert alone.alarms == [] and {drift.kind for drift in alone.drifts} == {"catalogue"}
    same = monitor(store, config(), model=MODEL, rankings=write_log(tmp_path / "same", {}))
    assert same.alarms == [] and {drift.kind for drift in same.drifts} == {"feature", "score", "text"}
    scaled = monitor(store, config(), model=MODEL, rankings=write_log(tmp_path / "scaled", {COLUMN: 10.0}))
    assert [drift.name for drift in scaled.drifts if drift.alarm(scaled.settings)] == [COLUMN]
    assert COLUMN in scaled.headline()
    few = monitor(store, config("monitor.min_lists=100000"), model=MODEL, rankings=tmp_path / "scaled")
    assert few.alarms == [] and "too little to judge" in few.notes[0]


def test_what_was_served_is_compared_by_version_and_day_with_what_was_promised(
    trained: TrainedSite, write_log: Callable[..., Path], tmp_path: Path
) -> None:
    log, page = write_log(tmp_path / "log", {}), tmp_path / "page.html"
    report = monitor(str(trained.data), config(), model=MODEL, rankings=log, page=page)
    whole = report.online[0]
    test = trained.report.evaluation.test
    assert whole.version == f"{NAME}-ranker/1" and whole.lists == test.n_lists
    assert whole.promise is not None and whole.promise.ndcg_at_10 == test.methods["ranker"]["ndcg_at_10"]
    assert whole.ndcg_at_10.mean == pytest.approx(whole.promise.ndcg_at_10.mean, abs=0.02)
    assert sum(figures.lists for figures in report.online[1:]) == whole.lists
    assert len({figures.day for figures in report.online[1:]}) == len(report.online) - 1
    assert "What was served" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("clicked", "ndcg", "judged", "lists", "alarmed"),
    [
        ((0.40, 0.38, 0.42), (0.50, 0.48, 0.52), True, 500, False),
        ((0.20, 0.18, 0.22), (0.50, 0.48, 0.52), True, 500, True),
        ((0.40, 0.38, 0.42), (0.30, 0.28, 0.32), True, 500, True),
        ((0.20, 0.05, 0.45), (0.30, 0.10, 0.60), True, 500, False),  # wide intervals
        ((0.20, 0.18, 0.22), (0.30, 0.28, 0.32), False, 500, False),  # a day that is over
        ((0.20, 0.18, 0.22), (0.30, 0.28, 0.32), True, 10, False),
    ],
)
def test_only_a_certain_fall_below_the_promise_raises_an_alarm(
    clicked: tuple[float, float, float], ndcg: tuple[float, float, float], judged: bool, lists: int, alarmed: bool
) -> None:
    promise = Promise(Interval(0.40, 0.39, 0.41), Interval(0.50, 0.49, 0.51))
    figures = OnlineFigures(
        "a-ranker/1", "2026-01-01", lists, 100, Interval(*clicked), Interval(*ndcg), promise, judged
    )
    assert bool(figures.alarm(MonitorConfig())) is alarmed


def test_nothing_later_is_an_error_that_says_so(trained: TrainedSite, tmp_path: Path) -> None:
    from trained_site import tables_until

    until = trained_until([load(MODEL, evaluated=True)])
    with pytest.raises(ValueError, match="give newer data"):
        monitor(str(tables_until(trained.data, tmp_path / "early", until)), config(), model=MODEL)
