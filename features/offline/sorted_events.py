"""The log's events by kind, grouped once by a key, and searched for how many of a key precede a moment.

An event is held as key number << bits | position, its position being the number of events of its kind before it in
time. One searchsorted among ascending probes then counts for millions of (key, moment) pairs without a loop over
either.
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
    ITEM,
    USER,
    USER_ITEM,
    Key,
    category_of,
)
from features.errors import InputError
from features.grouping import Keys, grouped, grouped_pairs, ordered
from features.log import Log


@dataclass(frozen=True)
class EventColumns:
    """Events of one kind, or the candidates of shown lists, in time order. user, item: codes. time: microseconds."""

    user: Int32
    item: Int32
    time: Int64

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class SortedEvents:
    """Occurrences by a key.

    composite: (m,) ascending number << bits | position; an item with several values of a category stands under each.
    None where one key holds every occurrence in its position. starts: (k + 2,) where each number begins, then m, then
    0: what number -1, which nothing has, begins with. keys: (k,) ascending keys that occur, whose places are their
    numbers, or None where keys are numbers. time: (n,) microseconds by position.
    """

    composite: Int64 | None
    starts: Int32
    keys: Int64 | None
    bits: int
    time: Int64

    def before(self, number: Int64, position: Int64) -> Int64:
        """Place after the last of each number's occurrences below `position`; fast for ascending probes."""
        if self.composite is None:
            return position
        return _searched(self.composite, self._wanted(number, position))

    def since(self, number: Int64, position: Int64, end: Int64) -> Int64:
        """How many of each number stand from `position` on and before place `end`, as `before` gave it. Where the
        latest is older than that, as with most items in a short window, nothing is searched."""
        if self.composite is None:
            return end - position
        wanted = self._wanted(number, position)
        some = np.flatnonzero(self.composite.take(end - 1, mode="clip") >= wanted) if len(self.composite) else end[:0]
        found = np.zeros(len(end), np.int64)
        found[some] = end[some] - _searched(self.composite, wanted[some])
        return found

    def _wanted(self, number: Int64, position: Int64) -> Int64:
        wanted = number << self.bits
        wanted |= position
        return wanted

    def count_before(self, number: Int64, end: Int64) -> Int64:
        """How many of each number stand before place `end`, as `before` gave it."""
        return end - self.starts[number]

    def times(self, place: Int64, found: Bool) -> Int64:
        """Microseconds of the occurrences at places, NO_TIME where not `found`."""
        times = np.full(len(place), NO_TIME, np.int64)
        position = place[found]
        if self.composite is not None:
            position = self.composite[position] & ((1 << self.bits) - 1)
        times[found] = self.time[position]
        return times


def _searched(composite: Int64, wanted: Int64) -> Int64:
    """np.searchsorted that looks up runs of equal probes once: the edges of a long window are few."""
    new = np.ones(len(wanted), bool)
    np.not_equal(wanted[1:], wanted[:-1], out=new[1:])
    first = np.flatnonzero(new)
    if 4 * len(first) > 3 * len(wanted):
        return np.searchsorted(composite, wanted)
    return np.repeat(np.searchsorted(composite, wanted[first]), np.diff(first, append=len(wanted)))


@dataclass(frozen=True)
class Lookups:
    """The keys that a batch of requests asks for, ascending by (key, request); key -1 asks for nothing.

    key, request: (m,). place: (m,) where each answer stands in the order of the rows. n: how many answers there are;
    those that no probe asks for are nothing. offsets: None for one answer a row (or a request), else (n_rows + 1,): the
    answers that each row adds up.
    """

    key: Int64
    request: Int32
    place: Int32 | Int64
    n: int
    offsets: Int64 | None

    def of(self, table: SortedEvents) -> Lookups:
        """The probes whose keys occur in a table, with their numbers as keys."""
        if table.keys is None:
            return self
        number = np.searchsorted(table.keys, self.key)
        known = np.zeros(len(number), bool)
        if len(table.keys):
            known = table.keys.take(number, mode="clip") == self.key
        return Lookups(number[known], self.request[known], self.place[known], self.n, self.offsets)

    def in_row_order(self, answers: Int64, nothing: int = 0) -> Int64:
        """Answers in the order of the rows, (n,), `nothing` where there was no probe."""
        full = len(self.place) == self.n
        result = np.empty(self.n, np.int64) if full else np.full(self.n, nothing, np.int64)
        result[self.place] = answers
        return result


def occurrences(log: Log, what: str, *, dated: bool) -> EventColumns:
    """The occurrences of `what` in a log, with a date or without."""
    if what == IMPRESSION:
        return (
            _shown(log) if dated else EventColumns(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))
        )
    events = log.events
    if what in (CLICK, DATED_CLICK):
        kept = events.positive & (events.dated == dated)
    elif what in events.types:
        kept = (events.type == events.types.index(what)) & (events.dated == dated)
    else:
        kept = np.zeros(len(events), bool)
    if kept.all():
        return EventColumns(events.user, events.item, events.time)
    rows = np.flatnonzero(kept)
    return EventColumns(events.user[rows], events.item[rows], events.time[rows])


def counters(found: EventColumns, by: Key, log: Log) -> SortedEvents:
    """Occurrences sorted by (key, time). Those of an unknown user or item are in no counter that needs one."""
    n, bits = len(found), len(found).bit_length()
    if by == GLOBAL:
        return SortedEvents(None, np.array([0, n, 0], np.int32), None, bits, found.time)
    asked = asked_keys(found.user, found.item, by, log)
    position = asked.owner
    known = asked.key >= 0 if asked.other is None else (asked.key >= 0) & (asked.other >= 0)
    if not known.all():
        position = np.flatnonzero(known).astype(np.int32) if position is None else position[known]
        asked = asked.take(known)
    number, starts, keys, order = _numbered(asked)
    number <<= bits
    number |= order if position is None else position[order]
    return SortedEvents(number, np.append(starts, np.int32(0)), keys, bits, found.time)


def _numbered(asked: LookupKeys) -> tuple[Int64, Int32, Int64 | None, Int32]:
    """Numbers of keys in ascending order, (m,), where each number begins there, the keys of the numbers or None where
    they are the same, and the order, (m,)."""
    if asked.other is None:
        order, starts = grouped(asked.key, asked.n_keys)
        return np.repeat(np.arange(asked.n_keys), np.diff(starts)), starts, None, order
    order, starts = grouped_pairs(asked.key, asked.other, asked.n_keys, asked.n_others)
    key = np.repeat(np.arange(asked.n_keys) * asked.n_others, np.diff(starts))
    key += asked.other[order]
    new = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=new[1:])
    starts = np.append(np.flatnonzero(new), len(key)).astype(np.int32)
    return np.cumsum(new) - 1, starts, key[new], order


@dataclass(frozen=True)
class LookupKeys:
    """The keys of (user, item) pairs; for a category each of its values. Codes are -1 for what is not known.

    key: (m,) codes below n_keys. other: None, or (m,) codes below n_others that make it a key of two parts. owner:
    (m,) which pair each key belongs to, or None where key i belongs to pair i.
    """

    key: Int32
    n_keys: int
    other: Int32 | None = None
    n_others: int = 1
    owner: Int32 | None = None

    def take(self, kept: Bool) -> LookupKeys:
        """The keys where `kept`, without their owners."""
        other = None if self.other is None else self.other[kept]
        return LookupKeys(self.key[kept], self.n_keys, other, self.n_others)

    def whole(self) -> tuple[Keys, int]:
        """Each key as one integer, (m,), -1 where a part is not known, and how many there may be."""
        if self.other is None:
            return self.key, self.n_keys
        key = self.key.astype(np.int64)
        key *= self.n_others
        key += self.other
        key[(self.key < 0) | (self.other < 0)] = -1
        return key, self.n_keys * self.n_others


def asked_keys(user: Int32, item: Int32, by: Key, log: Log) -> LookupKeys:
    """The keys under which (user, item) pairs are counted, or asked for."""
    n_users, n_items, column = len(log.users), max(1, len(log.catalog)), category_of(by)
    if by == GLOBAL:
        return LookupKeys(np.zeros(len(user), np.int32), 1)
    if by == USER:
        return LookupKeys(user, n_users)
    if by == ITEM:
        return LookupKeys(item, n_items)
    if by == USER_ITEM:
        return LookupKeys(user, n_users, item, n_items)
    if column is None or column not in log.catalog.categories:
        raise InputError(
            f"counts by {by!r}: expected a categorical item column, one of {sorted(log.catalog.categories)}; "
            "name it in the configuration or drop the feature"
        )
    category = log.catalog.categories[column]
    values, n_values = category.codes.take(item), max(1, len(category.values))
    owner = np.repeat(np.arange(len(item), dtype=np.int32), values.lengths())
    if len(by) == 1:
        return LookupKeys(values.codes, n_values, owner=owner)
    return LookupKeys(user[owner], n_users, values.codes, n_values, owner)


def sort_lookups(asked: LookupKeys, request: Int32, offsets: Int64 | None) -> Lookups:
    """Probes in ascending order of (key, request). request: (m,) ascending, of each key."""
    key, place = ordered(*asked.whole())
    return Lookups(key, request[place], place, len(key), offsets)


def _shown(log: Log) -> EventColumns:
    requests = log.impressions.requests
    kept = np.repeat(~log.impressions.sampled, requests.lengths())
    if kept.all():
        return EventColumns(requests.row_user(), requests.item, requests.row_time())
    return EventColumns(requests.row_user()[kept], requests.item[kept], requests.row_time()[kept])
