"""The online state against the offline matrix, on random small logs: any order, repeats, delays, kills."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offline_values import offline_values
from small_logs import MINUTE, Happening, Shown, happenings, lists, make_log, make_requests, read_online, undated

from features.arrays import NO_TIME, Float32
from features.definitions.aggregates import CLICK, IMPRESSION, ITEM, USER, USER_ITEM, Aggregate, Count, days, hours
from features.definitions.builtin import catalogue, required_aggregates
from features.definitions.custom_file import read_custom_features
from features.definitions.event_measures import CountOf, Feature
from features.errors import InputError, StoreError, TimeOrderError
from features.log import Catalog, Log
from features.matrix.columns import feature_matrix
from features.offline.reader import LogIndex, OfflineSettings
from features.online.events import Impression, IncomingEvent
from features.online.expiry import drop_expired
from features.online.items import StoredItem
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from features.stores.open import open_store
from features.tables.click_matching import ClickedRows, add_unmatched_clicks, match_clicks
from features.tables.data_settings import DataSettings
from features.tables.items import CatalogColumns
from features.tables.load import ReadOptions, load_log

EVERYTHING = (
    *catalogue(categories={"brand": ("acme", "cord")}, numbers=("price",), vectors=("image",)),
    Feature("user_item_impressions", "Shown.", CountOf(Count(IMPRESSION, USER_ITEM, days(1)))),
    Feature("user_brand_impressions", "Shown.", CountOf(Count(IMPRESSION, ("user", "brand"), hours(1)))),
    Feature("brand_impressions", "Shown.", CountOf(Count(IMPRESSION, ("brand",), hours(1)))),
    Feature("item_views", "Views.", CountOf(Count("view", ITEM, hours(1)))),
    Feature("user_likes", "Likes.", CountOf(Count("like", USER))),
    *read_custom_features(Path(__file__).with_name("custom_features_file.py")).features,
)


def settings_for(
    features: Sequence[Feature] = EVERYTHING,
    delay: int = 0,
    reads: tuple[Aggregate, ...] = (),
    horizon_days: float | None = None,
) -> StoreSettings:
    return StoreSettings(
        reads=(*required_aggregates(features), *reads),
        data=DataSettings(event_delay_seconds=delay / 1e6, horizon_days=horizon_days),
        categories=("brand",),
        numbers=("price",),
        vectors=(("image", 5),),
    )


FreshState = Callable[[StoreSettings], AbstractContextManager[OnlineState]]


@pytest.fixture(scope="module")
def fresh_state(new_place: Callable[[], str]) -> FreshState:
    @contextmanager
    def fresh(wanted: StoreSettings) -> Iterator[OnlineState]:
        with closing(open_store(new_place(), create=True)) as store:
            yield OnlineState.open(store, wanted)

    return fresh


def items_of(catalog: Catalog) -> list[StoredItem]:
    brand = catalog.categories["brand"]
    return [
        StoredItem(
            str(item_id),
            "title",
            published_at=int(catalog.published_at[code]),
            categories={"brand": tuple(brand.values[value] for value in brand.codes.row(code))},
            numbers={"price": float(catalog.numbers["price"][code])},
            vectors={} if np.isnan(catalog.vectors["image"][code]).any() else {"image": catalog.vectors["image"][code]},
        )
        for code, item_id in enumerate(catalog.ids)
    ]


def name_of(user: int) -> str | None:
    return None if user < 0 else f"u{user}"


def item_name(item: int) -> str:
    return chr(ord("a") + item)


def event_of(one: Happening, event_id: str | None = None) -> IncomingEvent:
    return IncomingEvent(name_of(one.user), item_name(one.item), one.minute * MINUTE, one.type, event_id=event_id)


def list_of(one: Shown, list_id: str) -> Impression:
    items = tuple(map(item_name, one.items))
    return Impression(name_of(one.user), items, one.minute * MINUTE, list_id, sampled=one.sampled)


def once_each(events: list[Happening]) -> list[Happening]:
    """As the tables are read: a known user's repeats count once."""
    strangers = [one for one in events if one.user < 0]
    return [*dict.fromkeys(one for one in events if one.user >= 0), *strangers]


def online_matrix(state: OnlineState, shown: Sequence[Shown], features: Sequence[Feature] = EVERYTHING) -> Float32:
    parts = []
    for one in shown:
        candidates = [item_name(item) for item in one.items]
        reader = read_online(state, name_of(one.user), one.minute * MINUTE, candidates, now=0)
        parts.append(feature_matrix(features, reader)[1])
    return np.concatenate(parts)


def offline_matrix(log: Log, shown: Sequence[Shown], delay: int = 0, horizon_days: float | None = None) -> Float32:
    data = DataSettings(event_delay_seconds=delay / 1e6, horizon_days=horizon_days)
    return offline_values(EVERYTHING, LogIndex(log, OfflineSettings(data)), make_requests(list(shown)))


horizons = st.sampled_from((None, None, 0.1, 1.0, 9.7))
"""In days. Where there is one, what lies beyond it is removed now and then."""


@settings(max_examples=40, deadline=None)
@given(happenings, undated, lists, st.sampled_from((0, 0, 5 * MINUTE, hours(2), days(2))), horizons)
def test_replay_in_time_order_equals_the_offline_matrix_to_the_last_bit(
    fresh_state: FreshState,
    events: list[Happening],
    old: list[Happening],
    shown: list[Shown],
    delay: int,
    horizon: float | None,
) -> None:
    events, shown = once_each(events + old), sorted(shown, key=lambda one: one.minute)
    log = make_log(events, shown)
    with fresh_state(settings_for(delay=delay, horizon_days=horizon)) as state:
        state.add_items(items_of(log.catalog))
        state.add_events([event_of(one) for one in events if one.minute < 0])
        ranked = []
        minutes = sorted({one.minute for one in (*events, *shown) if one.minute >= 0})
        for minute in minutes:
            now_shown = [(place, one) for place, one in enumerate(shown) if one.minute == minute]
            if now_shown:
                ranked.append(online_matrix(state, [one for _, one in now_shown]))
            assert state.add_events([event_of(one) for one in events if one.minute == minute]) == []
            assert state.add_impressions([list_of(one, f"i{place}") for place, one in now_shown]) == []
            if minute % 5 == 0:
                drop_expired(state)
    assert np.concatenate(ranked).tobytes() == offline_matrix(log, shown, delay, horizon).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    happenings,
    undated,
    lists,
    lists,
    st.sampled_from((0, 5 * MINUTE, days(2))),
    horizons,
    st.randoms(use_true_random=False),
)
def test_the_state_does_not_depend_on_order_repeats_or_when_items_are_described(
    fresh_state: FreshState,
    events: list[Happening],
    old: list[Happening],
    shown: list[Shown],
    asked: list[Shown],
    delay: int,
    horizon: float | None,
    random: object,
) -> None:
    events = once_each(events + old)
    end = max([one.minute for one in (*events, *shown)])
    asked = [Shown(one.user, end + one.minute, one.items) for one in asked]
    log = make_log(events, shown)
    arrivals: list[object] = [event_of(one) for one in events]
    arrivals += [event_of(one) for one in events if one.user >= 0]
    ordered = sorted(shown, key=lambda one: one.minute)
    arrivals += [list_of(one, f"i{place}") for place, one in enumerate(ordered)] * 2
    described = items_of(log.catalog)
    arrivals += described
    arrivals += [StoredItem(item.item_id, categories={"brand": ("bolt", "other")}) for item in described[::2]]
    random.shuffle(arrivals)  # type: ignore[attr-defined]
    with fresh_state(settings_for(delay=delay, horizon_days=horizon)) as state:
        for place, arrival in enumerate(arrivals):
            if isinstance(arrival, IncomingEvent):
                state.add_events([arrival])
            elif isinstance(arrival, Impression):
                state.add_impressions([arrival])
            elif isinstance(arrival, StoredItem):
                state.add_items([arrival])
            if place % 29 == 0:
                drop_expired(state)
        state.add_items(described)
        found = online_matrix(state, asked)
    assert found.tobytes() == offline_matrix(log, asked, delay, horizon).tobytes()


@st.composite
def clicked_lists(draw: st.DrawFn) -> list[tuple[Shown, tuple[int, ...]]]:
    shown = draw(st.lists(st.builds(Shown, st.integers(-1, 1), st.integers(0, 90), st.just((0, 1, 2))), max_size=6))
    return [(one, tuple(sorted(draw(st.sets(st.sampled_from(one.items)))))) for one in shown]


named_events = st.lists(
    st.tuples(
        st.builds(
            Happening,
            st.integers(-1, 1),
            st.integers(0, 2),
            st.integers(0, 120),
            st.sampled_from(("click", "view", "like")),
        ),
        st.none() | st.integers(0, 5),
    ),
    max_size=15,
    unique_by=lambda one: one[0],
)


def matched_log(events: list[tuple[Happening, int | None]], shown: list[tuple[Shown, tuple[int, ...]]]) -> Log:
    """The log as the tables are read: clicked rows matched with events by `features.tables.events`."""
    events = sorted(events, key=lambda one: (one[0].minute, one[0].item))
    log = make_log([one for one, _ in events], [one for one, _ in shown])
    rows = [
        (place, one.user, item, one.minute * MINUTE) for place, (one, clicked) in enumerate(shown) for item in clicked
    ]
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)] or [np.zeros(0, np.int64)] * 4
    clicked_rows = ClickedRows(columns[0], columns[1].astype(np.int32), columns[2].astype(np.int32), columns[3])
    of_list = np.array([-1 if place is None or place >= len(shown) else place for _, place in events], np.int32)
    matches = match_clicks(log.events, of_list, clicked_rows, window=30 * MINUTE, n_items=6)
    return replace(log, events=add_unmatched_clicks(log.events, clicked_rows, matches)[0])


@settings(max_examples=60, deadline=None)
@given(named_events, clicked_lists(), lists, st.randoms(use_true_random=False))
def test_a_clicked_row_and_its_event_are_one_click_whichever_comes_first(
    fresh_state: FreshState,
    events: list[tuple[Happening, int | None]],
    shown: list[tuple[Shown, tuple[int, ...]]],
    asked: list[Shown],
    random: object,
) -> None:
    shown = sorted(shown, key=lambda one: one[0].minute)
    events = [(one, place) for one, place in events if place is None or _same_user(one, place, shown)]
    log = matched_log(events, shown)
    asked = [Shown(one.user, 121 + one.minute, one.items) for one in asked]
    arrivals: list[IncomingEvent | Impression] = [
        replace(event_of(one), impression_id=None if place is None else f"i{place}") for one, place in events
    ]
    arrivals += [
        replace(list_of(one, f"i{place}"), clicked=tuple(map(item_name, clicked)))
        for place, (one, clicked) in enumerate(shown)
    ]
    random.shuffle(arrivals)  # type: ignore[attr-defined]
    with fresh_state(settings_for()) as state:
        state.add_items(items_of(log.catalog))
        for arrival in arrivals:
            if isinstance(arrival, IncomingEvent):
                state.add_events([arrival])
            else:
                state.add_impressions([arrival])
        found = online_matrix(state, asked)
    expected = offline_matrix(log, asked)
    assert found.tobytes() == expected.tobytes()


def _same_user(one: Happening, place: int, shown: list[tuple[Shown, tuple[int, ...]]]) -> bool:
    return place >= len(shown) or shown[place][0].user == one.user


def counted(state: OnlineState, user: str | None, item: str, minute: int, read: Count) -> int:
    reader = read_online(state, user, minute * MINUTE, [item], now=0)
    return int(reader.count(read)[0])


ITEM_CLICKS, PAIR_CLICKS = Count(CLICK, ITEM), Count(CLICK, USER_ITEM)


def test_an_event_counts_strictly_before_a_request_and_once(fresh_state: FreshState) -> None:
    with fresh_state(settings_for()) as state:
        for _ in range(2):
            state.add_events([IncomingEvent("u0", "a", 5 * MINUTE), IncomingEvent("u0", "a", 5 * MINUTE)])
        state.add_events(
            [IncomingEvent("u0", "b", 4 * MINUTE, event_id="x"), IncomingEvent("u1", "c", 4 * MINUTE, event_id="x")]
        )
        assert counted(state, "u0", "a", 5, ITEM_CLICKS) == 0
        assert counted(state, "u0", "a", 6, ITEM_CLICKS) == 1
        assert counted(state, "u0", "a", 6, PAIR_CLICKS) == 1
        assert [counted(state, None, item, 6, ITEM_CLICKS) for item in "bc"] == [1, 0]


def test_a_time_before_the_newest_event_is_refused_and_none_is_after_everything(fresh_state: FreshState) -> None:
    with fresh_state(settings_for()) as state:
        state.add_events([IncomingEvent("u0", "a", 5 * MINUTE)])
        with pytest.raises(TimeOrderError, match=r"expected 1970-01-01T00:05:00.*or later.*got 1970-01-01T00:04"):
            read_online(state, "u0", 4 * MINUTE, ["a"], now=0)
        assert read_online(state, "u0", 4 * MINUTE, ["a"], now=0, skew=MINUTE).time == 5 * MINUTE + 1
        with pytest.raises(TimeOrderError):
            read_online(state, "u0", 4 * MINUTE - 1, ["a"], now=0, skew=MINUTE)
        with pytest.raises(InputError, match="timestamp: expected fewer than"):
            read_online(state, "u0", 2**60, ["a"], now=0)
        assert read_online(state, "u0", None, ["a"], now=0).count(ITEM_CLICKS).tolist() == [1]
        assert read_online(state, "u0", None, ["a"], now=9 * MINUTE).time == 9 * MINUTE


def test_an_event_makes_older_ones_visible_and_refuses_earlier_reads(fresh_state: FreshState) -> None:
    with fresh_state(settings_for(delay=hours(1))) as state:
        state.add_events([IncomingEvent("u0", "a", 0)])
        state.add_events([IncomingEvent("u1", "b", 200 * MINUTE)])
        assert counted(state, "u0", "a", 200, ITEM_CLICKS) == 1
        with pytest.raises(TimeOrderError):
            counted(state, "u0", "a", 199, ITEM_CLICKS)


def test_what_cannot_be_counted_is_rejected_with_its_place_and_the_rest_is_kept(fresh_state: FreshState) -> None:
    events = [
        IncomingEvent("u0", "a", MINUTE),
        IncomingEvent("", "a", MINUTE),
        IncomingEvent("u0", "x" * 300, MINUTE),
        IncomingEvent("u0", "a", 1.5),  # type: ignore[arg-type]
        IncomingEvent("u0", "a", 99 * MINUTE),
        IncomingEvent("u0", "a", MINUTE, "impression"),
        IncomingEvent("u0", "\ud800", MINUTE),
        IncomingEvent("u0", "b", MINUTE),
    ]
    with fresh_state(settings_for()) as state:
        rejected = state.add_events(events, latest=10 * MINUTE)
        assert [(one.index, one.code) for one in rejected] == [
            (1, "bad_user_id"),
            (2, "bad_item_id"),
            (3, "bad_timestamp"),
            (4, "time_in_future"),
            (5, "bad_event_type"),
            (6, "bad_item_id"),
        ]
        assert [counted(state, None, item, 2, ITEM_CLICKS) for item in "ab"] == [1, 1]
        wrong_lists = [Impression("u0", (), MINUTE), Impression("u0", ("a",), MINUTE, clicked=("b",))]
        assert [one.code for one in state.add_impressions(wrong_lists)] == ["bad_items", "bad_items"]


def test_unknown_users_and_items_are_answered_and_items_in_the_request_win(fresh_state: FreshState) -> None:
    with fresh_state(settings_for()) as state:
        state.add_items([StoredItem("a", "stored", categories={"brand": ("acme",)})])
        state.add_events([IncomingEvent("u0", "a", 1)])
        inline = {
            "a": StoredItem("a", "handed in"),
            "new": StoredItem("new", "inline", categories={"brand": ("acme",)}),
        }
        reader = read_online(state, "stranger", MINUTE, ["new", "a", "nothing"], now=0, inline=inline)
        titles = [reader.catalog.title[code] for code in reader.requests.item]
        assert titles == ["inline", "handed in", ""]
        assert reader.count(Count(CLICK, ("brand",))).tolist() == [1, 0, 0]
        names, matrix = feature_matrix(EVERYTHING, reader)
        assert matrix.shape == (3, len(names))
        assert reader.catalog.published_at[reader.requests.item].tolist() == [NO_TIME] * 3


def test_describing_an_item_anew_reports_what_changed(fresh_state: FreshState) -> None:
    with fresh_state(settings_for()) as state:
        assert state.add_items([StoredItem("a", "one"), StoredItem("b", "two")]) == ["a", "b"]
        assert state.add_items([StoredItem("a", "one"), StoredItem("b", "three")]) == ["b"]


def test_a_store_made_for_something_else_is_refused_and_both_sides_are_named(new_place: Callable[[], str]) -> None:
    store = open_store(new_place(), create=True)
    with pytest.raises(StoreError, match="found an empty one"):
        OnlineState.open(store)
    OnlineState.open(store, settings_for())
    assert OnlineState.open(store).settings == settings_for()
    OnlineState.open(store, settings_for(EVERYTHING[:3]))
    with pytest.raises(StoreError, match="event_delay 0, but 60 is wanted"):
        OnlineState.open(store, settings_for(delay=60))
    with pytest.raises(StoreError, match=r"'purchase'.*is wanted too; load items and events into a new store"):
        OnlineState.open(store, settings_for(reads=(Count("purchase", ITEM),)))
    store.close()


def test_a_path_that_is_no_folder_or_has_no_store_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(StoreError, match="cannot be opened"):
        LmdbStore(tmp_path / "file")
    with pytest.raises(StoreError, match="expected a folder with a store, found none"):
        LmdbStore(tmp_path / "nothing", create=False)


def test_two_states_on_one_store_see_each_others_events(new_place: Callable[[], str]) -> None:
    store = open_store(new_place(), create=True)
    first, second = OnlineState.open(store, settings_for()), OnlineState.open(store)
    for minute in range(1, 4):
        second.add_events([IncomingEvent("u0", "a", minute * MINUTE)])
        second.add_items([StoredItem("a", f"title {minute}")])
        reader = read_online(first, "u0", None, ["a"], now=0)
        assert (reader.count(ITEM_CLICKS)[0], reader.catalog.title[0]) == (minute, f"title {minute}")
    store.close()


WRITER = """
import sys
from features.online.events import IncomingEvent
from features.online.state import OnlineState
from features.stores.open import open_store
state = OnlineState.open(open_store(sys.argv[1], create=False))
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
for n in range(100_000):
    state.add_events([IncomingEvent("u0", f"i{n % 1000}", n)])
    print(n, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(new_place: Callable[[], str]) -> None:
    place = new_place()
    with closing(open_store(place, create=True)) as store:
        OnlineState.open(store, settings_for())
    with subprocess.Popen([sys.executable, "-c", WRITER, place], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(line) for line in itertools.islice(writer.stdout, 20)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout]
    state = OnlineState.open(open_store(place, create=False))
    kept = read_online(state, "u0", None, ["i0"], now=0).count(Count(CLICK, USER))[0]
    assert kept - len(acknowledged) in (0, 1)
    assert kept >= 20
    state.store.close()


def test_a_full_disk_is_a_clear_error_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    OnlineState.open(store, settings_for())
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), "full"], capture_output=True, text=True, check=False
    )
    assert "StoreError: online store" in done.stderr
    assert "nothing of this change was kept" in done.stderr
    acknowledged = len(done.stdout.splitlines())
    state = OnlineState.open(LmdbStore(tmp_path))
    assert read_online(state, "u0", None, ["i0"], now=0).count(Count(CLICK, USER)).tolist() == [acknowledged]
    state.store.close()


@pytest.mark.shared
def test_replay_of_real_lists_equals_the_offline_matrix(fresh_state: FreshState, shared_data: Path) -> None:
    log, _ = load_log(shared_data / "amazon-office", ReadOptions(item_columns=CatalogColumns(categories=("brand",))))
    features = catalogue(categories={"brand": log.catalog.categories["brand"].values[:50]})
    index, n = LogIndex(log), 300
    chosen = np.arange(len(log.impressions) - 4000, len(log.impressions) - 4000 + n)
    requests = log.impressions.requests.take(chosen)
    expected = offline_values(features, index, requests)
    wanted = StoreSettings(reads=required_aggregates(features), categories=("brand",))
    events, users = log.events, [*log.users, None]
    brand = log.catalog.categories["brand"]
    items = [
        StoredItem(
            str(item_id),
            published_at=int(log.catalog.published_at[code]),
            categories={"brand": tuple(brand.values[value] for value in brand.codes.row(code))},
        )
        for code, item_id in enumerate(log.catalog.ids)
    ]
    ready = [
        IncomingEvent(
            users[events.user[i]], log.catalog.ids[events.item[i]], int(events.time[i]), events.types[events.type[i]]
        )
        for i in range(int(np.searchsorted(events.time, requests.time[-1])))
    ]
    with fresh_state(wanted) as state:
        state.add_items(items)
        found, sent = [], 0
        for place, time in enumerate(requests.time.tolist()):
            until = int(np.searchsorted(events.time, time))
            if until > sent:
                assert state.add_events(ready[sent:until]) == []
                sent = until
            candidates = log.catalog.ids[requests.item[requests.offsets[place] : requests.offsets[place + 1]]]
            reader = read_online(state, users[requests.user[place]], time, list(candidates), now=0)
            found.append(feature_matrix(features, reader)[1])
    assert np.concatenate(found).tobytes() == expected.tobytes()
