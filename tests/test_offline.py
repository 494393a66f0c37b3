"""The offline reader against a plain loop over the log."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offline_values import offline_values
from small_logs import MINUTE, Happening, Shown, happenings, lists, make_log, make_requests, undated

from features.arrays import NO_TIME
from features.definitions.aggregates import (
    CLICK,
    DATED_CLICK,
    GLOBAL,
    IMPRESSION,
    ITEM,
    USER,
    USER_ITEM,
    Count,
    First,
    Key,
    Last,
    days,
    hours,
)
from features.definitions.builtin import catalogue
from features.errors import InputError
from features.log import UNKNOWN, Log, chunk_bounds
from features.matrix.columns import feature_matrix
from features.offline.reader import LogIndex, OfflineReader, OfflineSettings
from features.tables.data_settings import DataSettings

KEYS: tuple[Key, ...] = (GLOBAL, ITEM, USER, USER_ITEM, ("brand",), ("user", "brand"))
EVERYTHING = catalogue(categories={"brand": ("acme", "cord")}, numbers=("price",), vectors=("image",))


def reader_of(log: Log, shown: list[Shown], delay: int = 0) -> OfflineReader:
    index, requests = LogIndex(log), make_requests(shown)
    return index.with_settings(OfflineSettings(DataSettings(event_delay_seconds=delay / 1e6))).reader(requests)


def matches(log: Log, by: Key, user: int, item: int, event_user: int, event_item: int) -> int:
    """How often an event counts for a candidate under a key."""
    if "user" in by and (event_user != user or user == UNKNOWN):
        return 0
    if "item" in by:
        return int(event_item == item)
    if "brand" in by:
        brands = log.catalog.categories["brand"].codes
        return len(set(brands.row(item)) & set(brands.row(event_item)))
    return 1


def occurrences(log: Log, what: str) -> list[tuple[int, int, int, bool]]:
    """(user, item, time, dated) of everything of a kind."""
    if what == IMPRESSION:
        shown = log.impressions.requests
        return [
            (int(shown.user[i]), int(item), int(shown.time[i]), True)
            for i in range(len(shown))
            if not log.impressions.sampled[i]
            for item in shown.item[shown.offsets[i] : shown.offsets[i + 1]]
        ]
    events = log.events
    return [
        (int(events.user[i]), int(events.item[i]), int(events.time[i]), bool(events.dated[i]))
        for i in range(len(events))
        if (events.positive[i] if what in (CLICK, DATED_CLICK) else events.types[events.type[i]] == what)
        and (what != DATED_CLICK or events.dated[i])
    ]


def by_loop(log: Log, read: Count | Last | First, user: int, item: int, moment: int) -> int:
    """A read of one candidate at a moment that is already shifted by the delay."""
    found: list[int] = []
    for event_user, event_item, time, dated in occurrences(log, read.event_type):
        inside = time < moment
        if isinstance(read, Count) and read.window is not None:
            cell = read.window // 24
            inside = inside and dated and time // cell >= moment // cell - 24
        elif not isinstance(read, Count):
            inside = inside and dated
        if inside:
            found += [time] * matches(log, read.key, user, item, event_user, event_item)
    if isinstance(read, Count):
        return len(found)
    return (max if isinstance(read, Last) else min)(found, default=NO_TIME)


reads = st.one_of(
    st.builds(
        Count,
        st.sampled_from((CLICK, DATED_CLICK, IMPRESSION, "view", "history")),
        st.sampled_from(KEYS),
        st.sampled_from((None, hours(1), days(1), days(7))),
    ),
    st.builds(Last, st.sampled_from((CLICK, IMPRESSION, "like")), st.sampled_from(KEYS)),
    st.builds(First, st.sampled_from((CLICK, IMPRESSION, "like")), st.sampled_from(KEYS)),
)


@settings(max_examples=300, deadline=None)
@given(happenings, undated, lists, lists, reads, st.sampled_from((0, 7 * MINUTE, days(1))))
def test_every_read_equals_a_plain_loop(
    events: list[Happening], old: list[Happening], shown: list[Shown], asked: list[Shown], read: Count, delay: int
) -> None:
    log = make_log(events + old, shown)
    reader = reader_of(log, asked, delay)
    answer = reader.answers((read,), slice(None))[0]
    users, times = reader.requests.row_user(), reader.requests.row_time()
    expected = [
        by_loop(log, read, int(user), int(item), int(time) - delay)
        for user, item, time in zip(users, reader.requests.item, times, strict=True)
    ]
    assert answer.tolist() == expected


def test_a_window_has_at_most_25_cells_and_an_event_at_the_moment_itself_is_not_before_it() -> None:
    events = [Happening(0, 0, minute) for minute in (0, 59, 60, 120)]
    reader = reader_of(make_log(events, []), [Shown(0, minute, (0,)) for minute in (60, 61, 120, 122, 123)])
    # cells are 2.5 minutes: at 60:00 the window opens in the cell 24 before, at minute 0; at 61:00 just the same
    assert reader.count(Count(CLICK, ITEM, hours(1))).tolist() == [2, 3, 1, 2, 1]


def test_an_unknown_item_and_an_unknown_user_count_nothing() -> None:
    reader = reader_of(make_log([Happening(UNKNOWN, 0, 1), Happening(0, 0, 1)], []), [Shown(UNKNOWN, 5, (0, UNKNOWN))])
    assert reader.count(Count(CLICK, ITEM)).tolist() == [2, 0]
    assert reader.count(Count(CLICK, USER)).tolist() == [0, 0]
    assert reader.answers((Last(CLICK, ITEM),), slice(None))[0].tolist() == [MINUTE, NO_TIME]
    assert reader.count(Count(CLICK, ("brand",))).tolist() == [2, 0]


@settings(max_examples=50, deadline=None)
@given(happenings, undated, lists, st.integers(1, 12), st.integers(1, 3))
def test_the_matrix_is_the_same_at_any_chunk_and_number_of_threads(
    events: list[Happening], old: list[Happening], shown: list[Shown], rows: int, threads: int
) -> None:
    index, requests = LogIndex(make_log(events + old, shown)), make_requests(shown)
    names, whole = feature_matrix(EVERYTHING, index.reader(requests))
    assert whole.shape == (requests.n_rows, len(names))
    index = index.with_settings(OfflineSettings(threads=threads))
    assert offline_values(EVERYTHING, index, requests, rows).tobytes() == whole.tobytes()


@settings(max_examples=50, deadline=None)
@given(happenings, lists, happenings, lists)
def test_events_at_and_after_a_request_change_nothing(
    events: list[Happening], shown: list[Shown], later: list[Happening], later_lists: list[Shown]
) -> None:
    end = max(one.minute for one in shown)
    later = [Happening(one.user, one.item, end + one.minute, one.type) for one in later]
    later_lists = [Shown(one.user, end + one.minute, one.items) for one in later_lists]
    before = feature_matrix(EVERYTHING, reader_of(make_log(events, shown), shown))[1]
    after = feature_matrix(EVERYTHING, reader_of(make_log(events + later, shown + later_lists), shown))[1]
    assert before.tobytes() == after.tobytes()


def test_chunks_never_split_a_request() -> None:
    requests = make_requests([Shown(0, 1, (0, 1)), Shown(0, 1, (0, 1, 2)), Shown(0, 1, (0,))])
    assert chunk_bounds(requests.offsets, 2) == [(0, 1), (1, 2), (2, 3)]
    assert chunk_bounds(requests.offsets, 4) == [(0, 1), (1, 3)]
    assert chunk_bounds(requests.offsets, 100) == [(0, 3)]


def test_a_category_that_no_item_has_is_an_error_that_names_the_columns() -> None:
    reader = reader_of(make_log([], []), [Shown(0, 1, (0,))])
    with pytest.raises(InputError, match=r"colour.*expected a categorical item column, one of \['brand'\]"):
        reader.count(Count(CLICK, ("user", "colour")))


def test_a_window_that_cells_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 24"):
        Count(CLICK, ITEM, 25)


def test_no_requests_have_no_chunks() -> None:
    assert list(LogIndex(make_log([], [])).chunks(make_requests([]), (Count(CLICK, ITEM),))) == []
