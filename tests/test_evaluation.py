"""Evaluations of a few lists whose slices, lifts and figures can be worked out."""

import json
from math import log2

import numpy as np
import pytest

from features.log import Impressions, Requests
from recsys.config import EvaluationConfig as Settings
from recsys.evaluation.evaluate import LIFTS, METHODS, MethodComparison, evaluate, random_scores
from recsys.evaluation.report import Evaluation, Slice, format_interval
from recsys.metrics.beyond_accuracy import BeyondAccuracy
from recsys.metrics.bootstrap import Interval
from recsys.metrics.impression_attributes import ImpressionAttributes
from recsys.metrics.ranking import METRICS

SETTINGS = Settings(resamples=200)
USERS = np.array(["ann", "bob", "eve"], object)
HOUR = 3_600_000_000
M = {"mean", "low", "high"}


def shown(lists: list[tuple[int, list[int]]]) -> Impressions:
    """Lists of (user code, labels), one an hour, with items numbered through."""
    labels = [label for _, label in lists]
    offsets = np.concatenate([[0], np.cumsum([len(label) for label in labels])]).astype(np.int64)
    user = np.array([user for user, _ in lists], np.int32)
    n_rows = int(offsets[-1])
    requests = Requests(user, np.arange(len(lists)) * HOUR, offsets, np.arange(n_rows, dtype=np.int32))
    return Impressions(
        requests,
        np.array([f"list-{i}" for i in range(len(lists))], object),
        np.zeros(len(lists), bool),
        np.array([grade for label in labels for grade in label], np.int8),
        np.zeros(n_rows, np.int32),
    )


# list 0: ann, both clicked items cold, one warm candidate; list 1: bob clicks a warm item and a cold one;
# list 2: unknown user, all candidates cold; list 3: eve clicks nothing; list 4: ann's only cold candidate is clicked
FIVE = shown([(0, [1, 0, 0, 1]), (1, [1, 1, 0]), (-1, [0, 1]), (2, [0, 0]), (0, [1, 0])])
CLICKS_BEFORE = np.array([4, 9, 0, 0, 5, 0, 0, 1, 2, 0, 0, 0, 50])
USER_CLICKS = np.array([3, 2, 0, 0, 7])
GOOD = np.array([3, 4, 1, 2, 3, 2, 1, 0, 1, 0, 0, 1, 0], np.float32)
BAD = np.array([1, 4, 2, 3, 1, 2, 3, 1, 0, 0, 0, 0, 1], np.float32)


def five_lists(**methods: np.ndarray) -> Evaluation:
    return evaluate(
        methods,
        FIVE,
        USERS,
        item_clicks_before=CLICKS_BEFORE,
        user_clicks_before=USER_CLICKS,
        settings=SETTINGS,
        seed=0,
    )


def test_the_test_slice_holds_lists_with_a_clicked_and_an_unclicked_item() -> None:
    result = five_lists(ranker=GOOD, text=BAD)
    assert (result.test.n_lists, result.test.n_users) == (4, 3)
    # GOOD puts list 0 as unclicked, clicked, clicked, unclicked, and every other list right
    assert result.test.methods["ranker"]["auc"].mean == pytest.approx((2 / 4 + 1 + 1 + 1) / 4)
    assert result.test.methods["ranker"]["mrr"].mean == pytest.approx((1 / 2 + 1 + 1 + 1) / 4)
    assert result.test.methods["text"]["auc"].mean == pytest.approx((1 / 4 + 0 + 0 + 0) / 4)
    assert np.isnan(result.metrics["ranker"].auc[3])


def test_cold_items_rank_only_cold_candidates_of_lists_whose_every_click_is_cold() -> None:
    result = five_lists(ranker=GOOD, text=BAD)
    # list 0 without its warm candidate, and list 2; list 1 has a warm click, list 4 no unclicked cold candidate
    assert (result.cold_items.n_lists, result.cold_items.n_users) == (2, 2)
    assert list(np.flatnonzero(~np.isnan(result.cold_metrics["ranker"].auc))) == [0, 2]
    assert result.cold_items.methods["ranker"]["auc"].mean == 1.0
    assert result.cold_items.methods["text"]["auc"].mean == pytest.approx((1 / 2 + 0) / 2)
    first = (1 + 1 / log2(4)) / (1 + 1 / log2(3))
    assert result.cold_items.methods["text"]["ndcg_at_10"].mean == pytest.approx((first + 1 / log2(3)) / 2)


def test_cold_users_are_those_with_few_clicks_before_and_unknown_ones() -> None:
    result = five_lists(ranker=GOOD)
    assert list(result.cold_user) == [False, True, True, True, False]
    assert (result.cold_users.n_lists, result.cold_users.n_users) == (2, 2)
    assert result.cold_users.methods["ranker"]["auc"].mean == 1.0


def test_the_limits_of_cold_come_from_the_settings() -> None:
    settings = Settings(resamples=100, cold_item_clicks=10, cold_user_clicks=4)
    counts = {"item_clicks_before": CLICKS_BEFORE, "user_clicks_before": USER_CLICKS}
    result = evaluate({"text": BAD}, FIVE, USERS, **counts, settings=settings, seed=0)
    assert result.cold_items.n_lists == 3
    assert result.cold_users.n_lists == 3


def test_a_lift_is_the_mean_difference_list_by_list() -> None:
    result = five_lists(ranker=GOOD, text=BAD, behaviour=GOOD)
    assert set(result.lifts) == {"ranker_over_behaviour", "ranker_over_text"}
    assert result.lifts["ranker_over_behaviour"] == Interval(0.0, 0.0, 0.0)
    lift = result.lifts["ranker_over_text"]
    means = [result.test.methods[name]["ndcg_at_10"].mean for name in ("ranker", "text")]
    assert lift.mean == pytest.approx(means[0] - means[1])
    assert lift.low > 0


def test_a_caller_may_ask_for_other_lifts() -> None:
    methods = {"tfidf": GOOD, "popularity": BAD}
    counts = {"item_clicks_before": CLICKS_BEFORE, "user_clicks_before": USER_CLICKS}
    lifts = (*LIFTS, MethodComparison("tfidf", "popularity"))
    result = evaluate(methods, FIVE, USERS, **counts, settings=SETTINGS, seed=0, lifts=lifts)
    assert list(result.lifts) == ["tfidf_over_popularity"]


def test_the_report_has_every_name_of_the_contract() -> None:
    report = five_lists(**dict.fromkeys(METHODS, GOOD), our_own=BAD).as_dict()
    assert list(report["test"]) == [*METHODS, "our_own"]
    assert all(list(metrics) == ["auc", "mrr", "ndcg_at_5", "ndcg_at_10"] for metrics in report["test"].values())
    assert all(set(interval) == M for metrics in report["test"].values() for interval in metrics.values())
    assert set(report["lift"]) == {
        "ranker_over_behaviour",
        "ranker_over_behaviour_lexical",
        "ranker_over_text",
        "ranker_over_popularity",
        "ranker_over_tfidf",
        "text_over_text_frozen",
        "text_over_text_head",
        *(f"registered_over_{method}" for method in ("popularity", "tfidf", "behaviour", "text", "ranker")),
    }
    for part in ("cold_items", "cold_users"):
        assert report[part].pop("n") == 2
        assert list(report[part]) == list(report["test"])
    assert report["tested"] == {"lists": 4, "users": 3}
    json.dumps(report, allow_nan=False)


def test_empty_slices_are_null_in_the_report_and_dashes_in_the_table() -> None:
    impressions = shown([(0, [1, 0]), (1, [0, 1])])
    counts = {"item_clicks_before": np.full(4, 9), "user_clicks_before": np.full(2, 9)}
    scores = np.array([1, 0, 1, 0], np.float32)
    result = evaluate({"ranker": scores}, impressions, USERS, **counts, settings=SETTINGS, seed=0)
    report = result.as_dict()
    assert report["cold_items"]["n"] == report["cold_users"]["n"] == 0
    assert report["cold_items"]["ranker"]["auc"] == {"mean": None, "low": None, "high": None}
    assert report["lift"] == {}
    json.dumps(report, allow_nan=False)
    assert "cold items: 0 lists of 0 users" in result.table()


@pytest.mark.parametrize("lists", [[], [(0, [0, 0])], [(0, [])]])
def test_nothing_to_measure_is_a_report_too(lists: list[tuple[int, list[int]]]) -> None:
    impressions = shown(lists)
    n_rows, n = impressions.requests.n_rows, len(impressions)
    result = evaluate(
        {"ranker": np.zeros(n_rows, np.float32), "text": np.zeros(n_rows, np.float32)},
        impressions,
        USERS,
        item_clicks_before=np.zeros(n_rows),
        user_clicks_before=np.zeros(n),
        settings=SETTINGS,
        seed=0,
    )
    assert result.as_dict()["lift"]["ranker_over_text"]["mean"] is None
    assert "nothing to measure" in result.table()
    assert len(result.per_impression_frame()) == n


def test_one_user_alone_has_means_without_intervals() -> None:
    impressions = shown([(0, [1, 0]), (0, [0, 1])])
    counts = {"item_clicks_before": np.zeros(4), "user_clicks_before": np.zeros(2)}
    scores = np.array([1, 0, 1, 0], np.float32)
    result = evaluate({"ranker": scores, "text": scores}, impressions, USERS, **counts, settings=SETTINGS, seed=0)
    assert result.as_dict()["test"]["ranker"]["auc"] == {"mean": 0.5, "low": None, "high": None}
    assert "no interval" in result.table()


def test_the_table_shows_methods_lifts_and_cold_slices_in_100_columns() -> None:
    table = five_lists(**dict.fromkeys(METHODS, GOOD) | {"text": BAD}).table()
    lines = table.splitlines()
    assert lines[0].startswith("Test lists: 4 lists of 3 users")
    assert max(map(len, lines)) <= 100
    rows = [line.split()[0] for line in lines if line.startswith("  ")]
    assert rows[: len(METHODS) + 1] == ["method", *METHODS]
    assert sum(line.endswith("better") for line in lines) == 2
    assert sum(line.endswith("not told apart") for line in lines) == 8
    assert sum(line.endswith("worse") for line in lines) == 2
    assert "cold items: 2 lists of 2 users; cold users: 2 lists of 2 users" in table


def test_a_gain_whose_interval_reaches_below_zero_is_not_called_better() -> None:
    # text orders ann's first list better than the ranker, the unknown user's worse, and the rest alike
    text = GOOD.copy()
    text[[0, 3]] += 2
    text[8] = -1
    result = five_lists(ranker=GOOD, text=text)
    lift = result.lifts["ranker_over_text"]
    assert lift.low < 0 < lift.mean < lift.high
    shown_lift = next(line for line in result.table().splitlines() if "ranker over text" in line)
    assert shown_lift.endswith("not told apart")


def test_figures_are_written_without_a_leading_zero() -> None:
    assert format_interval(Interval(0.493, 0.47, 0.52)) == ".493 [.470, .520]"
    assert format_interval(Interval(-0.0101, -0.02, 0.0014), signed=True) == "-.010 [-.020, +.001]"
    assert format_interval(Interval(1.0, 0.9999, 1.0)) == "1.000 [1.000, 1.000]"


def test_the_frame_has_a_row_for_each_list_with_its_ids_and_metrics() -> None:
    frame = five_lists(ranker=GOOD, text=BAD).per_impression_frame()
    assert list(frame["impression_id"]) == [f"list-{i}" for i in range(5)]
    assert [None if user != user else user for user in frame["user_id"]] == ["ann", "bob", None, "eve", "ann"]
    assert str(frame["time"].iloc[1]) == "1970-01-01 01:00:00+00:00"
    assert list(frame["candidates"]) == [4, 3, 2, 2, 2]
    assert list(frame["clicked"]) == [2, 2, 1, 0, 1]
    expected = [f"{prefix}{name}_{metric}" for prefix in ("", "cold_items_") for name in ("text", "ranker")
                for metric in METRICS]  # fmt: skip
    assert list(frame["cold_item"]) == [True, False, True, True, True]
    assert list(frame.columns[7:]) == expected
    assert frame["ranker_mrr"].mean() == pytest.approx((1 / 2 + 1 + 1 + 1) / 4)
    assert list(frame["cold_items_text_auc"].dropna()) == [0.5, 0.0]


def test_facts_of_the_lists_stand_in_the_frame_and_beyond_accuracy_in_the_report() -> None:
    fact = np.arange(5)
    attributes = ImpressionAttributes(fact, fact + 1, np.array(list("abcde"), object), fact / 2)
    beyond = {name: BeyondAccuracy(0.5, *[Interval(2.0, 1.0, 3.0)] * 3) for name in ("ranker", "not measured")}
    counts = {"item_clicks_before": CLICKS_BEFORE, "user_clicks_before": USER_CLICKS}
    result = evaluate(
        {"ranker": GOOD}, FIVE, USERS, **counts, settings=SETTINGS, seed=0, attributes=attributes, beyond=beyond
    )
    frame = result.per_impression_frame()
    assert list(frame.columns[7:11]) == ["history_length", "hour", "category", "position"]
    assert list(frame["position"]) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert list(result.as_dict()["beyond"]) == ["ranker"]
    assert result.as_dict()["beyond"]["ranker"]["novelty"] == {"mean": 2.0, "low": 1.0, "high": 3.0}
    assert "2.00 bits" in result.table()


def test_the_frame_survives_a_parquet_file(tmp_path) -> None:
    import pandas as pd

    frame = five_lists(ranker=GOOD).per_impression_frame()
    frame.to_parquet(tmp_path / "lists.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "lists.parquet"), frame)


def test_a_method_without_scores_for_some_candidates_is_still_measured() -> None:
    result = five_lists(tfidf=np.full(13, np.nan, np.float32))
    assert result.test.methods["tfidf"]["auc"] == Interval(0.5, 0.5, 0.5)


def test_random_scores_follow_the_seed_and_rank_at_random() -> None:
    n = 4000
    impressions = shown([(-1, [0, 0, 1, 0])] * n)
    scores = random_scores(4 * n, seed=3)
    assert (scores == random_scores(4 * n, seed=3)).all()
    assert (scores != random_scores(4 * n, seed=4)).any()
    counts = {"item_clicks_before": np.zeros(4 * n), "user_clicks_before": np.zeros(n)}
    found = evaluate({"random": scores}, impressions, USERS, **counts, settings=SETTINGS, seed=0)
    assert found.test.n_users == n
    auc, mrr = (found.test.methods["random"][name] for name in ("auc", "mrr"))
    assert auc.mean == pytest.approx(0.5, abs=0.02)
    assert mrr.mean == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=0.02)


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no method called 'n'"):
        five_lists(n=GOOD)
    with pytest.raises(ValueError, match=r"scores of method 'text': expected shape \(13,\), got \(12,\)"):
        five_lists(text=GOOD[:12])
    counts = {"item_clicks_before": CLICKS_BEFORE, "user_clicks_before": CLICKS_BEFORE}
    with pytest.raises(ValueError, match=r"user_clicks_before: expected shape \(5,\), got \(13,\)"):
        evaluate({}, FIVE, USERS, **counts, settings=SETTINGS, seed=0)


def test_no_methods_give_an_empty_report() -> None:
    assert five_lists().test == Slice({}, 4, 3)
