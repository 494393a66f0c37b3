"""Made-up lists: neither a count nor an earlier event of the user gives the clicked item away."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.arrays import NO_TIME, Strings
from features.atomic_files import atomic_file
from features.errors import InputError
from features.log import Catalog, Events, Impressions, Requests
from features.tables.click_timeline import ClickTimeline
from features.tables.data_settings import DataSettings
from features.tables.hidden_repeats import hide_repeats
from features.tables.list_baselines import list_auc
from features.tables.list_clicks import list_clicks
from features.tables.load import ReadOptions, load_log
from features.tables.negative_sampling import slates as sampled_lists
from features.tables.sampled_impressions import DEFAULT_SIZE, DEFAULT_WINDOW, write_slates
from features.tables.touched_items import TouchedItems
from recsys.metrics.ranking import list_metrics

MINUTE = 60_000_000


def make_events(user: list[int], item: list[int], time: list[int], positive: list[bool] | None = None) -> Events:
    order = np.lexsort((item, time))
    n = len(order)
    return Events(
        np.array(user, np.int32)[order],
        np.array(item, np.int32)[order],
        np.array(time, np.int64)[order],
        np.zeros(n, np.int8),
        ("click",),
        np.ones(n, bool) if positive is None else np.array(positive)[order],
        np.ones(n, bool),
    )


def make_catalog(n: int, published_at: dict[int, int] | None = None) -> Catalog:
    empty: Strings = np.full(n + 1, "", object)
    published = np.full(n + 1, NO_TIME)
    for item, time in (published_at or {}).items():
        published[item] = time
    return Catalog(np.array([f"n{i:05d}" for i in range(n)], object), empty, empty, published)


def make_slates(
    events: Events,
    catalog: Catalog,
    *,
    size: int = DEFAULT_SIZE,
    seed: int = 0,
    repeats: bool = False,
    even_share: float = 0.5,
) -> Impressions:
    """Made-up lists of `size` candidates for every first click, and for repeats too, in memory."""
    timeline, touched = ClickTimeline(events, len(catalog)), TouchedItems(events, len(catalog))
    settings = {"size": size, "seed": seed, "window": DEFAULT_WINDOW}
    clicks = hide_repeats(list_clicks(events, repeats=repeats), timeline, touched, **settings)
    (lists,) = sampled_lists(catalog, clicks, timeline, touched, **settings, even_share=even_share, block=len(events))
    row, column = np.nonzero(lists.item >= 0)
    n = len(lists.user)
    offsets = np.searchsorted(row, np.arange(n + 1))
    requests = Requests(lists.user, lists.time, offsets, lists.item[row, column])
    label = (column == lists.clicked[row]).astype(np.int8)
    ids = np.array([f"s{number}" for number in range(n)], object)
    return Impressions(requests, ids, np.ones(n, bool), label, (column + 1).astype(np.int32))


def random_clicks(n: int, n_users: int, n_items: int, seed: int, *, arriving: bool = True) -> Events:
    """Clicks that know nothing of users, items or earlier clicks; items may come and go all along."""
    rng = np.random.default_rng(seed)
    time = np.arange(n) * MINUTE
    oldest = (time / time[-1] * n_items).astype(int) if arriving else 0
    item = oldest + rng.integers(0, n_items // 4, n)
    return make_events(list(rng.integers(0, n_users, n)), list(item), list(time))


def counts_before(events: Events, slates: Impressions, *, same_user: bool) -> np.ndarray:
    """Clicks on each row's item before its list, of all users or of the list's own."""
    frame = pd.DataFrame({"user": events.user, "item": events.item, "time": events.time})
    times = {key: rows["time"].to_numpy() for key, rows in frame.groupby(["user", "item"] if same_user else "item")}
    rows = zip(slates.requests.row_user(), slates.requests.item, slates.requests.row_time(), strict=True)
    none = np.zeros(0)
    return np.array([np.searchsorted(times.get((u, i) if same_user else i, none), t) for u, i, t in rows], float)


def auc(score: np.ndarray, slates: Impressions) -> float:
    return float(np.nanmean(list_metrics(score, slates.label, slates.requests.offsets).auc))


def test_on_random_clicks_no_count_and_no_repeat_tells_the_clicked_item() -> None:
    events = random_clicks(12_000, 400, 8_000, seed=1, arriving=False)
    slates = make_slates(events, make_catalog(2_000), seed=3)
    count = counts_before(events, slates, same_user=False)
    # a mean over some 11,000 lists of AUCs whose spread is below 0.3: its standard error is below 0.003
    assert auc((count == 0).astype(float), slates) == pytest.approx(0.5, abs=0.01)
    assert auc(count, slates) == pytest.approx(0.5, abs=0.015)
    assert auc(slates.position.astype(float), slates) == pytest.approx(0.5, abs=0.01)
    assert not counts_before(events, slates, same_user=True).any()


def test_as_many_unclicked_as_clicked_items_were_never_seen_early_and_late_in_the_log() -> None:
    events = random_clicks(12_000, 400, 1_500, seed=2)
    slates = make_slates(events, make_catalog(2_000), seed=0)
    never = counts_before(events, slates, same_user=False) == 0
    clicked = slates.label > 0
    for part in np.array_split(np.arange(slates.requests.n_rows), 4)[1:]:
        chosen = np.isin(np.arange(slates.requests.n_rows), part)
        assert never[chosen & ~clicked].mean() == pytest.approx(never[chosen & clicked].mean(), abs=0.02)


def test_a_list_has_one_clicked_item_and_no_other_that_its_user_ever_touches() -> None:
    events = random_clicks(3_000, 40, 200, seed=3)
    slates = make_slates(events, make_catalog(300), size=8)
    requests = slates.requests
    touched = set(zip(events.user.tolist(), events.item.tolist(), strict=True))
    pairs = list(zip(requests.row_user().tolist(), requests.item.tolist(), strict=True))
    assert [pair in touched for pair in pairs] == (slates.label > 0).tolist()
    assert (np.add.reduceat(slates.label, requests.offsets[:-1]) == 1).all()
    assert len(requests) == len(touched)
    assert set(requests.lengths()) == {8} and slates.sampled.all()
    assert len(set(zip(requests.request_of_row().tolist(), requests.item.tolist(), strict=True))) == len(pairs)
    assert (np.diff(requests.time) >= 0).all()


@pytest.mark.parametrize("repeats", [False, True])
def test_the_same_seed_gives_the_same_lists_and_another_seed_others(repeats: bool) -> None:
    events, catalog = random_clicks(500, 5, 40, seed=4), make_catalog(150)
    first, again, other = (make_slates(events, catalog, seed=seed, repeats=repeats).requests.item for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_view_shortly_before_dates_the_list_and_one_long_before_prevents_it() -> None:
    # user 0 views item 0 ten minutes before the click, and item 1 an hour before; user 1 clicks items 2 and 3
    user, item = [0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 3]
    time = [100 * MINUTE, 110 * MINUTE, 100 * MINUTE, 160 * MINUTE, 105 * MINUTE, 170 * MINUTE]
    events = make_events(user, item, time, [False, True, False, True, True, True])
    requests = make_slates(events, make_catalog(4), size=2).requests
    assert requests.time[requests.user == 0].tolist() == [100 * MINUTE]


def test_items_that_are_not_yet_published_are_never_shown() -> None:
    events = make_events([0, 1, 2, 3], [0, 1, 2, 3], [10, 20, 30, 40])
    slates = make_slates(events, make_catalog(4, {2: 25, 3: 35}), size=4)
    shown = np.split(slates.requests.item, slates.requests.offsets[1:-1])
    assert [sorted(items.tolist()) for items in shown] == [[0, 1], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    events = random_clicks(400, 30, 60, seed=5)
    ids = make_catalog(80).ids
    pd.DataFrame({"item_id": ids, "title": "a title"}).to_parquet(tmp_path / "items.parquet")
    pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in events.user],
            "item_id": ids[events.item],
            "timestamp": pd.to_datetime(events.time, unit="us", utc=True),
        }
    ).to_parquet(tmp_path / "events.parquet")
    return tmp_path


def test_events_of_unknown_users_alone_make_no_lists(folder: Path) -> None:
    events = pd.read_parquet(folder / "events.parquet")
    events.assign(user_id=None).astype({"user_id": "str"}).to_parquet(folder / "events.parquet")
    with pytest.raises(InputError, match="known users"):
        write_slates(folder)
    assert not (folder / "impressions.parquet").exists()


def test_the_written_table_is_read_back_as_sampled_impressions(folder: Path) -> None:
    report = write_slates(folder, size=6)
    log, _ = load_log(folder)
    expected = make_slates(log.events, log.catalog, size=6, repeats=True)
    assert np.array_equal(log.impressions.requests.item, expected.requests.item)
    assert np.array_equal(log.impressions.label, expected.label)
    assert log.impressions.sampled.all()
    assert report.impressions == len(expected) and report.rows == expected.requests.n_rows
    assert len(log.events) == 400  # every clicked row is one of the events, none is new
    assert "never clicked before" in "\n".join(report.lines())


def test_impressions_that_exist_are_not_overwritten(folder: Path) -> None:
    write_slates(folder, size=6)
    before = (folder / "impressions.parquet").read_bytes()
    with pytest.raises(InputError, match="no impressions table"):
        write_slates(folder, size=6, seed=1)
    assert (folder / "impressions.parquet").read_bytes() == before


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "out.parquet") as path:
        path.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_one_seed_writes_the_same_bytes(folder: Path) -> None:
    out = folder / "impressions.parquet"
    write_slates(folder, size=6)
    first = out.read_bytes()
    out.unlink()
    write_slates(folder, size=6)
    assert out.read_bytes() == first
    assert pq.read_metadata(out).num_rows > 0


def test_on_real_events_as_many_unclicked_as_clicked_items_were_never_seen(shared_data: Path, tmp_path: Path) -> None:
    for name in ("items", "events"):
        (tmp_path / f"{name}.parquet").symlink_to(shared_data / "amazon-office" / f"{name}.parquet")
    report = write_slates(tmp_path)
    assert report.impressions > 20_000
    assert report.never_seen_unclicked == pytest.approx(report.never_seen_clicked, abs=0.005)


def habits(n: int, n_users: int, n_items: int, seed: int, *, pause: int = 60) -> Events:
    """Clicks `pause` minutes apart of users who return, half of the time, to an item that they clicked before."""
    rng = np.random.default_rng(seed)
    clicked: list[list[int]] = [[] for _ in range(n_users)]
    users, items = rng.integers(0, n_users, n).tolist(), []
    for user in users:
        back = clicked[user] and rng.random() < 0.5
        items.append(int(rng.choice(clicked[user])) if back else int(rng.integers(0, n_items)))
        clicked[user].append(items[-1])
    return make_events(users, items, list(range(0, n * pause * MINUTE, pause * MINUTE)))


@pytest.fixture(scope="module")
def repeated() -> tuple[Events, Impressions]:
    events = habits(8_000, 40, 300, seed=6)
    return events, make_slates(events, make_catalog(300), seed=1, repeats=True)


def test_with_repeats_neither_an_earlier_event_of_the_user_nor_a_count_tells_the_clicked_item(
    repeated: tuple[Events, Impressions],
) -> None:
    events, slates = repeated
    touched, clicked = counts_before(events, slates, same_user=True) > 0, slates.label > 0
    # half of the clicks are repeats; a mean over some 7,500 lists of AUCs whose spread is 0.25: standard error 0.003
    assert 0.3 < touched[clicked].mean() < 0.6
    assert touched[~clicked].mean() == pytest.approx(touched[clicked].mean(), abs=0.015)
    assert auc(touched.astype(float), slates) == pytest.approx(0.5, abs=0.01)
    count = counts_before(events, slates, same_user=False)
    assert auc((count == 0).astype(float), slates) == pytest.approx(0.5, abs=0.01)


def test_touched_items_are_as_frequent_among_both_whether_few_or_many_can_be_shown(
    repeated: tuple[Events, Impressions],
) -> None:
    events, slates = repeated
    touched, clicked = counts_before(events, slates, same_user=True) > 0, slates.label > 0
    quarters = np.array_split(np.arange(slates.requests.n_rows), 4)
    shares = [(touched[rows][clicked[rows]].mean(), touched[rows][~clicked[rows]].mean()) for rows in quarters]
    assert shares[0][0] < 0.75 * shares[3][0]  # users come to know more items
    for of_clicked, of_others in shares:
        assert of_others == pytest.approx(of_clicked, abs=0.03)


def test_a_repeat_whose_user_has_touched_nothing_else_makes_no_list() -> None:
    # user 0 comes back to item 0 alone; others click items 1 to 9
    user, item = [0] * 20 + list(range(1, 181)), [0] * 20 + [1 + number % 9 for number in range(180)]
    times = [hour * 60 * MINUTE for hour in [*range(0, 180, 9), *range(180)]]
    events = make_events(user, item, times)
    assert (list_clicks(events, repeats=True).touched).sum() == 19
    requests = make_slates(events, make_catalog(10), size=5, repeats=True).requests
    assert (requests.user == 0).sum() == 1


def test_no_negative_is_an_item_that_its_user_acts_on_within_half_an_hour() -> None:
    events = habits(3_000, 4, 200, seed=9, pause=5)  # each user clicks every 20 minutes
    slates = make_slates(events, make_catalog(200), repeats=True)
    requests = slates.requests
    near: dict[tuple[int, int], list[int]] = {}
    for user, item, time in zip(events.user.tolist(), events.item.tolist(), events.time.tolist(), strict=True):
        near.setdefault((user, item), []).append(time)
    touched = 0
    for user, item, time, label in zip(
        requests.row_user().tolist(), requests.item.tolist(), requests.row_time().tolist(), slates.label, strict=True
    ):
        times = near.get((user, item), [])
        touched += bool(times) and not label
        assert label or not any(abs(other - time) <= 30 * MINUTE for other in times)
        assert not label or not any(0 < time - other <= 30 * MINUTE for other in times)
    assert touched > 1_000


def test_a_repeat_begins_with_its_visit_and_clicks_within_it_are_one() -> None:
    # a click, ten minutes later another; then a view and 20 minutes after it a click; then a view, and a click too late
    minutes, positive = [0, 10, 100, 120, 200, 225, 250], [True, True, False, True, False, False, True]
    events = make_events([0] * 7, [3] * 7, [minute * MINUTE for minute in minutes], positive)
    first, all_visits = list_clicks(events, repeats=False), list_clicks(events, repeats=True)
    assert (first.time // MINUTE).tolist() == [0]
    assert (first.first_left_out, first.repeats_left_out, first.not_asked_for) == (0, 3, 1)
    assert (all_visits.time // MINUTE).tolist() == [0, 100]
    assert all_visits.touched.tolist() == [False, True]
    assert (all_visits.first_left_out, all_visits.repeats_left_out, all_visits.not_asked_for) == (0, 2, 0)


def test_a_first_click_long_after_a_view_is_a_repeat() -> None:
    events = make_events([0, 0, 1], [0, 0, 1], [0, 40 * MINUTE, 40 * MINUTE], [False, True, True])
    assert list_clicks(events, repeats=False).first_left_out == 1
    both = list_clicks(events, repeats=True)
    assert (both.touched.tolist(), both.first_left_out) == ([True, False], 0)


def test_with_repeats_nothing_is_shown_before_it_is_published() -> None:
    events = habits(1_500, 10, 60, seed=7)
    first = {item: int(events.time[events.item == item].min()) for item in range(60) if (events.item == item).any()}
    slates = make_slates(events, make_catalog(60, first), repeats=True)
    requests = slates.requests
    assert all(first[item] <= time for item, time in zip(requests.item.tolist(), requests.row_time(), strict=True))


@pytest.mark.parametrize(("even_share", "low", "high"), [(0.0, 0.47, 0.53), (1.0, 0.6, 0.8)])
def test_popularity_is_chance_where_negatives_are_drawn_by_it_and_above_where_evenly(
    even_share: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(8)
    item = np.minimum(rng.geometric(0.02, 12_000), 400) - 1
    events = make_events(list(rng.integers(0, 3_000, 12_000)), list(item), list(np.arange(12_000) * MINUTE))
    slates = make_slates(events, make_catalog(400), even_share=even_share)
    assert low < auc(counts_before(events, slates, same_user=False), slates) < high


def test_the_report_says_what_simple_orders_score_as_the_metrics_do(folder: Path) -> None:
    items = pd.read_parquet(folder / "items.parquet")
    dates = pd.date_range("1960-01-01", periods=len(items), freq="D", tz="UTC")
    items.assign(published_at=[None, *dates[1:]]).to_parquet(folder / "items.parquet")
    report = write_slates(folder, size=6, repeats=True)
    log, _ = load_log(folder)
    scores = {
        "popularity": counts_before(log.events, log.impressions, same_user=False),
        "touched_before": counts_before(log.events, log.impressions, same_user=True) > 0,
    }
    for name, score in scores.items():
        assert report.baseline_auc[name] == pytest.approx(auc(score.astype(float), log.impressions), abs=1e-12)
    assert set(report.baseline_auc) == {"popularity", "recency", "freshness", "touched_before"}
    assert json.loads(json.dumps(report.as_dict()))["baseline_auc"] == report.baseline_auc
    said = "\n".join(report.lines())
    assert f"popularity {report.baseline_auc['popularity']:.3f}" in said and "by construction" in said


def test_an_auc_counts_ties_and_what_has_no_score_half_and_ignores_what_is_not_there() -> None:
    score = np.array([[3.0, 1.0, 3.0, 9.0], [1.0, np.nan, 2.0, 0.0], [np.nan, 1.0, 2.0, 3.0]])
    there = np.array([[True, True, True, False], [True] * 4, [True] * 4])
    assert list_auc(score, there, np.array([0, 0, 0])).tolist() == [0.75, 0.5, 0.5]


def test_repeats_without_a_list_are_counted_and_the_option_that_leaves_them_out_is_named(folder: Path) -> None:
    report = write_slates(folder, size=6, repeats=False)
    clicks = pd.read_parquet(folder / "events.parquet")
    n_repeats = int(clicks.duplicated(["user_id", "item_id"]).sum())
    assert (report.repeats, report.skipped_repeats, report.skipped_touched_before) == (0, n_repeats, 0)
    assert (
        f"no list for {n_repeats:,} repeat clicks of a user on an item, since --no-repeats is given, for up to"
        in "\n".join(report.lines())
    )


def test_lists_that_give_the_clicked_item_away_are_warned_of(folder: Path) -> None:
    report = write_slates(folder, size=6)
    given_away = replace(report, baseline_auc={**report.baseline_auc, "touched_before": 0.55})
    assert not any("gives the clicked item away" in line for line in report.lines())
    assert any("gives the clicked item away" in line for line in given_away.lines())


def test_repeats_make_lists_by_default(folder: Path) -> None:
    assert write_slates(folder, size=6).repeats > 0


def test_lists_of_ratings_have_only_clicks_as_clicked_items_and_training_is_told_the_rule(folder: Path) -> None:
    events = pd.read_parquet(folder / "events.parquet")
    stars = np.random.default_rng(0).integers(1, 6, len(events))
    events.assign(value=stars).to_parquet(folder / "events.parquet")
    options = ReadOptions(DataSettings(positive="value >= 4"))
    report = write_slates(folder, size=6, repeats=False, options=options)
    assert "--set 'data.positive=value >= 4'" in report.lines()[-1]
    lists = pd.read_parquet(folder / "impressions.parquet")
    clicked = lists[lists["clicked"] == 1].merge(events.assign(value=stars), on=["user_id", "item_id"])
    near = (clicked["timestamp_y"] - clicked["timestamp_x"]).between(pd.Timedelta(0), pd.Timedelta(minutes=30))
    assert (clicked[near].groupby("impression_id")["value"].max() >= 4).all()
    touched = set(zip(events["user_id"], events["item_id"], strict=True))
    others = lists[lists["clicked"] == 0]
    assert not touched & set(zip(others["user_id"], others["item_id"], strict=True))


def test_without_repeats_the_lists_of_real_purchases_are_those_of_version_0_1_0(
    shared_data: Path, tmp_path: Path
) -> None:
    for name in ("items", "events", "users"):
        (tmp_path / f"{name}.parquet").symlink_to(shared_data / "online-retail" / f"{name}.parquet")
    report = write_slates(tmp_path, repeats=False)
    made, kept = (folder / "impressions.parquet" for folder in (tmp_path, shared_data / "online-retail"))
    assert pd.read_parquet(made).equals(pd.read_parquet(kept))
    assert (report.skipped_repeats, report.repeats_possible) == (31_773, 31_288)


@pytest.mark.parametrize("name", ["online-retail", "amazon-office"])
def test_on_real_events_touched_items_are_as_frequent_among_clicked_and_other_items(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    for table in ("items", "events"):
        (tmp_path / f"{table}.parquet").symlink_to(shared_data / name / f"{table}.parquet")
    report = write_slates(tmp_path, repeats=True)
    assert report.repeats > 200
    assert report.touched_unclicked == pytest.approx(report.touched_clicked, abs=0.003)
    assert report.never_seen_unclicked == pytest.approx(report.never_seen_clicked, abs=0.005)
    assert report.baseline_auc["touched_before"] == pytest.approx(0.5, abs=0.002)
