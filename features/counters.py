"""The log's events by kind, sorted once by a key, and searched for how many of a key precede a moment.

An event is held as key * stride + position, its position being the number of events of its kind before it in time.
One searchsorted among ascending probes then counts for millions of (key, moment) pairs without a loop over either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.errors import InputError
from features.log import NO_TIME, Bool, Int32, Int64, Log
from features.reads import CATALOGUE, CLICK, DATED_CLICK, IMPRESSION, ITEM, USER, USER_ITEM, Key, category_of


@dataclass(frozen=True)
class Occurrences:
    """Events of one kind, or the candidates of shown lists, in time order. user, item: codes. time: microseconds."""

    user: Int32
    item: Int32
    time: Int64

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class Counters:
    """Occurrences by a key.

    composite: (m,) ascending key * stride + position; an item with several values of a category stands under each.
    rank: (m,) how many of the same key precede it. time: (n,) microseconds by position.
    """

    composite: Int64
    rank: Int32
    stride: int
    time: Int64

    def before(self, key: Int64, position: Int64) -> Int64:
        """Place in `composite` after the last of each key's occurrences below `position`; fast for ascending probes."""
        return np.searchsorted(self.composite, key * self.stride + position).astype(np.int64, copy=False)

    def n_of_key(self, key: Int64, end: Int64) -> Int64:
        """How many of each key stand before place `end`, as `before` gave it."""
        if not len(self.composite):
            return np.zeros(len(end), np.int64)
        previous = np.maximum(end - 1, 0)
        same = (end > 0) & (self.composite[previous] >= key * self.stride)
        return np.where(same, self.rank[previous].astype(np.int64) + 1, 0)

    def times(self, place: Int64, found: Bool) -> Int64:
        """Microseconds of the occurrences at places, NO_TIME where not `found`."""
        times = np.full(len(place), NO_TIME, np.int64)
        times[found] = self.time[self.composite[place[found]] % self.stride]
        return times


@dataclass(frozen=True)
class Probes:
    """The keys that a batch of requests asks for, ascending by (key, request); key -1 asks for nothing.

    key, request: (m,). place: (m,) where each answer stands in the order of the rows. offsets: None for one probe a row
    (or a request), else (n_rows + 1,): the answers that each row adds up.
    """

    key: Int64
    request: Int64
    place: Int64
    offsets: Int64 | None

    def unsorted(self, answers: Int64) -> Int64:
        """Answers in the order of the rows, (m,)."""
        result = np.empty_like(answers)
        result[self.place] = answers
        return result


def occurrences(log: Log, what: str, *, dated: bool) -> Occurrences:
    """The occurrences of `what` in a log, with a date or without."""
    if what == IMPRESSION:
        return (
            _shown(log) if dated else Occurrences(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))
        )
    events = log.events
    if what in (CLICK, DATED_CLICK):
        kept = events.positive
    elif what in events.types:
        kept = events.type == events.types.index(what)
    else:
        kept = np.zeros(len(events), bool)
    rows = np.flatnonzero(kept & (events.dated == dated))
    return Occurrences(events.user[rows], events.item[rows], events.time[rows])


def counters(found: Occurrences, by: Key, log: Log) -> Counters:
    """Occurrences sorted by (key, time). Those of an unknown user or item are in no counter that needs one."""
    n = len(found)
    position = np.arange(n, dtype=np.int64)
    key, owner, n_keys = event_keys(found.user, found.item, by, log)
    if owner is not None:
        position = owner
    stride = n + 1
    if n_keys * stride >= 2**63:
        raise InputError(
            f"counts by {by!r}: expected keys times events below 2**63, got {n_keys} keys and {n} events; "
            "split the log by time, or drop the feature"
        )
    composite = (key * stride + position)[key >= 0]
    composite.sort()
    sorted_key = composite // stride
    places = np.arange(len(composite), dtype=np.int64)
    new = np.ones(len(composite), bool)
    new[1:] = sorted_key[1:] != sorted_key[:-1]
    rank = places - np.maximum.accumulate(np.where(new, places, 0))
    return Counters(composite, rank.astype(np.int32), stride, found.time)


def event_keys(user: Int32, item: Int32, by: Key, log: Log) -> tuple[Int64, Int64 | None, int]:
    """Key of each (user, item) pair, -1 for an unknown part; for a category each of its values, and whose it is.

    Returns (m,) keys, (m,) owners or None where key i belongs to pair i, and the number of possible keys.
    """
    users, items, n_items = user.astype(np.int64), item.astype(np.int64), max(1, len(log.catalog))
    column = category_of(by)
    if by == CATALOGUE:
        return np.zeros(len(user), np.int64), None, 1
    if by == USER:
        return users, None, len(log.users)
    if by == ITEM:
        return items, None, n_items
    if by == USER_ITEM:
        return np.where((users < 0) | (items < 0), -1, users * n_items + items), None, len(log.users) * n_items
    if column is None or column not in log.catalog.categories:
        raise InputError(
            f"counts by {by!r}: expected a categorical item column, one of {sorted(log.catalog.categories)}; "
            "name it in the configuration or drop the feature"
        )
    category = log.catalog.categories[column]
    n_values = max(1, len(category.values))
    values = category.codes.take(item)
    owner = np.repeat(np.arange(len(item), dtype=np.int64), values.lengths())
    if len(by) == 1:
        return values.codes.astype(np.int64), owner, n_values
    users = users[owner]
    return np.where(users < 0, -1, users * n_values + values.codes), owner, len(log.users) * n_values


def ascending(key: Int64, request: Int64, offsets: Int64 | None) -> Probes:
    """Probes in ascending order of (key, request), from keys in ascending order of request."""
    bits = max(1, len(key).bit_length())
    if len(key) and int(key.max()) + 1 < 2 ** (63 - bits):
        place = np.sort(((key + 1) << bits) | np.arange(len(key))) & ((1 << bits) - 1)
    else:
        place = np.argsort(key, kind="stable")
    return Probes(key[place], request[place], place, offsets)


def _shown(log: Log) -> Occurrences:
    requests = log.impressions.requests
    kept = np.repeat(~log.impressions.sampled, requests.lengths())
    if kept.all():
        return Occurrences(requests.row_user(), requests.item, requests.row_time())
    return Occurrences(requests.row_user()[kept], requests.item[kept], requests.row_time()[kept])
