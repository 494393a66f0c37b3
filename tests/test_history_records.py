"""Histories extended as bytes, against the same on pairs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from features.online.history_records import extended, latest, pack_click, unpack_history

clicks = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "ab", "é", "日本", "\U0001f600", "z" * 200))
        | st.text("abc", min_size=1, max_size=3),
        st.integers(-3, 3) | st.integers(-(2**62), 2**62),
    ),
    max_size=9,
)


def packed(history: list[tuple[str, int]]) -> bytes:
    return b"".join(pack_click(item, time) for item, time in history)


def test_a_click_on_a_known_item_moves_it_and_the_oldest_go() -> None:
    before = packed([("a", 1), ("b", 2), ("c", 3)])
    after, first, unchanged = extended(
        [before, None, before], [packed([("a", 9), ("d", 3)]), packed([("x", 5)]), packed([("b", 1)])], 3
    )
    assert unpack_history(after) == [("c", 3), ("d", 3), ("a", 9)]
    assert unpack_history(first) == [("x", 5)]
    assert unchanged == before


@settings(deadline=None)
@given(st.lists(st.tuples(clicks, clicks), max_size=4), st.integers(1, 6))
def test_bytes_are_those_of_the_latest_pairs(
    users: list[tuple[list[tuple[str, int]], list[tuple[str, int]]]], n: int
) -> None:
    stored = [latest([], old, n) for old, _ in users]
    expected = [packed(latest(old, new, n)) for old, (_, new) in zip(stored, users, strict=True)]
    assert extended([packed(old) or None for old in stored], [packed(new) for _, new in users], n) == expected
