"""Erasure of users from the online state: nothing of theirs stays, and what was before stays out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import MINUTE, read_online
from test_online_store import EVERYTHING, settings_for

from features.definitions.aggregates import CLICK, IMPRESSION, ITEM, Count
from features.errors import InputError
from features.matrix.columns import feature_matrix
from features.online.events import Impression, IncomingEvent
from features.online.items import StoredItem
from features.online.state import OnlineState
from features.stores.base import KeyValueStore
from features.stores.open import open_store
from pipelines import load, load_users

NewPlace = Callable[[], str]
BRANDS = [StoredItem(name, categories={"brand": (brand,)}) for name, brand in (("a", "acme"), ("b", "cord"))]
NOW = 50 * MINUTE


@pytest.fixture
def place(new_place: NewPlace) -> str:
    return new_place()


@pytest.fixture
def store(place: str) -> Iterator[KeyValueStore]:
    with closing(open_store(place, create=True)) as opened:
        yield opened


def filled(store: KeyValueStore, delay: int = 0) -> OnlineState:
    """Two users with everything that can be held of one, and an anonymous one."""
    state = OnlineState.open(store, settings_for(delay=delay))
    state.add_items(BRANDS)
    for user in ("anna", "anna2"):
        state.add_events([IncomingEvent(user, item, MINUTE) for item in "ab"])
        state.add_impressions([Impression(user, ("a", "b"), 2 * MINUTE, f"list {user}", ("b",))])
        state.add_users([(user, b'{"age":30}')])
    state.add_events([IncomingEvent(None, "a", 3 * MINUTE), IncomingEvent("anna", "b", 3 * MINUTE)])
    return state


def holds(store: KeyValueStore, user: str) -> list[bytes]:
    """The keys that hold a user's id as a part, which follows its length."""
    part = len(user).to_bytes(2, "big") + user.encode()
    return sorted(key for key, _ in store.everything() if part in key)


def item_counts(state: OnlineState, event_type: str) -> list[int]:
    reader = read_online(state, None, NOW, ["a", "b"], now=0)
    return reader.count(Count(event_type, ITEM)).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("delay", [0, 10 * MINUTE])
def test_nothing_is_left_under_a_forgotten_id_and_items_keep_their_totals(store: KeyValueStore, delay: int) -> None:
    state = filled(store, delay)
    others = holds(store, "anna2")
    before = item_counts(state, CLICK), item_counts(state, IMPRESSION)
    erasure = state.forget_users(["anna"], now=NOW)
    assert erasure.known == {"anna"}
    assert {"histories", "counters", "ledgers", "attributes"} - set(erasure.removed) == (
        {"histories", "counters"} if delay else set()
    )
    assert "pending changes" in erasure.removed
    assert holds(store, "anna") == []
    assert holds(store, "anna2") == others
    assert (item_counts(state, CLICK), item_counts(state, IMPRESSION)) == before
    state.add_events([IncomingEvent("zoe", "a", 30 * MINUTE)])  # what was pending is applied, without its user
    assert holds(store, "anna") == []
    assert item_counts(state, CLICK) == [before[0][0] + 1, before[0][1]]


def test_a_forgotten_user_is_ranked_as_one_never_seen(store: KeyValueStore) -> None:
    state = filled(store)
    state.forget_users(["anna"], now=NOW)

    def columns(user: str) -> bytes:
        return feature_matrix(EVERYTHING, read_online(state, user, NOW, ["a", "b"], now=0))[1].tobytes()

    assert columns("anna") == columns("stranger") != columns("anna2")


def test_what_was_before_the_erasure_stays_out_and_what_comes_after_counts(store: KeyValueStore) -> None:
    state = filled(store)
    state.forget_users(["anna"], now=NOW)
    shown = Impression("anna", ("a", "b"), 2 * MINUTE, "list anna", ("b",))
    events = [
        IncomingEvent("anna", "a", MINUTE),
        IncomingEvent("anna", "a", NOW),
        IncomingEvent("anna", "a", NOW + 1),
        IncomingEvent("anna2", "a", NOW + 1),
    ]
    rejected = state.add_events(events)
    assert [(reject.index, reject.code) for reject in rejected] == [(0, "forgotten_user"), (1, "forgotten_user")]
    assert "anna" not in rejected[0].message
    assert [(reject.index, reject.code) for reject in state.add_impressions([shown])] == [(0, "forgotten_user")]
    assert [reject.index for reject in state.add([*events, shown])] == [0, 1, 4]
    assert state.add_users([("anna", b"{}"), ("anna2", b"{}")]) == [0]
    reader = read_online(state, "anna", NOW + MINUTE, ["a"], now=0)
    assert reader.histories.times.tolist() == [NOW + 1]


def test_events_that_were_accepted_before_are_before_the_erasure_whatever_the_clock_says(store: KeyValueStore) -> None:
    state = filled(store)
    assert state.forget_users(["anna"], now=0).time == 3 * MINUTE
    assert state.add_events([IncomingEvent("anna", "b", 3 * MINUTE)]) != []


def test_an_unknown_user_is_forgotten_too_and_a_second_time_changes_nothing(store: KeyValueStore) -> None:
    state = filled(store)
    assert state.forget_users(["nobody", "anna"], now=NOW).known == {"anna"}
    again = state.forget_users(["nobody", "anna"], now=NOW)
    assert (again.known, again.removed) == (frozenset(), {})
    assert len(state.add_events([IncomingEvent("nobody", "a", MINUTE)])) == 1


@pytest.mark.parametrize("user", ["", "\0", "\0at 5", "\ud800"])
def test_no_other_key_is_taken_for_a_users(store: KeyValueStore, user: str) -> None:
    state = filled(store)
    before = dict(store.everything())
    with pytest.raises(InputError, match="user_id: expected a text"):
        state.forget_users(["anna", user], now=NOW)
    assert dict(store.everything()) == before


def test_marks_do_not_name_anybody_and_differ_between_stores(new_place: NewPlace) -> None:
    marks = []
    for _ in range(2):
        with closing(open_store(new_place(), create=True)) as store:
            filled(store).forget_users(["anna"], now=NOW)
            marks.append({key for key, _ in store.everything() if key[:1] == b"f"})
    assert [len(of_store) for of_store in marks] == [2, 2]
    assert marks[0] & marks[1] == {b"f"}


def test_an_erasure_that_fails_leaves_everything(store: KeyValueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    state = filled(store)
    before = dict(store.everything())
    monkeypatch.setattr("features.online.erasure.secrets.token_bytes", lambda n: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        state.forget_users(["anna"], now=NOW)
    assert dict(store.everything()) == before


def test_another_process_on_the_same_server_sees_the_erasure_at_once(redis_server: object) -> None:
    place = redis_server.place()  # type: ignore[attr-defined]
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(open_store(place, create=True))) for _ in range(2)]
        state = filled(stores[0], 10 * MINUTE)
        other = OnlineState.open(stores[1])
        assert len(read_online(other, "anna", NOW, ["a"], now=0).histories.times) == 2
        state.forget_users(["anna"], now=NOW)
        assert len(read_online(other, "anna", NOW, ["a"], now=0).histories.times) == 0
        assert len(other.add_events([IncomingEvent("anna", "a", MINUTE)])) == 1


names = st.sampled_from(["u", "u1", "u11", "v", "\u00fc/%", "u" * 200])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(names, st.sampled_from("abcdef"), st.integers(1, 40)), max_size=30),
    st.sets(names, min_size=1),
    st.sampled_from((0, 20 * MINUTE)),
)
def test_exactly_the_keys_of_forgotten_users_go(
    new_place: NewPlace, events: list[tuple[str, str, int]], forgotten: set[str], delay: int
) -> None:
    with closing(open_store(new_place(), create=True)) as store:
        state = OnlineState.open(store, settings_for(delay=delay))
        state.add_items(BRANDS)
        state.add_events([IncomingEvent(user, item, minute * MINUTE) for user, item, minute in events])
        everybody = {user for user, _, _ in events}
        kept = {user: holds(store, user) for user in everybody - forgotten}
        assert state.forget_users(sorted(forgotten), now=NOW).known == everybody & forgotten
        assert all(holds(store, user) == [] for user in forgotten)
        assert {user: holds(store, user) for user in kept} == kept


def test_a_removed_item_is_unknown_in_its_category_too_until_it_is_stored_again(store: KeyValueStore) -> None:
    state = filled(store)
    features = [feature for feature in EVERYTHING if feature.name.startswith("brand_impressions")]

    def columns() -> list[float]:
        reader = read_online(state, "anna", NOW, ["a", "b"], now=0)
        return [*feature_matrix(features, reader)[1][:, 0].tolist(), *reader.count(Count(CLICK, ITEM)).tolist()]

    before = columns()
    assert state.remove_item("a") is True
    assert state.remove_item("a") is False
    with state.snapshot() as view:
        assert set(view.items(["a", "b"])) == {"b"}
    assert columns()[2:] == before[2:]
    state.add_items(BRANDS)
    assert columns() == before


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,timestamp\nanna,a,1700000000\nanna,b,1700000060\nbob,a,1700000120\n"
    )
    (tmp_path / "impressions.csv").write_text(
        "impression_id,user_id,timestamp,item_id,clicked\n1,anna,1700000000,a,1\n1,anna,1700000000,b,0\n"
    )
    (tmp_path / "users.csv").write_text("user_id,age\nanna,30\nbob,40\n")
    return tmp_path


def test_tables_that_are_loaded_again_leave_forgotten_users_out_and_say_so(place: str, tables: Path) -> None:
    with closing(open_store(place, create=True)) as store:
        state = OnlineState.open(store, settings_for())
        for _ in range(2):
            reports = [
                load.events_into(state, tables / "events.csv", rejects=tables / "rejects"),
                load.events_into(state, tables / "impressions.csv", rejects=tables / "rejects"),
                load_users.users_into(state, tables / "users.csv", rejects=tables / "rejects"),
            ]
            state.forget_users(["anna"], now=1_700_000_000_000_000)
        assert [(report.rows, report.accepted, report.rejected) for report in reports] == [
            (3, 1, {"forgotten_user": 2}),
            (2, 0, {"forgotten_user": 1}),
            (2, 1, {"forgotten_user": 1}),
        ]
        reports[1].require_any(tables)
        assert holds(store, "anna") == []
        assert all("anna" not in path.read_text() for path in (tables / "rejects").iterdir())
