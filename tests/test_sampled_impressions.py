"""Made-up lists: neither a count of zero nor a repeat gives the clicked item away."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.arrays import NO_TIME, Strings
from features.atomic_files import atomic_file
from features.errors import InputError
from features.log import Catalog, Events, Impressions, Requests
from features.tables.load import load_log
from features.tables.negative_sampling import first_clicks
from features.tables.negative_sampling import slates as sampled_lists
from features.tables.sampled_impressions import DEFAULT_SIZE, DEFAULT_WINDOW, write_slates
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


def make_slates(events: Events, catalog: Catalog, *, size: int = DEFAULT_SIZE, seed: int = 0) -> Impressions:
    """Made-up lists of `size` candidates for every first click, in memory."""
    firsts = first_clicks(events)
    parts = sampled_lists(events, catalog, firsts, size=size, seed=seed, window=DEFAULT_WINDOW, block=len(events))
    (lists,) = parts
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


def test_the_same_seed_gives_the_same_lists_and_another_seed_others() -> None:
    events, catalog = random_clicks(500, 20, 100, seed=4), make_catalog(150)
    first, again, other = (make_slates(events, catalog, seed=seed).requests.item for seed in (0, 0, 1))
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
    expected = make_slates(log.events, log.catalog, size=6)
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
