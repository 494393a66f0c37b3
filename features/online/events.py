"""Events and impressions for the online state, checked one by one and split into records of one item each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from features.clock import format_time
from features.definitions.aggregates import CLICK, IMPRESSION
from features.log import HISTORY_TYPE
from features.online.click_ledger import CLICKED_ROW, EVENT, SHOWN
from features.online.keys import MAX_ID_BYTES
from features.tables.event_types import RULE_NOT_MET, canonical_type
from features.tables.positive_rule import PositiveRule

LARGEST_TIME = 253_402_000_000_000_000
"""Microseconds from 1970 to the end of the year 9999, about; the calendar goes no further."""
_MAX_TYPE_LENGTH = 64
CLICKED_ROW_TYPE = ""
_groups = count()
_canonical_type = lru_cache(maxsize=1024)(canonical_type)


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """One row of the events table. user_id None: anonymous. time: microseconds since the epoch. value: the number that
    decides whether it is a click, where the settings have such a rule."""

    user_id: str | None
    item_id: str
    time: int
    event_type: str = CLICK
    impression_id: str | None = None
    event_id: str | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Impression:
    """A list that a user was shown. clicked: those of its items that were clicked. sampled: drawn, not shown, so that
    its clicks count and its items are no impressions.
    """

    user_id: str | None
    items: tuple[str, ...]
    time: int
    impression_id: str | None = None
    clicked: tuple[str, ...] = ()
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """Why a row is rejected. index: its position in the call. code: for programs. message: for people."""

    index: int
    code: str
    message: str


class EventRecord(NamedTuple):
    """One event of one item. event_type: its name, as `counted_type` says. impression: the id of the impression that it
    belongs to. once: equal for records that count once, all records of one `group` together; None where the ledger
    finds repeats. group: a number that no other arrival in this process has.
    """

    user: str | None
    item: str
    time: int
    event_type: str
    source: int
    impression: str | None
    once: str | None
    group: int


def split(
    arrival: IncomingEvent | Impression, records: list[EventRecord], *, latest: int | None, rule: PositiveRule | None
) -> tuple[str, str] | None:
    """Add the records of one arrival to `records`, or say what is wrong with it: a code and a message.

    latest: microseconds, the latest time it may have. rule: which events can be clicks; None is all.
    """
    if isinstance(arrival, Impression):
        problem = _impression_problem(arrival) or _time_problem(arrival.time, latest)
        if problem is None:
            records += _records(arrival)
        return problem
    name = _canonical_type(arrival.event_type) if isinstance(arrival.event_type, str) else arrival.event_type
    problem = _event_problem(arrival, name) or _time_problem(arrival.time, latest)
    if problem is None:
        records.append(
            EventRecord(
                arrival.user_id,
                arrival.item_id,
                arrival.time,
                counted_type(name, arrival.value, rule),
                EVENT,
                arrival.impression_id,
                None if arrival.event_id is None else f"event\0{arrival.event_id}",
                next(_groups),
            )
        )
    return problem


def counted_type(name: str, value: float | None, rule: PositiveRule | None) -> str:
    """The type under which an event of a canonical type is counted: one of its own where it does not meet the rule."""
    if rule is None or name == HISTORY_TYPE or rule.is_met(value):
        return name
    return name + RULE_NOT_MET


def id_problem(field: str, value: object) -> tuple[str, str] | None:
    """Code and message of what is wrong with an id, None if it can be stored."""
    if isinstance(value, str) and value.isascii() and 0 < len(value) <= MAX_ID_BYTES and value[0] != "\0":
        return None
    if not isinstance(value, str) or not value or value.startswith("\0"):
        return f"bad_{field}", f"{field}: expected a text that is not empty, got {value!r}"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return f"bad_{field}", f"{field}: expected valid Unicode, got {value!r}"
    if size > MAX_ID_BYTES:
        return f"bad_{field}", f"{field}: expected at most {MAX_ID_BYTES} bytes of UTF-8, got {size}"
    return None


def _records(impression: Impression) -> Iterator[EventRecord]:
    """The records of an impression: its items once each, and its clicks."""
    group, items = next(_groups), tuple(dict.fromkeys(impression.items))
    name = impression.impression_id
    if name is None:
        name = "\0".join(("", impression.user_id or "", str(impression.time), *items))
    if not impression.sampled:
        once = f"list\0{name}"
        for item in items:
            yield EventRecord(impression.user_id, item, impression.time, IMPRESSION, SHOWN, name, once, group)
    for item in dict.fromkeys(impression.clicked):
        yield EventRecord(impression.user_id, item, impression.time, CLICKED_ROW_TYPE, CLICKED_ROW, name, None, group)


def _event_problem(event: IncomingEvent, name: object) -> tuple[str, str] | None:
    """name: the event's type as it is compared."""
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_TYPE_LENGTH or name == IMPRESSION:
        return (
            "bad_event_type",
            f"event_type: expected 1 to {_MAX_TYPE_LENGTH} characters and, for one item, not {IMPRESSION!r}, "
            f"got {event.event_type!r}",
        )
    return _user_problem(event.user_id) or id_problem("item_id", event.item_id)


def _user_problem(user_id: str | None) -> tuple[str, str] | None:
    return None if user_id is None else id_problem("user_id", user_id)


def _impression_problem(impression: Impression) -> tuple[str, str] | None:
    if (problem := _user_problem(impression.user_id)) is not None:
        return problem
    if not impression.items:
        return "bad_items", "items: expected at least one item id, got none"
    if not set(impression.clicked) <= set(impression.items):
        missing = sorted(set(impression.clicked) - set(impression.items))
        return "bad_items", f"clicked: expected items of the list, got {missing} beside them"
    return next((problem for item in impression.items if (problem := id_problem("item_id", item))), None)


def _time_problem(time: object, latest: int | None) -> tuple[str, str] | None:
    if not isinstance(time, int) or isinstance(time, bool) or not -LARGEST_TIME // 5 < time < LARGEST_TIME:
        return "bad_timestamp", f"timestamp: expected microseconds since 1970 as an integer, got {time!r}"
    if latest is not None and time > latest:
        return (
            "time_in_future",
            f"timestamp: expected {format_time(latest)} or earlier, got {format_time(time)}; is a clock wrong?",
        )
    return None
