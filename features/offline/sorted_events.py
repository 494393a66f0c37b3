"""The log's events of one type, sorted once by a key, and searched for how many of a key precede a request.

An event is held as key number << bits | position; its position is the number of events of its type before it in time.
One searchsorted among ascending lookups then counts for millions of (key, request) pairs without a loop over either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import NO_TIME, Bool, Int32, Int64
from features.definitions.aggregates import (
    CLICK,
    DATED_CLICK,
    GLOBAL,
    IMPRESSION,
    Key,
    category_of,
)
from features.errors import InputError
from features.grouping import Keys, group, group_pairs, sort_keys
from features.log import Log


@dataclass(frozen=True)
class EventColumns:
    """Events of one type, or the candidates of impressions, in time order. user, item: codes. time: microseconds."""

    user: Int32
    item: Int32
    time: Int64

    def __len__(self) -> int:
        return len(self.time)

    def take(self, mask: Bool) -> EventColumns:
        """The events where `mask` is True, without a copy where it is True everywhere."""
        if mask.all():
            return self
        rows = np.flatnonzero(mask)
        return EventColumns(self.user[rows], self.item[rows], self.time[rows])


@dataclass(frozen=True)
class SortedEvents:
    """Events by a key.

    composite: (m,) ascending number << bits | position; an item with several values of a category has an entry for
    each. None where one key holds every event, in the order of positions. starts: (k + 2,) where the entries of each
    number begin, then m, then 0, which the number -1 of an absent key reads. keys: (k,) ascending keys that occur;
    their indices are their numbers. None where keys are numbers. time: (n,) microseconds by position.
    """

    composite: Int64 | None
    starts: Int32
    keys: Int64 | None
    bits: int
    time: Int64

    def end_before(self, number: Int64, position: Int64) -> Int64:
        """Index after the last of each number's entries below `position`; fast for ascending lookups."""
        if self.composite is None:
            return position
        return _search(self.composite, self._composite_of(number, position))

    def count_before(self, number: Int64, end: Int64) -> Int64:
        """How many entries each number has before index `end`, as `end_before` returns it."""
        return end - self.starts[number]

    def count_in_window(self, number: Int64, position: Int64, end: Int64) -> Int64:
        """How many entries each number has from `position` on and before index `end`, as `end_before` returns it.

        Lookups whose latest entry is older than the window are not searched: in a short window that is most of them.
        """
        if self.composite is None:
            return end - position
        counts = np.zeros(len(end), np.int64)
        if not len(self.composite):
            return counts
        lowest = self._composite_of(number, position)
        inside = np.flatnonzero(self.composite.take(end - 1, mode="clip") >= lowest)
        counts[inside] = end[inside] - _search(self.composite, lowest[inside])
        return counts

    def times(self, index: Int64, present: Bool) -> Int64:
        """Microseconds of the entries at `index`, NO_TIME where not `present`."""
        times = np.full(len(index), NO_TIME, np.int64)
        position = index[present]
        if self.composite is not None:
            position = self.composite[position] & ((1 << self.bits) - 1)
        times[present] = self.time[position]
        return times

    def _composite_of(self, number: Int64, position: Int64) -> Int64:
        composite = number << self.bits
        composite |= position
        return composite


def _search(composite: Int64, values: Int64) -> Int64:
    """np.searchsorted that looks up runs of equal values once: a long window has few distinct edges."""
    new = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    first = np.flatnonzero(new)
    if 4 * len(first) > 3 * len(values):
        return np.searchsorted(composite, values)
    return np.repeat(np.searchsorted(composite, values[first]), np.diff(first, append=len(values)))


@dataclass(frozen=True)
class Lookups:
    """The keys that a batch of requests looks up, ascending by (key, request); key -1 finds no event.

    key, request: (m,). answer: (m,) index of each answer in the order of the rows. n: number of answers; one
    without a lookup is 0 or NO_TIME. offsets: None for one answer a row (or a request), else (n_rows + 1,): the answers
    of each row.
    """

    key: Int64
    request: Int32
    answer: Int32 | Int64
    n: int
    offsets: Int64 | None

    def numbered(self, events: SortedEvents) -> Lookups:
        """The lookups whose keys occur in `events`, with their numbers as keys."""
        if events.keys is None:
            return self
        number = np.searchsorted(events.keys, self.key)
        occurs = np.zeros(len(number), bool)
        if len(events.keys):
            occurs = events.keys.take(number, mode="clip") == self.key
        return Lookups(number[occurs], self.request[occurs], self.answer[occurs], self.n, self.offsets)

    def in_row_order(self, answers: Int64, nothing: int = 0) -> Int64:
        """Answers in the order of the rows, (n,), `nothing` where there was no lookup."""
        full = len(self.answer) == self.n
        result = np.empty(self.n, np.int64) if full else np.full(self.n, nothing, np.int64)
        result[self.answer] = answers
        return result


def select_events(log: Log, event_type: str, *, dated: bool) -> EventColumns:
    """The events of a type in a log, or the candidates of its impressions, with a time or without."""
    events = log.events
    if event_type == IMPRESSION:
        requests = log.impressions.requests
        candidates = EventColumns(requests.row_user(), requests.item, requests.row_time())
        return candidates.take(np.repeat(~log.impressions.sampled, requests.lengths()) & dated)
    if event_type in (CLICK, DATED_CLICK):
        of_type = events.positive
    elif event_type in events.types:
        of_type = events.type == events.types.index(event_type)
    else:
        of_type = np.zeros(len(events), bool)
    return EventColumns(events.user, events.item, events.time).take(of_type & (events.dated == dated))


def sort_events(events: EventColumns, key: Key, log: Log) -> SortedEvents:
    """Events sorted by (key, time). Those of an unknown user or item are in no counter that needs one."""
    n, bits = len(events), len(events).bit_length()
    if key == GLOBAL:
        return SortedEvents(None, np.array([0, n, 0], np.int32), None, bits, events.time)
    lookup = lookup_keys(events.user, events.item, key, log)
    position = lookup.owner
    has_key = lookup.first >= 0 if lookup.second is None else (lookup.first >= 0) & (lookup.second >= 0)
    if not has_key.all():
        position = np.flatnonzero(has_key).astype(np.int32) if position is None else position[has_key]
        lookup = lookup.take(has_key)
    number, starts, keys, order = _number_keys(lookup)
    number <<= bits
    number |= order if position is None else position[order]
    return SortedEvents(number, np.append(starts, np.int32(0)), keys, bits, events.time)


def _number_keys(lookup: LookupKeys) -> tuple[Int64, Int32, Int64 | None, Int32]:
    """Numbers of keys in ascending order, (m,), where each number begins there, the keys of the numbers or None where
    they are the same, and the order, (m,)."""
    if lookup.second is None:
        order, starts = group(lookup.first, lookup.n_first)
        return np.repeat(np.arange(lookup.n_first), np.diff(starts)), starts, None, order
    order, starts = group_pairs(lookup.first, lookup.second, lookup.n_first, lookup.n_second)
    key = np.repeat(np.arange(lookup.n_first) * lookup.n_second, np.diff(starts))
    key += lookup.second[order]
    new = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=new[1:])
    starts = np.append(np.flatnonzero(new), len(key)).astype(np.int32)
    return np.cumsum(new) - 1, starts, key[new], order


@dataclass(frozen=True)
class LookupKeys:
    """The keys of (user, item) pairs; for a category each of its values. Codes are -1 for what is not known.

    first: (m,) codes below n_first. second: None, or (m,) codes below n_second that make it a key of two parts. owner:
    (m,) which pair each key belongs to, or None where key i belongs to pair i.
    """

    first: Int32
    n_first: int
    second: Int32 | None = None
    n_second: int = 1
    owner: Int32 | None = None

    def take(self, mask: Bool) -> LookupKeys:
        """The keys where `mask` is True, without their owners."""
        second = None if self.second is None else self.second[mask]
        return LookupKeys(self.first[mask], self.n_first, second, self.n_second)

    def as_integers(self) -> tuple[Keys, int]:
        """Each key as one integer, (m,), -1 where a part is not known, and how many there may be."""
        if self.second is None:
            return self.first, self.n_first
        key = self.first.astype(np.int64)
        key *= self.n_second
        key += self.second
        key[(self.first < 0) | (self.second < 0)] = -1
        return key, self.n_first * self.n_second


def lookup_keys(user: Int32, item: Int32, key: Key, log: Log) -> LookupKeys:
    """The keys under which (user, item) pairs are counted or looked up."""
    codes = {"user": (user, len(log.users)), "item": (item, max(1, len(log.catalog)))}
    owner, column = None, category_of(key)
    if column is not None:
        if column not in log.catalog.categories:
            raise InputError(
                f"counts by {key!r}: expected a categorical item column, one of {sorted(log.catalog.categories)}; "
                "name it in the configuration or drop the feature"
            )
        category = log.catalog.categories[column]
        values = category.codes.take(item)
        owner = np.repeat(np.arange(len(item), dtype=np.int32), values.lengths())
        codes = {part: (user[owner], len(log.users)) for part in key[:-1]}
        codes[key[-1]] = (values.codes, max(1, len(category.values)))
    first, *others = [codes[part] for part in key] or [(np.zeros(len(user), np.int32), 1)]
    second: tuple[Int32 | None, int] = others[0] if others else (None, 1)
    return LookupKeys(*first, *second, owner)


def sort_lookups(lookup: LookupKeys, request: Int32, offsets: Int64 | None) -> Lookups:
    """Lookups in ascending order of (key, request). request: (m,) ascending, of each key."""
    key, order = sort_keys(*lookup.as_integers())
    return Lookups(key, request[order], order, len(key), offsets)
