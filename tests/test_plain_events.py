"""Posted rows that are read without the validator, against the validator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.serving.event_writer import read_event
from recsys.serving.plain_events import plain_event
from recsys.serving.schemas import Event

USUAL = {"user_id": "u", "item_id": "a", "timestamp": "2024-05-01T10:00:00Z", "event_type": "click", "event_id": "e"}

texts = st.sampled_from(("a", "null", "u" * 512, "u" * 513, "", "é", "\0x", 7, 1.5, None, True, ["a"]))
rows = st.fixed_dictionaries(
    {
        "item_id": texts,
        "timestamp": st.sampled_from(
            ("2024-05-01", "2024-5-1", "then", 1714557600, 1714557600.5, None, "1" * 65, True)
        ),
    },
    optional={
        "user_id": texts,
        "impression_id": texts,
        "event_id": texts,
        "event_type": st.sampled_from(("click", " View", "Impression", "", " ", "x" * 200, "x" * 201, 3, None)),
        "value": st.sampled_from((None, 1, 2.5, "3", True)),
        "items": st.just(["a"]),
        "itemId": st.just("a"),
    },
)


def test_a_usual_row_needs_no_validator() -> None:
    event = plain_event(USUAL, "UTC")
    assert event is not None
    assert event == read_event(Event.model_validate(USUAL), "UTC")
    assert (event.user_id, event.time, event.event_id) == ("u", 1_714_557_600_000_000, "e")


@pytest.mark.parametrize("other", [{"items": ["a"]}, {"item_id": 7}, {"event_type": "Impression"}, {"userId": "u"}])
def test_any_other_row_is_left_to_it(other: dict[str, Any]) -> None:
    assert plain_event(USUAL | other, "UTC") is None


@settings(max_examples=100, deadline=None)
@given(rows, st.sampled_from(("UTC", "Europe/Berlin")))
def test_both_read_a_row_alike(row: dict[str, Any], timezone: str) -> None:
    event = plain_event(row, timezone)
    if event is not None:
        assert event == read_event(Event.model_validate(row), timezone)
