"""What the online state holds depends on the events that were accepted, not on the batches that they came in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from features.definitions.aggregates import CLICK, IMPRESSION, ITEM, Count, First, Last, hours
from features.definitions.builtin import catalogue, required_aggregates
from features.online.events import Impression, IncomingEvent
from features.online.items import StoredItem
from features.online.keys import counters_key
from features.online.reader import OnlineReader
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from features.stores.base import SCANNED_PREFIXES, StoreSnapshot, scan_prefix
from features.stores.open import open_store
from features.tables.data_settings import DataSettings

NewPlace = Callable[[], str]
MINUTE = 60_000_000
USERS, ITEMS = (None, "u0", "u1"), ("a", "b", "c")

times = st.integers(0, 90).map(lambda minute: minute * MINUTE)
ids = st.none() | st.sampled_from(("e1", "e2", "e3"))
events = st.builds(
    IncomingEvent,
    st.sampled_from(USERS),
    st.sampled_from(ITEMS),
    times,
    st.sampled_from(("click", "view", "Like")),
    st.none() | st.sampled_from(("l1", "l2")),
    ids,
)
shown = st.builds(
    Impression, st.sampled_from(USERS), st.just(("a", "b")), times, st.none() | st.sampled_from(("l1", "l2", "l3"))
)
arrivals = st.lists(events | shown, max_size=25)


def settings_for(delay: int) -> StoreSettings:
    features = catalogue(categories={"brand": ("acme",)})
    return StoreSettings(
        reads=required_aggregates(features),
        data=DataSettings(event_delay_seconds=delay * 60),
        history_length=3,
        categories=("brand",),
    )


def stored(snapshot: StoreSnapshot, reads: Sequence[bytes]) -> list[object]:
    """Everything that is read in ranges, and the values of some further keys."""
    scanned = [pair for first in SCANNED_PREFIXES for pair in scan_prefix(snapshot, bytes((first,)))]
    return [scanned, snapshot.get_many(reads)]


def counters(state: OnlineState) -> Iterator[bytes]:
    """The keys of all counters that these users, items and brands may have."""
    with state.snapshot() as view:
        layouts = view.counting.layouts
    parts = {"user": [user for user in USERS if user], "item": ITEMS, "brand": ("acme", "cord")}
    for number, layout in enumerate(layouts):
        keys: list[tuple[str, ...]] = [()]
        for part in layout.key:
            keys = [(*key, value) for key in keys for value in parts[part]]
        yield from (counters_key(number, key) for key in keys)


@settings(max_examples=20, deadline=None)
@given(arrivals, st.sets(st.integers(0, 25)), st.sampled_from((0, 0, 10)))
def test_the_same_is_stored_however_arrivals_are_cut_into_batches(
    new_place: NewPlace, arrived: list[IncomingEvent | Impression], cuts: set[int], delay: int
) -> None:
    found = []
    for batches in ([arrived], [arrived[i:j] for i, j in zip([0, *sorted(cuts)], [*sorted(cuts), 99], strict=True)]):
        with closing(open_store(new_place(), create=True)) as store:
            state = OnlineState.open(store, settings_for(delay))
            state.add_items(
                [
                    StoredItem("a", categories={"brand": ("acme",)}),
                    StoredItem("b", categories={"brand": ("acme", "cord")}),
                ]
            )
            for batch in batches:
                assert state.add(batch) == []
            with state.snapshot() as view:
                found.append(
                    (view.meta.latest_event_time, view.meta.event_types, stored(view.values, list(counters(state))))
                )
    assert found[0] == found[1]


def test_events_of_many_threads_count_once_each_and_are_there_when_their_call_returns(new_place: NewPlace) -> None:
    reads = (
        Count(CLICK, ITEM),
        Count(IMPRESSION, ITEM),
        Count(CLICK, ITEM, hours(1)),
        First(CLICK, ITEM),
        Last(CLICK, ITEM),
    )
    with closing(open_store(new_place(), create=True)) as store:
        state = OnlineState.open(store, StoreSettings(reads=reads))

        def post(n: int) -> int:
            clicks = [
                IncomingEvent(f"u{n}", "a", MINUTE + n, event_id=f"e{n}"),
                IncomingEvent("u", "a", MINUTE, event_id="all"),
            ]
            rejected = state.add([*clicks, Impression(f"u{n}", ("a", "b"), MINUTE, f"l{n}"), IncomingEvent("u", "", 1)])
            assert [(one.index, one.code) for one in rejected] == [(3, "bad_item_id")]
            return counts()[0]

        def counts() -> list[int]:
            with state.snapshot() as view:
                reader = OnlineReader(view, None, None, ["a"], now=2 * MINUTE)
                return [int(reader.count(read)[0]) for read in reads[:3] if isinstance(read, Count)]

        with ThreadPoolExecutor(8) as threads:
            seen = list(threads.map(post, range(40)))
        assert all(2 <= clicks <= 41 for clicks in seen)
        assert counts() == [41, 40, 41]
