"""`data.horizon_days`: how far back any read looks, online and offline, and what a store still holds beyond it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audited_site import site_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from small_logs import MINUTE, Happening, Shown, make_log, make_requests, read_online
from small_ranking_model import small_site
from test_online_store import EVERYTHING, event_of, items_of, list_of, settings_for

from features.definitions.aggregates import CLICK, ITEM, USER, Count, First, days, within
from features.definitions.builtin import WINDOWS
from features.errors import StoreMismatch
from features.matrix.columns import feature_matrix
from features.offline.reader import LogIndex, OfflineReader, OfflineSettings
from features.online.click_ledger import CLICKED_ROW, EVENT, SHOWN, ClickMatching, LedgerEntry
from features.online.events import IncomingEvent
from features.online.expiry import drop_expired
from features.online.item_clicks import item_clicks
from features.online.reader import OnlineReader
from features.online.state import OnlineState
from features.online.statistics import store_statistics
from features.online.user_clicks import clicked_before
from features.stores.base import KeyValueStore
from features.stores.lmdb_store import LmdbStore
from features.stores.open import open_store
from features.tables.data_settings import DataSettings
from pipelines import audit as commands
from pipelines.audit import replay, training_context
from pipelines.store import compact
from recsys.audit.context import AuditContext
from recsys.audit.rules.future_injection import future_injection
from recsys.config import Config, ServingConfig
from recsys.online.open_state import required_store_settings
from recsys.processes.refreshing import refreshing
from recsys.serving.popularity import ItemPopularity
from recsys.serving.service import RankService

ONE_DAY = DataSettings(horizon_days=1)
NOW = 3 * 1440
"""A minute on the edge of a cell: a day back reaches from 2880 on."""
CLICKS = [
    Happening(0, 0, 100),
    Happening(0, 1, 100),
    Happening(2, 3, 200),
    Happening(1, 1, 2879),
    Happening(0, 0, 2880),
    Happening(1, 0, 3000),
    Happening(0, 4, 2879),
    Happening(0, 5, 4000, "history"),
]
LISTS = [Shown(1, 50, (0, 1)), Shown(1, 2900, (0, 3)), Shown(2, NOW, (0, 1, 4))]
COLUMNS = ("item_clicks_all", "item_clicks_30d", "item_click_age", "item_click_recency", "item_impressions_all")
OF_USER = ("user_item_clicks", "user_clicks_all", "user_history_length")
OF_PAIR = ("user_item_recency", "user_item_interval", "user_item_elapsed_intervals")


@pytest.fixture
def store(new_place: Callable[[], str]) -> Iterator[KeyValueStore]:
    with closing(open_store(new_place(), create=True)) as opened:
        yield opened


def filled(store: KeyValueStore, horizon_days: float | None = 1) -> OnlineState:
    """A store with the clicks and lists above, in order of time."""
    state = OnlineState.open(store, settings_for(horizon_days=horizon_days))
    state.add_items(items_of(make_log([], []).catalog))
    arrivals = [(one.minute, event_of(one)) for one in CLICKS]
    arrivals += [(one.minute, list_of(one, f"i{place}")) for place, one in enumerate(LISTS)]  # type: ignore[misc]
    for _, arrival in sorted(arrivals, key=lambda pair: pair[0]):
        assert state.add([arrival]) == []
    return state


def values(reader: OnlineReader | OfflineReader, names: Sequence[str]) -> list[list[float]]:
    """Some columns of the candidates of one request, a list a column; -1 for missing."""
    found, matrix = feature_matrix(EVERYTHING, reader)
    return [np.nan_to_num(matrix[:, found.index(name)], nan=-1).tolist() for name in names]


def online(store: KeyValueStore, user: int, minute: int) -> OnlineReader:
    return read_online(OnlineState.open(store), f"u{user}", minute * MINUTE, ["a", "b", "e"], now=0)


def offline(store: KeyValueStore, user: int, minute: int) -> OfflineReader:
    index = LogIndex(make_log(CLICKS, LISTS), OfflineSettings(ONE_DAY))
    return index.reader(make_requests([Shown(user, minute, (0, 1, 4))]))


@pytest.mark.parametrize("path", [online, offline])
def test_every_read_begins_at_the_edge_of_a_window_as_long_as_the_horizon(
    store: KeyValueStore, path: Callable[[KeyValueStore, int, int], OnlineReader | OfflineReader]
) -> None:
    filled(store)
    edge, recent = float((NOW - 2880) * 60), float((NOW - 3000) * 60)
    reader = path(store, 0, NOW)
    assert values(reader, COLUMNS) == [[2, 0, 0], [2, 0, 0], [edge, -1, -1], [recent, -1, -1], [1, 0, 0]]
    assert values(reader, OF_USER) == [[1, 0, 0], [1, 1, 1], [2, 2, 2]]
    assert values(reader, OF_PAIR) == [[edge, -1, -1], [-1, -1, -1], [-1, -1, -1]]  # the click at 100 is in no interval
    items = [str(reader.catalog.ids[code]) for code in reader.histories.items.codes]
    assert items == ["a", "f"]  # a at 2880, and f, which type history places at 4000 and no count holds
    later = path(store, 0, NOW + 60)  # the next cell
    assert values(later, COLUMNS[:3]) == [[1, 0, 0], [1, 0, 0], [recent + 3600, -1, -1]]
    assert values(later, OF_USER) == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]


def test_popularity_and_collaborative_clicks_look_no_further_back(store: KeyValueStore) -> None:
    state = filled(store)
    with state.snapshot() as view:
        ids, clicks = item_clicks(view, 10, now=(NOW + 60) * MINUTE)
        items, clicked = clicked_before(view, NOW * MINUTE, length=9)
        users = view.first_histories(5)
    assert dict(zip(ids, clicks.tolist(), strict=True)) == {"a": 1, "b": 0, "c": 0, "d": 0, "e": 0, "f": 0}
    assert (items, [clicked.row(user).tolist() for user in range(2)]) == (("a", "f"), [[0, 1], [0]])
    assert {user: [item for item, _ in history] for user, history in users.items()} == {
        "u0": ["a", "f"],
        "u1": ["a"],
        "u2": [],
    }
    popularity = ItemPopularity(10)
    popularity.refresh(state)  # for now, decades later
    assert len(popularity) == 0


def texts_in(store: KeyValueStore) -> bytes:
    return b"".join(key + value for key, value in store.everything())


def test_compaction_removes_what_lies_beyond_and_statistics_say_how_much(store: KeyValueStore) -> None:
    state = filled(store)
    state.add([IncomingEvent("u9", "d", 60 * MINUTE), IncomingEvent("u8", "d", NOW * MINUTE, event_id="new")])
    assert b"u9" not in texts_in(store)  # too late to be read by anyone
    before = store_statistics(state)
    assert (before.horizon_days, before.beyond_horizon.keys > 0) == (1, True)
    assert any("hold something from beyond it" in line for line in before.lines())
    n_keys, bits = len(dict(store.everything())), values(online(store, 0, NOW + 1), (*COLUMNS, *OF_USER))
    dropped = drop_expired(state)
    assert set(dropped) == {"counters", "histories", "ledgers", "seen ids"}
    assert sum(dropped.values()) == before.beyond_horizon.keys
    assert store_statistics(state).as_dict()["beyond_horizon"] == {"keys": 0, "bytes": 0}
    assert len(dict(store.everything())) < n_keys
    assert values(online(store, 0, NOW + 1), (*COLUMNS, *OF_USER)) == bits
    assert drop_expired(state) == {}
    state.add([event_of(CLICKS[0]), list_of(LISTS[0], "i0"), IncomingEvent("u8", "d", NOW * MINUTE, event_id="new")])
    assert store_statistics(state).beyond_horizon.keys == 0  # loaded again it stays out, and a repeat is known
    assert values(online(store, 0, NOW + 1), (*COLUMNS, *OF_USER)) == bits


def test_recsys_store_compact_reports_it(new_place: Callable[[], str]) -> None:
    place = new_place()
    with closing(open_store(place, create=True)) as opened:
        filled(opened)
    report = compact(place, ())
    assert report.as_dict()["expired"] == dict(report.expired)
    assert report.lines()[0].startswith("beyond the horizon, removed from: ")
    assert compact(place, ()).expired == {}


def test_a_server_removes_it_by_itself(tmp_path: Path) -> None:
    model = small_site().ranking_model
    model = replace(model, settings=model.settings.model_copy(update={"data": ONE_DAY}))
    with closing(LmdbStore(tmp_path / "store")) as store:
        state = OnlineState.open(store, required_store_settings(model.settings, {}))
        state.add([IncomingEvent("long ago", "n001", 0)])
        state.add([IncomingEvent("now", "n001", days(5))])
        service = RankService(model, state, ServingConfig(rebuild_seconds=0.01), ranker="r/1", encoder="e/1")
        assert b"long ago" in texts_in(store)
        with refreshing(service):
            for _ in range(2000):
                if b"long ago" not in texts_in(store):
                    break
                time.sleep(0.01)
        assert b"long ago" not in texts_in(store)
        assert b"now" in texts_in(store)


def test_without_a_horizon_nothing_is_removed_and_marks_stay_as_they_were(store: KeyValueStore) -> None:
    state = filled(store, horizon_days=None)
    assert drop_expired(state) == {}
    assert {value for key, value in store.everything() if key[:1] == b"e"} == {b"1"}
    assert store_statistics(state).as_dict()["beyond_horizon"] == {"keys": 0, "bytes": 0}
    assert values(online(store, 0, NOW + 1), ("item_clicks_all",)) == [[3, 2, 1]]


def test_a_store_of_another_horizon_is_refused_with_the_command_that_fills_a_new_one(store: KeyValueStore) -> None:
    OnlineState.open(store, settings_for(horizon_days=30))
    with pytest.raises(StoreMismatch, match=r"horizon_days 30.0, but None is wanted; load items and events into a new"):
        OnlineState.open(store, settings_for())


def test_windows_are_cut_to_the_horizon() -> None:
    week = days(7)
    assert within(Count(CLICK, USER), week) == within(Count(CLICK, USER, days(30)), week) == Count(CLICK, USER, week)
    assert within(Count(CLICK, USER, days(1)), week) == Count(CLICK, USER, days(1))
    assert within(First(CLICK, ITEM), week) == First(CLICK, ITEM)
    assert within(Count(CLICK, USER, days(30)), None) == Count(CLICK, USER, days(30))


@pytest.mark.parametrize("horizon_days", [0, -1, float("nan"), float("inf"), 40_000])
def test_a_horizon_that_is_none_is_refused(horizon_days: float) -> None:
    with pytest.raises(ValidationError):
        DataSettings(horizon_days=horizon_days)


def test_a_horizon_is_a_window_of_whole_cells() -> None:
    assert DataSettings(horizon_days=30).horizon == WINDOWS["30d"][0]
    assert DataSettings().horizon is None
    horizon = DataSettings(horizon_days=1 / 7).horizon
    assert horizon is not None
    assert Count(CLICK, ITEM, horizon).window == horizon


entries = st.lists(
    st.builds(
        LedgerEntry,
        st.integers(0, 40),
        st.integers(0, 3),
        st.sampled_from((2, 3)),
        st.just(EVENT),
        st.integers(0, 1),
    )
    | st.builds(LedgerEntry, st.integers(0, 40), st.integers(1, 3), st.just(1), st.just(CLICKED_ROW), st.just(0))
    | st.builds(LedgerEntry, st.integers(0, 40), st.integers(1, 3), st.just(0), st.just(SHOWN), st.just(0)),
    max_size=9,
)


@settings(deadline=None, max_examples=300)
@given(entries, st.integers(0, 45))
def test_a_ledger_counts_the_same_from_a_time_on_without_what_is_older(arrived: list[LedgerEntry], oldest: int) -> None:
    matching = ClickMatching((False, False, True, False), click_window=10)
    kept = matching.without_expired(arrived, oldest)
    recent = [
        {event: n for event, n in matching.resolve(some).items() if event.time >= oldest} for some in (arrived, kept)
    ]
    assert recent[0] == recent[1]
    assert set(kept) <= set(arrived)


def short(days_back: float | None) -> tuple[Path, Config]:
    """The audited site with a horizon."""
    folder, config = site_folder()
    data = config.data.model_copy(update={"horizon_days": days_back})
    return folder, config.model_copy(update={"data": data})


@pytest.fixture(scope="module")
def context() -> AuditContext:
    return training_context(*short(1.5))


@pytest.mark.kernels
def test_a_simulated_site_replays_with_a_short_horizon_without_a_difference(context: AuditContext) -> None:
    folder, config = short(1.5)
    requests = context.log.impressions.requests
    span = int(requests.time[-1] - requests.time[0])
    assert span > 4 * days(1)
    start = int(requests.time[len(requests) // 2])
    report = replay(folder, config, start=start, end=int(requests.time[len(requests) // 2 + 120]))
    assert report.differences == (), "\n".join(report.lines())
    assert report.lists > 100
    assert report.refused == {}


def test_an_offline_reader_that_looks_beyond_the_horizon_is_found(
    context: AuditContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = short(1.5)

    def without_horizon(*_: object, **__: object) -> AuditContext:
        index = LogIndex(context.log, replace(context.training.index.settings, data=DataSettings()))
        return replace(context, training=replace(context.training, index=index))

    monkeypatch.setattr(commands, "open_context", without_horizon)
    times = context.log.impressions.requests.time
    report = replay(folder, config, start=int(times[3000]), end=int(times[3030]))
    found = {one.column for one in report.differences}
    assert {"item_clicks_all", "item_click_age", "user_clicks_all", "user_history_length", "co_click_mean"} <= found


def test_nothing_at_or_after_a_request_changes_a_column_under_a_horizon(context: AuditContext) -> None:
    assert future_injection(context).findings == ()
