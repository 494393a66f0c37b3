"""The ledger of one user and one item: events, impressions and clicked rows as they arrived, and the events they count.

Here a clicked row of an impression and an event are matched as the same click, by the rule of `features.tables.events`,
whichever of the two arrives first. Stored as bytes, 20 for each entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

EVENT, CLICKED_ROW, SHOWN = 0, 1, 2
SHOWN_TYPE, ROW_TYPE = 0, 1
"""Numbers of the event types of an impression, and of a clicked row that no event matches."""
_ENTRY = Struct("<qQHBB")
ENTRY_BYTES = _ENTRY.size


class LedgerEntry(NamedTuple):
    """One arrival. time: microseconds. impression: hash of the impression id, 0 for none. event_type: its number.
    source: EVENT, CLICKED_ROW or SHOWN. has_event_id: 1 where the event had an id of its own, and may repeat another.
    """

    time: int
    impression: int
    event_type: int
    source: int
    has_event_id: int


class CountedEvent(NamedTuple):
    """An event that is counted. time: microseconds. event_type: its number."""

    time: int
    event_type: int


@dataclass(frozen=True)
class ClickMatching:
    """How the entries of a ledger become counted events. can_match: for each event type whether it can be the click of
    an impression. click_window: microseconds from the impression to its click. rule_met: for each event type of events
    that do not meet the rule of the settings the type of those that do, None where there is none yet.
    """

    can_match: Sequence[bool]
    click_window: int
    rule_met: Mapping[int, int | None] = field(default_factory=dict)

    def resolve(self, entries: Sequence[LedgerEntry]) -> Counter[CountedEvent]:
        """The events that the entries of one user and item count as, whatever their order."""
        events = self._without_repeats(sorted(entry for entry in entries if entry.source == EVENT))
        rows = sorted(entry for entry in entries if entry.source == CLICKED_ROW)
        counted = Counter(CountedEvent(entry.time, SHOWN_TYPE) for entry in entries if entry.source == SHOWN)
        times = [event.time for event in events]
        unmatched = self._match(events, rows, times)
        counted.update(CountedEvent(time, event.event_type) for time, event in zip(times, events, strict=True))
        for time in {row.time for row in unmatched}:
            counted[CountedEvent(time, ROW_TYPE)] = 1
        return counted

    def without_expired(self, entries: Sequence[LedgerEntry], oldest: int) -> Sequence[LedgerEntry]:
        """The entries without which no event from a time on would be counted differently: those from that time on, and
        those of the same impressions, which tell whose click an event is."""
        impressions = {entry.impression for entry in entries if entry.time >= oldest and entry.impression}
        return [entry for entry in entries if entry.time >= oldest or entry.impression in impressions]

    def _without_repeats(self, events: list[LedgerEntry]) -> list[LedgerEntry]:
        """The events but those that do not meet the rule and are of the type and time of one that does: these repeat
        it, however they came."""
        if not any(event.event_type in self.rule_met for event in events):
            return events
        met = {(event.time, event.event_type) for event in events if not event.has_event_id}
        return [
            event
            for event in events
            if event.has_event_id or (event.time, self.rule_met.get(event.event_type)) not in met
        ]

    def _match(self, events: list[LedgerEntry], rows: list[LedgerEntry], times: list[int]) -> list[LedgerEntry]:
        """The rows that no event matches. An event stamped before its impression gets the impression's time."""
        usable = [index for index, event in enumerate(events) if self.can_match[event.event_type]]
        impressions = {row.impression for row in rows}
        claimed = {index for index in usable if events[index].impression and events[index].impression in impressions}
        unmatched = []
        for row in rows:
            named = [index for index in claimed if events[index].impression == row.impression]
            if named:
                index = min(named)
                times[index] = max(times[index], row.time)
                continue
            free = [index for index in usable if index not in claimed and events[index].time >= row.time]
            if not free or events[free[0]].time - row.time > self.click_window:
                unmatched.append(row)
        return unmatched


def unpack(value: bytes | None) -> list[LedgerEntry]:
    """The entries of a stored ledger; none for None."""
    return [LedgerEntry(*fields) for fields in _ENTRY.iter_unpack(value or b"")]


def pack(entries: Iterable[LedgerEntry]) -> bytes:
    """The bytes of a ledger."""
    return b"".join([_ENTRY.pack(*entry) for entry in entries])


def dedup_key(entry: LedgerEntry) -> tuple[int, int, int] | None:
    """Equal for entries of one user and item of which only the first counts; None for one that repeats nothing here.

    Events with an id of their own are compared by it, elsewhere; others by type and time; rows by their impression.
    """
    if entry.source == EVENT:
        return None if entry.has_event_id else (EVENT, entry.event_type, entry.time)
    return (entry.source, entry.impression, 0)
