"""Histories against a plain loop over the log."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.history import clicks_by_user, histories
from features.log import Events, Requests


def make_events(rows: list[tuple[int, int, int, bool]]) -> Events:
    rows = sorted(rows, key=lambda row: (row[2], row[1]))
    user, item, time, positive = (np.array(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
    n = len(rows)
    return Events(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.array(time, np.int64),
        np.zeros(n, np.int8),
        ("click",),
        np.array(positive, bool),
        np.ones(n, bool),
    )


def make_requests(pairs: list[tuple[int, int]]) -> Requests:
    n = len(pairs)
    user = np.array([pair[0] for pair in pairs], np.int32)
    time = np.array([pair[1] for pair in pairs], np.int64)
    return Requests(user, time, np.arange(n + 1, dtype=np.int64), np.zeros(n, np.int32))


def test_a_history_holds_each_item_once_at_its_latest_click_before_the_request() -> None:
    events = make_events([(0, 7, 1, True), (0, 8, 2, True), (0, 7, 3, True), (0, 9, 4, True), (0, 5, 3, False)])
    found = histories(clicks_by_user(events, 1), make_requests([(0, 4), (0, 3), (-1, 9), (0, 5)]), length=2)
    assert [list(found.items.row(i)) for i in range(4)] == [[8, 7], [7, 8], [], [7, 9]]
    assert list(found.times) == [2, 3, 1, 2, 3, 4]


def test_the_delay_hides_events_that_are_not_known_yet() -> None:
    events = make_events([(0, 7, 1, True), (0, 8, 5, True)])
    found = histories(clicks_by_user(events, 1), make_requests([(0, 10)]), length=9, delay=5)
    assert list(found.items.row(0)) == [7]


event_rows = st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 5), st.integers(0, 30), st.booleans()), max_size=120)


@given(
    event_rows,
    st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 40)), min_size=1, max_size=8),
    st.sampled_from((None, 24)),
)
def test_histories_equal_a_plain_loop(
    rows: list[tuple[int, int, int, bool]], pairs: list[tuple[int, int]], horizon: int | None
) -> None:
    found = histories(clicks_by_user(make_events(rows), 3), make_requests(pairs), length=4, horizon=horizon)
    for i, (user, time) in enumerate(pairs):
        latest: dict[int, int] = {}
        for event_user, item, event_time, positive in rows:
            within = horizon is None or event_time >= time - horizon
            if positive and event_user == user >= 0 and event_time < time and within:
                latest[item] = max(event_time, latest.get(item, event_time))
        expected = sorted(latest, key=lambda item: (latest[item], item))[-4:]
        assert list(found.items.row(i)) == expected


def test_a_user_with_more_repeats_than_the_first_window_still_has_every_item() -> None:
    events = make_events([(0, 1, 0, True), *((0, 2, time, True) for time in range(1, 500))])
    found = histories(clicks_by_user(events, 1), make_requests([(0, 1000)]), length=50)
    assert list(found.items.row(0)) == [1, 2]


def test_no_requests_have_no_histories() -> None:
    assert len(histories(clicks_by_user(make_events([(0, 1, 0, True)]), 1), make_requests([]), length=5)) == 0
