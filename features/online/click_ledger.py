"""What one user did with one item: the events and clicked rows as they arrived, and what they amount to.

The one place where a clicked row of a list and an event are found to be the same click, by the rule of
`features.tables.events`, whichever of the two arrives first. Kept as bytes, 20 for each entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

EVENT, CLICKED_ROW, SHOWN = 0, 1, 2
_ENTRY = Struct("<qQHBB")


class Entry(NamedTuple):
    """One arrival. time: microseconds. impression: hash of the impression id, 0 for none. kind: of the event.
    source: EVENT, CLICKED_ROW or SHOWN. named: 1 where the event had an id of its own, and may repeat another.
    """

    time: int
    impression: int
    kind: int
    source: int
    has_event_id: int


class CountedEvent(NamedTuple):
    """What is counted: an event of a kind at a time."""

    time: int
    kind: int


@dataclass(frozen=True)
class Rule:
    """How arrivals become what is counted. matches: whether a kind of event can be the click of a list. row_kind: the
    kind of a clicked row without an event. shown_kind: of an impression. click_window: microseconds.
    """

    matches: Callable[[int], bool]
    row_kind: int
    shown_kind: int
    click_window: int

    def resolve(self, entries: Iterable[Entry]) -> Counter[CountedEvent]:
        """What the entries of one user and item amount to, whatever their order."""
        events = sorted(entry for entry in entries if entry.source == EVENT)
        rows = sorted(entry for entry in entries if entry.source == CLICKED_ROW)
        found = Counter(CountedEvent(entry.time, self.shown_kind) for entry in entries if entry.source == SHOWN)
        times = [event.time for event in events]
        unmatched = self._match(events, rows, times)
        found.update(CountedEvent(time, event.kind) for time, event in zip(times, events, strict=True))
        for time in {row.time for row in unmatched}:
            found[CountedEvent(time, self.row_kind)] = 1
        return found

    def _match(self, events: list[Entry], rows: list[Entry], times: list[int]) -> list[Entry]:
        """The rows without an event. Moves the time of an event stamped before its own list to that list's."""
        usable = [place for place, event in enumerate(events) if self.matches(event.kind)]
        listed = {row.impression for row in rows}
        claimed = {place for place in usable if events[place].impression and events[place].impression in listed}
        unmatched = []
        for row in rows:
            named = [place for place in claimed if events[place].impression == row.impression]
            if named:
                place = min(named)
                times[place] = max(times[place], row.time)
                continue
            free = [place for place in usable if place not in claimed and events[place].time >= row.time]
            if not free or events[free[0]].time - row.time > self.click_window:
                unmatched.append(row)
        return unmatched


def unpack(value: bytes | None) -> list[Entry]:
    """The entries of a stored ledger; none for None."""
    return [Entry(*fields) for fields in _ENTRY.iter_unpack(value or b"")]


def pack(entries: Iterable[Entry]) -> bytes:
    """The bytes of a ledger."""
    return b"".join([_ENTRY.pack(*entry) for entry in entries])


def dedup_key(entry: Entry) -> tuple[int, int, int] | None:
    """What makes an arrival a repeat of another of the same user and item; None for one that repeats nothing here.

    Events with an id of their own are compared by it, elsewhere; others by kind and time; rows of lists by the list.
    """
    if entry.source == EVENT:
        return None if entry.has_event_id else (EVENT, entry.kind, entry.time)
    return (entry.source, entry.impression, 0)
