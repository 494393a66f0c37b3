"""The online reader: the counts of one request, from the counters of the online state and the pending deltas.

Answers the same reads as `features.offline.reader`, to the last bit. Everything is fetched from one snapshot when the
reader is made, the keys of all candidates at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from features.arrays import (
    NO_TIME,
    CsrLists,
    Float64,
    Int32,
    Int64,
    segment_first,
    segment_latest,
    segment_sums,
)
from features.definitions.aggregates import GLOBAL, ITEM, USER, USER_ITEM, Count, First, Key, Last, category_of
from features.history import Histories
from features.log import UNKNOWN, Catalog, Requests
from features.online.aggregation import latest, unpack_history
from features.online.counter_deltas import NO_DELTAS, DeltaArrays, delta_arrays
from features.online.counter_records import NEVER_FIRST, CounterLayout, Records, count_deltas
from features.online.delayed_changes import PendingCounters
from features.online.items import StoredItem, local_catalog
from features.online.keys import counter_parts, counters_keys, history_key, ledger_key
from features.online.state import StateSnapshot
from features.stores.base import StoreSnapshot


@dataclass(frozen=True)
class _Counters:
    """The counters of n keys of a layout.

    records: None where none are stored. windows: (n_rings, n) their counts in each window. deltas: not yet in the
    records.
    """

    layout: CounterLayout
    n: int
    deltas: DeltaArrays
    records: Records | None
    windows: Int64


class OnlineReader:
    """`features.definitions.aggregates.FeatureReader` of one request. Row i is the i-th of `candidates`."""

    def __init__(
        self,
        view: StateSnapshot,
        user_id: str | None,
        time: int | None,
        candidates: Sequence[str],
        *,
        now: int,
        skew: int = 0,
        inline: Mapping[str, StoredItem] | None = None,
        history: Sequence[str] | None = None,
        query: str | None = None,
    ) -> None:
        """time: microseconds; None is `now`, or just after the latest event where that is later. skew: as for
        `StateSnapshot.resolve_request_time`. candidates: distinct item ids. inline: items that came with the request;
        they win over the stored ones.
        history: distinct item ids, oldest first, in place of the stored history; counts stay as stored.

        Raises TimeOrderError for a time before the latest event, StoreError where the store cannot be read.
        """
        self.timezone = view.settings.data.timezone
        self.time = view.resolve_request_time(time, now, skew=skew)
        self.delay = view.settings.data.event_delay
        self._as_of = self.time - self.delay
        self._counting = view.counting
        self._counts: dict[Count, Int64] = {}
        pending = view.pending(self._as_of)
        if history is None:
            clicks = _history(view, pending, user_id, self._as_of)
        else:
            clicks = [(item, NO_TIME) for item in history]
        ids = sorted({*candidates, *(item for item, _ in clicks)})
        items = {**view.items(ids), **(inline or {})}
        self.catalog = local_catalog(
            ids,
            items,
            categories=view.settings.categories,
            numbers=view.settings.numbers,
            vectors=dict(view.settings.vectors),
        )
        codes = {item: code for code, item in enumerate(ids)}
        rows = np.array([codes[item] for item in candidates], np.int32)
        self.histories = _histories(clicks, codes)
        self.requests = _requests(user_id, self.time, rows, query)
        self._values = {column: values.codes.take(rows) for column, values in self.catalog.categories.items()}
        self._has_events = np.zeros(len(candidates), np.bool_)
        self._counters = self._fetch(view.values, pending, user_id, candidates)
        self.unknown = tuple(
            item
            for item, has_events in zip(candidates, self._has_events, strict=True)
            if not has_events and item not in items
        )
        """Candidates that are neither stored, nor came with the request, nor are in any event."""

    def n_values(self, column: str) -> Float64:
        """How many values of a categorical column each candidate row's item has, (n_rows,)."""
        return self._values[column].lengths().astype(np.float64)

    def count(self, read: Count) -> Int64:
        """Events counted for each candidate row, (n_rows,); looked up once, not to be written to."""
        if read not in self._counts:
            self._counts[read] = self._count(read)
        return self._counts[read]

    def _count(self, read: Count) -> Int64:
        counters = self._counters[read.key]
        counted = self._counting.counted[read.key][:, counters.layout.index(read.event_type)]
        counts = count_deltas(counters.deltas, read, counted, self._counting.timed, self._as_of, counters.n)
        if counters.records is not None:
            stored = (
                counters.layout.total(counters.records, read.event_type)
                if read.window is None
                else counters.windows[counters.layout.ring(read.event_type, read.window)]
            )
            counts = counts + stored if len(counters.deltas.row) else stored
        return self._to_rows(counts, read.key, segment_sums)

    def last(self, read: Last) -> Int64:
        """Microseconds of the latest timed event for each candidate row, (n_rows,); NO_TIME for none."""
        return self._to_rows(self._times(read, "last", NO_TIME, np.maximum), read.key, segment_latest)

    def first(self, read: First) -> Int64:
        """Microseconds of the first timed event for each candidate row, (n_rows,); NO_TIME for none."""
        times = self._times(read, "first", NEVER_FIRST, np.minimum)
        times[times == NEVER_FIRST] = NO_TIME
        return self._to_rows(times, read.key, segment_first)

    def _times(self, read: Last | First, name: str, none: int, extreme: np.ufunc) -> Int64:
        """The extreme of a record's field and the pending deltas, (n,) one for each key. none: without an event."""
        counters = self._counters[read.key]
        index, deltas = counters.layout.index(read.event_type), counters.deltas
        times = np.full(counters.n, none, np.int64)
        if counters.records is not None:
            times[:] = counters.records[name][:, index]
        counted = self._counting.counted[read.key][:, index] & self._counting.timed
        deltas = deltas.take(counted[deltas.event_type] & (deltas.count > 0))
        extreme.at(times, deltas.row, deltas.time)
        return times

    def _to_rows(self, answers: Int64, key: Key, combine: Callable[[Int64, Int64], Int64]) -> Int64:
        """One answer for each candidate row, from one for each key. combine: of the answers of a row's category values,
        as `segment_sums`.
        """
        column = category_of(key)
        if column is not None:
            values = self._values[column]
            return combine(answers[values.codes], values.offsets)
        return np.repeat(answers, self.requests.n_rows) if key in (GLOBAL, USER) else answers

    def _fetch(
        self, snapshot: StoreSnapshot, pending: PendingCounters, user: str | None, candidates: Sequence[str]
    ) -> dict[Key, _Counters]:
        """The counters of a request under the keys of every layout, all of them fetched at once."""
        counting = self._counting
        keys = [_keys(layout.key, user, candidates, self.catalog) for layout in counting.layouts]
        names = [counters_keys(number, layout_keys or ()) for number, layout_keys in enumerate(keys)]
        ledger_keys = []
        if user is not None and counting.user_item_layout.event_types:
            ledger_keys = [ledger_key(item, user) for item in candidates]
        *values, ledgers = _in_groups(snapshot, [*names, ledger_keys])
        counters = {USER_ITEM: self._of_ledgers(ledgers, user, candidates)}
        for number, (layout_keys, layout_values) in enumerate(zip(keys, values, strict=True)):
            counters[counting.layouts[number].key] = self._of_layout(pending, number, layout_keys, layout_values)
        return counters

    def _of_layout(
        self,
        pending: PendingCounters,
        number: int,
        keys: Sequence[tuple[str, ...]] | None,
        values: Sequence[bytes | None],
    ) -> _Counters:
        """The counters of some keys of a layout. keys: None for an anonymous user."""
        layout = self._counting.layouts[number]
        if keys is None:
            column = category_of(layout.key)
            n = 1 if column is None else len(self.catalog.categories[column].values)
            return _Counters(layout, n, NO_DELTAS, None, np.zeros((len(layout.rings), n), np.int64))
        records = layout.decode(values)
        deltas = pending.deltas(number, keys, self._as_of)
        if layout.key == ITEM:
            self._has_events |= np.array([value is not None for value in values], np.bool_)
            self._has_events[deltas.row] = True
        return _Counters(layout, len(keys), deltas, records, layout.window_counts(records, self._as_of))

    def _of_ledgers(self, ledgers: Sequence[bytes | None], user: str | None, candidates: Sequence[str]) -> _Counters:
        """The user's events on each candidate, from their ledgers; none where no feature reads them."""
        rows = [
            (row, delta, count)
            for row, ledger in enumerate(ledgers)
            if ledger is not None
            for delta, count in self._counting.ledger_deltas(ledger, user, candidates[row])
            if delta.time < self._as_of
        ]
        layout = self._counting.user_item_layout
        return _Counters(layout, len(candidates), delta_arrays(rows), None, np.zeros((0, 0), np.int64))


def _in_groups(snapshot: StoreSnapshot, groups: Sequence[Sequence[bytes]]) -> list[list[bytes | None]]:
    """The values of groups of keys, in one read: one round trip where the store is on another machine."""
    values = iter(snapshot.get_many([key for group in groups for key in group]))
    return [list(islice(values, len(group))) for group in groups]


def _keys(key: Key, user: str | None, candidates: Sequence[str], catalog: Catalog) -> list[tuple[str, ...]] | None:
    """The keys of a layout that a request reads: one, one a candidate, or one a category value; None for an anonymous
    user's."""
    if "user" in key and user is None:
        return None
    return counter_parts(key, (str(user),), candidates, lambda column: catalog.categories[column].values)


def _history(view: StateSnapshot, pending: PendingCounters, user: str | None, as_of: int) -> list[tuple[str, int]]:
    if user is None:
        return []
    stored = unpack_history(view.values.get_many([history_key(user)])[0])
    return latest(stored, pending.clicks_of(user, as_of), view.settings.history_length)


def _histories(clicks: Sequence[tuple[str, int]], codes: Mapping[str, int]) -> Histories:
    items = np.array([codes[item] for item, _ in clicks], np.int32)
    offsets = np.array([0, len(clicks)], np.int64)
    return Histories(CsrLists(offsets, items), np.array([time for _, time in clicks], np.int64))


def _requests(user: str | None, time: int, item: Int32, query: str | None) -> Requests:
    return Requests(
        np.array([UNKNOWN if user is None else 0], np.int32),
        np.array([time], np.int64),
        np.array([0, len(item)], np.int64),
        item,
        None if query is None else np.array([query], dtype=object),
    )
