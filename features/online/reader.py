"""The online reader: the counts of one request, from the counters of the online state and the pending deltas.

Answers the same reads as `features.offline.reader`, to the last bit. Everything is fetched from one snapshot when the
reader is made, the keys of all candidates at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from features.arrays import NO_TIME, Bool, CsrLists, Float64, Int32, Int64
from features.clock import oldest_read
from features.definitions.aggregates import (
    ITEM,
    USER_ITEM,
    Aggregate,
    Count,
    Key,
    category_of,
)
from features.history import Histories
from features.log import UNKNOWN, Catalog, Requests
from features.online.counter_deltas import NO_DELTAS, DeltaArrays, delta_arrays
from features.online.delayed_changes import PendingCounters
from features.online.history_records import latest, unpack_history
from features.online.item_arrays import ItemPlaces
from features.online.items import StoredItem, local_catalog
from features.online.keys import CounterKeys, history_key, ledger_keys
from features.online.state import StateSnapshot
from features.stores.base import StoreSnapshot


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
        history_length: int | None = None,
        query: str | None = None,
    ) -> None:
        """time: microseconds; None is `now`, or just after the latest event where that is later. skew: as for
        `StateSnapshot.resolve_request_time`. candidates: distinct item ids. inline: items that came with the request;
        they win over the stored ones.
        history: distinct item ids, oldest first, in place of the stored history; counts stay as stored.
        history_length: items that are read of the stored one, None for all that the store keeps.

        Raises TimeOrderError for a time before the latest event, StoreError where the store cannot be read.
        """
        self.timezone = view.settings.data.timezone
        self.time = view.resolve_request_time(time, now, skew=skew)
        self.delay = view.settings.data.event_delay
        self._as_of = self.time - self.delay
        self._counting = view.counting
        pending = view.pending(self._as_of)
        if history is None:
            length = view.settings.history_length if history_length is None else history_length
            clicks = _history(view, pending, user_id, self._as_of, length)
        else:
            clicks = [(item, NO_TIME) for item in history]
        ids = sorted({*candidates, *(item for item, _ in clicks)})
        self.catalog, self.places, is_stored = _catalog(view, ids, inline or {})
        codes = {item: code for code, item in enumerate(ids)}
        rows = np.fromiter(map(codes.__getitem__, candidates), np.int32, len(candidates))
        self.histories = _histories(clicks, codes)
        self.requests = _requests(user_id, self.time, rows, query)
        self._has_events = np.zeros(len(candidates), np.bool_)
        self._answers = self._fetch(view.values, pending, user_id, candidates)
        nowhere = np.flatnonzero(~(self._has_events | is_stored[rows]))
        self.unknown = tuple([candidates[row] for row in nowhere.tolist()])
        """Candidates that are neither stored, nor came with the request, nor are in any event."""

    def n_values(self, column: str) -> Float64:
        """How many values of a categorical column each candidate row's item has, (n_rows,)."""
        return self.catalog.categories[column].codes.lengths()[self.requests.item].astype(np.float64)

    def answers(self, reads: Sequence[Aggregate], rows: slice) -> Int64:
        """Counts and times of some candidate rows, (n_reads, n); NO_TIME for no event."""
        return self._counting.answer_rows.take(self._answers[:, rows], reads)

    def count(self, read: Count) -> Int64:
        """Events counted for each candidate row, (n_rows,)."""
        answer: Int64 = self.answers((read,), slice(None))[0]
        return answer

    def _fetch(
        self, snapshot: StoreSnapshot, pending: PendingCounters, user: str | None, candidates: Sequence[str]
    ) -> Int64:
        """The answers of every key for each candidate row, (n_answers, n_rows). All counters are fetched at once."""
        counting = self._counting
        groups = [_keys(layout.key, user, candidates, self.catalog) for layout in counting.layouts]
        names = [name for number, keys in enumerate(groups) if keys is not None for name in keys.names(number)]
        first_ledger = len(names)
        if user is not None and counting.user_item_layout.event_types:
            names += ledger_keys(candidates, user)
        values = snapshot.get_many(names)  # all at once: one round trip where the store is on another machine
        answers = np.empty((counting.answer_rows.n_rows, len(candidates)), np.int64)
        self._fill_ledgers(answers[counting.answer_rows.of(USER_ITEM)], values[first_ledger:], user, candidates)
        first = 0
        for number, (layout, keys) in enumerate(zip(counting.layouts, groups, strict=True)):
            end = first if keys is None else first + len(keys)
            deltas = NO_DELTAS if keys is None else pending.deltas(number, keys, self._as_of)
            if layout.key == ITEM:
                self._has_events = np.array([value is not None for value in values[first:end]], np.bool_)
                self._has_events[deltas.row] = True
            self._fill_layout(answers[counting.answer_rows.of(layout.key)], layout.key, values[first:end], deltas)
            first = end
        return answers

    def _fill_layout(self, answers: Int64, key: Key, values: Sequence[bytes | None], deltas: DeltaArrays) -> None:
        """Fill the answers of a key for each candidate row. values: none for an anonymous user."""
        column, layout = category_of(key), self._counting.answers[key]
        if not values:
            values = [None] * (1 if column is None else len(self.catalog.categories[column].values))
        of_keys = layout.of_keys(values, deltas, self._as_of)
        if column is None:
            answers[:] = of_keys
        else:
            layout.combine(of_keys, self.catalog.categories[column].codes, self.requests.item, answers)

    def _fill_ledgers(
        self, answers: Int64, ledgers: Sequence[bytes | None], user: str | None, candidates: Sequence[str]
    ) -> None:
        """Fill the user's events on each candidate, from their ledgers; none where no feature reads them."""
        rows = [
            (row, delta, count)
            for row, ledger in enumerate(ledgers)
            if ledger is not None
            for delta, count in self._counting.ledger_deltas(ledger, user, candidates[row])
            if delta.time < self._as_of
        ]
        of_pairs = self._counting.answers[USER_ITEM]
        if rows:
            answers[:] = of_pairs.of_keys([None] * len(candidates), delta_arrays(rows), self._as_of)
        else:
            answers[:] = of_pairs.of_no_events


def _catalog(
    view: StateSnapshot, ids: Sequence[str], inline: Mapping[str, StoredItem]
) -> tuple[Catalog, ItemPlaces | None, Bool]:
    """The catalog of a request's items, their places in memory where none came with it, and which have columns."""
    settings = view.settings
    found = None if inline else view.catalog(ids)
    if found is not None:
        catalog, places = found
        return catalog, places, places.place > 0
    items = {**view.items(ids), **inline}
    columns, vectors = (settings.categories, settings.numbers), dict(settings.vectors)
    catalog = local_catalog(ids, items, categories=columns[0], numbers=columns[1], vectors=vectors)
    return catalog, None, np.array([item in items for item in ids], np.bool_)


def _keys(key: Key, user: str | None, candidates: Sequence[str], catalog: Catalog) -> CounterKeys | None:
    """The keys of a layout that a request reads: one, one a candidate, or one a category value; None for an anonymous
    user's."""
    if "user" in key and user is None:
        return None
    head = (str(user),) if "user" in key else ()
    column = category_of(key)
    if column is not None:
        return CounterKeys(head, catalog.categories[column].values)
    return CounterKeys(head, candidates if "item" in key else None)


def _history(
    view: StateSnapshot, pending: PendingCounters, user: str | None, as_of: int, length: int
) -> list[tuple[str, int]]:
    if user is None:
        return []
    stored = unpack_history(view.values.get_many([history_key(user)])[0])
    since = oldest_read(as_of, view.settings.data.horizon)
    return [click for click in latest(stored, pending.clicks_of(user, as_of), length) if click[1] >= since]


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
