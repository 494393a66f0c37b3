"""The online reader: the counts of one request, from the counters of the online state and what waits beside them.

Answers the same reads as `features.offline.reader`, to the last bit. Everything is fetched from one snapshot when the
reader is made, the keys of all candidates at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from features.arrays import (
    NO_TIME,
    Bool,
    CsrLists,
    Float64,
    Int64,
    Strings,
    segment_first,
    segment_latest,
    segment_sums,
)
from features.definitions.aggregates import GLOBAL, ITEM, USER, USER_ITEM, Count, First, Key, Last, category_of
from features.history import Histories
from features.log import UNKNOWN, Catalog, Requests
from features.online.aggregation import CounterAggregation, latest, unpack_history
from features.online.click_ledger import unpack
from features.online.counter_records import NEVER_FIRST, Changes, CounterLayout, Records, count_changes
from features.online.delayed_changes import PendingCounters, delta_arrays
from features.online.items import StoredItem, local_catalog
from features.online.keys import Change, counters_keys, history_key, ledger_key
from features.online.state import HISTORY, OnlineState
from features.stores.base import StoreSnapshot


@dataclass(frozen=True)
class _Known:
    """What is known under one key, for n of them.

    records: their counters, None where none are kept. windows: (n_rings, n) what those count in each window. changes:
    what they do not hold. counted: which kinds of events each of the table's whats counts.
    """

    table: CounterLayout
    n: int
    records: Records | None
    windows: Int64
    changes: Changes
    counted: Bool


class OnlineReader:
    """`features.definitions.aggregates.FeatureReader` of one request at a moment. Row i is the i-th of `candidates`."""

    def __init__(
        self,
        state: OnlineState,
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
        """time: microseconds; None is `now`, or just after the newest event where that is later. skew: as for
        `OnlineState.moment`. candidates: distinct item ids. inline: items that came with the request; they win over
        the stored ones.
        history: distinct item ids, oldest first, in place of the stored history; what is counted stays as stored.

        Raises TimeOrderError for a time before the newest event, StoreError where the store cannot be read.
        """
        self.delay = state.settings.data.event_delay
        self.timezone = state.settings.data.timezone
        self._counts: dict[Count, Int64] = {}
        with state.snapshot() as (snapshot, meta):
            self.time = state.moment(meta, time, now, skew=skew)
            self._moment = self.time - self.delay
            overlay, counting = state.overlay(snapshot, meta, self._moment), state.counting(meta)
            if history is None:
                past = _history(snapshot, overlay, counting, user_id, self._moment)
            else:
                past = [(item, NO_TIME) for item in history]
            ids = sorted({*candidates, *(item for item, _ in past)})
            items = {**state.items(snapshot, meta, ids), **(inline or {})}
            self.catalog = _catalog(state, ids, items)
            codes = {item: code for code, item in enumerate(ids)}
            item = np.array([codes[item] for item in candidates], np.int32)
            self.histories = _histories(past, codes)
            self.requests = _requests(user_id, self.time, item, query)
            self._values = {column: values.codes.take(item) for column, values in self.catalog.categories.items()}
            self._counted = np.zeros(len(candidates), np.bool_)
            self._known = self._fetch(snapshot, overlay, counting, user_id, candidates)
        self.unknown = tuple(
            item for item, counted in zip(candidates, self._counted, strict=True) if not counted and item not in items
        )
        """Candidates that nothing is known of: neither described nor in any event."""

    def n_values(self, column: str) -> Float64:
        """How many values of a categorical column each candidate row's item has, (n_rows,)."""
        return self._values[column].lengths().astype(np.float64)

    def count(self, read: Count) -> Int64:
        """Events counted for each candidate row, (n_rows,); looked up once, not to be written to."""
        if read not in self._counts:
            self._counts[read] = self._count(read)
        return self._counts[read]

    def _count(self, read: Count) -> Int64:
        known = self._known[read.key]
        counted = known.counted[:, known.table.place(read.event_type)]
        counts = count_changes(known.changes, read, counted, self._moment, known.n)
        if known.records is not None:
            kept = (
                known.table.total(known.records, read.event_type)
                if read.window is None
                else known.windows[known.table.ring(read.event_type, read.window)]
            )
            counts = counts + kept if len(known.changes.row) else kept
        values = self._values_of_rows(read.key)
        if values is None:
            return self._to_rows(counts, read.key)
        return segment_sums(counts[values.codes], values.offsets)

    def last(self, read: Last) -> Int64:
        """Microseconds of the latest dated event for each candidate row, (n_rows,)."""
        known = self._known[read.key]
        times = np.full(known.n, NO_TIME, np.int64)
        if known.records is not None:
            times[:] = known.table.last(known.records, read.event_type)
        changes = self._dated(known, read.event_type)
        np.maximum.at(times, changes.row, changes.time)
        values = self._values_of_rows(read.key)
        if values is None:
            return self._to_rows(times, read.key)
        return segment_latest(times[values.codes], values.offsets)

    def first(self, read: First) -> Int64:
        """Microseconds of the first dated event for each candidate row, (n_rows,)."""
        known = self._known[read.key]
        times = np.full(known.n, NEVER_FIRST, np.int64)
        if known.records is not None:
            times[:] = known.table.first(known.records, read.event_type)
        changes = self._dated(known, read.event_type)
        np.minimum.at(times, changes.row, changes.time)
        times[times == NEVER_FIRST] = NO_TIME
        values = self._values_of_rows(read.key)
        if values is None:
            return self._to_rows(times, read.key)
        return segment_first(times[values.codes], values.offsets)

    def _dated(self, known: _Known, what: str) -> Changes:
        changes = known.changes
        kept = known.counted[changes.kind, known.table.place(what)] & changes.dated & (changes.count > 0)
        return changes.where(kept)

    def _values_of_rows(self, by: Key) -> CsrLists | None:
        """The category values of each candidate row, None for a key without a category."""
        column = category_of(by)
        return None if column is None else self._values[column]

    def _to_rows(self, values: Int64, by: Key) -> Int64:
        return np.repeat(values, self.requests.n_rows) if by in (GLOBAL, USER) else values

    def _fetch(
        self,
        snapshot: StoreSnapshot,
        overlay: PendingCounters,
        counting: CounterAggregation,
        user: str | None,
        candidates: Sequence[str],
    ) -> dict[Key, _Known]:
        """What is known for a request under the keys of every table, all of it fetched at once."""
        keys = [_keys(table.by, user, candidates, self.catalog) for table in counting.tables]
        names = [counters_keys(number, own or ()) for number, own in enumerate(keys)]
        pairs = []
        if user is not None and counting.user_item_layout.whats:
            pairs = [ledger_key(item, user) for item in candidates]
        *values, ledgers = _in_groups(snapshot, [*names, pairs])
        known = {
            table.by: self._of_table(overlay, counting, number, own, found)
            for number, (table, own, found) in enumerate(zip(counting.tables, keys, values, strict=True))
        }
        return known | {USER_ITEM: _pairs(ledgers, counting, user, candidates, self._moment)}

    def _of_table(
        self,
        overlay: PendingCounters,
        counting: CounterAggregation,
        number: int,
        keys: Sequence[tuple[str, ...]] | None,
        values: Sequence[bytes | None],
    ) -> _Known:
        """What is known under keys of one table. keys: None where no user is known."""
        table = counting.tables[number]
        if keys is None:
            column = category_of(table.by)
            n = 1 if column is None else len(self.catalog.categories[column].values)
            windows = np.zeros((len(table.rings), n), np.int64)
            return _Known(table, n, None, windows, delta_arrays(()), counting.counted[table.by])
        records = table.decode(values)
        windows = table.window_counts(records, self._moment)
        changes = overlay.of_table(number, keys, self._moment)
        if table.by == ITEM:
            self._counted |= np.array([value is not None for value in values], np.bool_)
            self._counted[changes.row] = True
        return _Known(table, len(keys), records, windows, changes, counting.counted[table.by])


def _in_groups(snapshot: StoreSnapshot, groups: Sequence[Sequence[bytes]]) -> list[list[bytes | None]]:
    """The values of groups of keys, read together: a store on another machine is asked once."""
    values = iter(snapshot.get_many([key for group in groups for key in group]))
    return [list(islice(values, len(group))) for group in groups]


def _keys(by: Key, user: str | None, candidates: Sequence[str], catalog: Catalog) -> list[tuple[str, ...]] | None:
    """The keys of a table that a request asks for: one, one a candidate, or one a category value; None of nobody."""
    if "user" in by and user is None:
        return None
    if by == GLOBAL:
        return [()]
    if by == ITEM:
        return [(item,) for item in candidates]
    if by == USER:
        return [(str(user),)]
    values = catalog.categories[str(category_of(by))].values
    return [(str(user), value) for value in values] if "user" in by else [(value,) for value in values]


def _pairs(
    ledgers: Sequence[bytes | None],
    counting: CounterAggregation,
    user: str | None,
    candidates: Sequence[str],
    moment: int,
) -> _Known:
    """What the user did with each candidate, from their ledgers; none where nothing has to be known."""
    rows: list[tuple[int, Change, int, bool]] = []
    for row, ledger in enumerate(ledgers):
        if ledger is not None:
            rows += [
                (row, Change(one.time, one.kind, user, candidates[row]), count, counting.is_dated(one.kind))
                for one, count in counting.rule.resolve(unpack(ledger)).items()
            ]
    return _Known(
        counting.user_item_layout,
        len(candidates),
        None,
        np.zeros((0, 0), np.int64),
        delta_arrays(rows, moment),
        counting.counted[USER_ITEM],
    )


def _history(
    snapshot: StoreSnapshot, overlay: PendingCounters, counting: CounterAggregation, user: str | None, moment: int
) -> list[tuple[str, int]]:
    if user is None:
        return []
    stored = unpack_history(snapshot.get_many([history_key(user)])[0])
    waiting = overlay.of_key(HISTORY, (user,), moment)
    clicks = [(change.item, change.time) for change, count, _ in waiting if count > 0]
    return latest(stored, clicks, counting.settings.history_length)


def _histories(history: Sequence[tuple[str, int]], codes: Mapping[str, int]) -> Histories:
    items = np.array([codes[item] for item, _ in history], np.int32)
    offsets = np.array([0, len(history)], np.int64)
    return Histories(CsrLists(offsets, items), np.array([time for _, time in history], np.int64))


def _requests(
    user: str | None, time: int, item: np.ndarray[tuple[int], np.dtype[np.int32]], query: str | None
) -> Requests:
    queries: Strings | None = None if query is None else np.array([query], dtype=object)
    return Requests(
        np.array([UNKNOWN if user is None else 0], np.int32),
        np.array([time], np.int64),
        np.array([0, len(item)], np.int64),
        item,
        queries,
    )


def _catalog(state: OnlineState, ids: Sequence[str], items: Mapping[str, StoredItem]) -> Catalog:
    columns = state.settings
    return local_catalog(
        ids, items, categories=columns.categories, numbers=columns.numbers, vectors=dict(columns.vectors)
    )
