"""The online state: items, and events counted as they arrive, so that a request can be answered for now.

    state = OnlineState.open(LmdbStore(path), settings)
    state.add_items(items); state.add_events(events); state.add_impressions(lists)
    reader = OnlineReader(state, user_id, time, candidates, now=now)          # features.online.reader

A call returns when what it accepted is on disk. The state depends on what was accepted, never on the order in which
it came: repeats count once, late events count where they belong. A read at t sees exactly the events before t minus
the event delay; t may not lie before the newest accepted event.

A clicked row of a list and its event are one click, by the rule of `features.tables.events`, whichever comes first (an
event without a user and a list with one are never matched). When a counted row gives way to its event, totals, windows
and the item's times are exact; under other keys a first click may stay at the row's time, and with an event delay a
last click and the history too, until the event itself is visible: off by the click window at most.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from struct import Struct
from typing import NamedTuple

import orjson

from features.arrays import NO_TIME
from features.clock import moment_text
from features.definitions.aggregates import IMPRESSION
from features.errors import InputError, StoreMissing, TimeOrderError
from features.online.aggregation import CounterAggregation
from features.online.delayed_changes import PendingCounters, add_pending, pop_visible, read_pending
from features.online.events import (
    CLICKED_ROW_TYPE,
    LARGEST_TIME,
    EventRecord,
    Impression,
    IncomingEvent,
    RejectedEvent,
    parse_events,
    parse_impressions,
)
from features.online.ingest import write_to_ledgers
from features.online.items import StoredItem, unpack_item
from features.online.keys import (
    KINDS,
    META,
    SETTINGS,
    Change,
    item_key,
    user_key,
    value_key,
)
from features.online.settings import StoreSettings, settings_from
from features.stores.base import KeyValueStore, StoreSnapshot, Transaction

_META = Struct("<qQQ")
_BATCH = 20_000
_LISTS = 2_000
HISTORY = -1
"""The place of histories among the tables of an overlay."""
_CACHED_ITEMS = 200_000
_FIRST_KINDS = (IMPRESSION, CLICKED_ROW_TYPE)


class StateMeta(NamedTuple):
    """newest: time of the newest accepted event, NO_TIME for none. sequence, items: how often either changed.
    kinds: names of the kinds of events.
    """

    newest: int
    sequence: int
    items: int
    kinds: tuple[str, ...]


class OnlineState:
    """Items, counters, histories and ledgers in a key-value store. Safe for threads: readers never wait for writers."""

    def __init__(self, store: KeyValueStore, settings: StoreSettings) -> None:
        self.store = store
        self.settings = settings
        self._lock, self._overlay_lock = threading.Lock(), threading.Lock()
        self._counting = CounterAggregation(settings, _FIRST_KINDS)
        self._overlay = PendingCounters(-1)
        self._items: dict[str, StoredItem | None] = {}
        self._items_of = -1

    @classmethod
    def open(cls, store: KeyValueStore, settings: StoreSettings | None = None) -> OnlineState:
        """The state in a store. settings: what is needed of it; written into an empty store, compared with a used one.

        Raises StoreError for a store made for something else, naming both sides, and for an empty one without settings.
        """
        with store.read() as snapshot:
            found = snapshot.get_many([SETTINGS])[0]
        if found is not None:
            own = settings_from(found)
            if settings is not None:
                own.check_serves(settings)
            return cls(store, own)
        if settings is None:
            raise StoreMissing(
                f"online store {store.name!r}: expected one filled by `recsys load-items`, found an empty one"
            )
        data = settings.to_bytes()
        store.update(lambda transaction: transaction.put_many([(SETTINGS, data)]))
        return cls(store, settings)

    def add_events(self, events: Sequence[IncomingEvent], *, latest: int | None = None) -> list[RejectedEvent]:
        """Count events, each once; what cannot be counted comes back with its place in `events`, a code and a reason.

        latest: microseconds; an event of a later time is rejected, for it would make every read before it impossible.
        """
        rejected: list[RejectedEvent] = []
        for start in range(0, len(events), _BATCH):
            arrivals, wrong = parse_events(events[start : start + _BATCH], latest=latest)
            self.store.update(partial(self._arrive, arrivals=arrivals))
            rejected += [replace(one, index=one.index + start) for one in wrong]
        return rejected

    def add_impressions(self, lists: Sequence[Impression], *, latest: int | None = None) -> list[RejectedEvent]:
        """Count shown lists, each once, and the clicks that are known with them; rejected as for `add_events`."""
        rejected: list[RejectedEvent] = []
        for start in range(0, len(lists), _LISTS):
            arrivals, wrong = parse_impressions(lists[start : start + _LISTS], latest=latest)
            self.store.update(partial(self._arrive, arrivals=arrivals))
            rejected += [replace(one, index=one.index + start) for one in wrong]
        return rejected

    def add_batch(self, events: Sequence[IncomingEvent], lists: Sequence[Impression]) -> list[RejectedEvent]:
        """Count events and shown lists in one transaction, for a few of each; rejected as for either, events first."""
        arrivals, rejected = parse_events(events, latest=None)
        shown, rejected_lists = parse_impressions(lists, latest=None)
        self.store.update(partial(self._arrive, arrivals=[*arrivals, *shown]))
        return rejected + rejected_lists

    def add_items(self, items: Sequence[StoredItem]) -> list[str]:
        """Describe items, or describe them anew; the ids of those of which anything changed. Counts by category move
        with an item whose category changes: at once for one first described after its events, at the cost of counting
        the category anew for one that had another.
        """
        changed: list[str] = []
        for start in range(0, len(items), _BATCH):
            ids, times_changed = self.store.update(partial(self._put_items, items=items[start : start + _BATCH]))
            with self._lock:
                for item in ids:
                    self._items.pop(item, None)
                if self._items_of == times_changed - 1:
                    self._items_of = times_changed
            changed += ids
        return changed

    def add_users(self, users: Sequence[tuple[str, bytes]]) -> None:
        """Keep attributes of users, as bytes the caller understands."""
        self.store.update(lambda transaction: transaction.put_many((user_key(user), data) for user, data in users))

    def advance(self, time: int) -> None:
        """Promise that no read before `time` will come, as an event of that time would: what waits is counted."""
        self.store.update(partial(self._apply, changes=(), newest=time))

    @contextmanager
    def snapshot(self) -> Iterator[tuple[StoreSnapshot, StateMeta]]:
        """One consistent view of everything for the reads of a request."""
        with self.store.read() as snapshot:
            yield snapshot, _meta(snapshot)

    def newest(self) -> int:
        """Microseconds of the newest accepted event; NO_TIME in an empty state."""
        with self.snapshot() as (_, meta):
            return meta.newest

    def moment(self, meta: StateMeta, time: int | None, now: int, *, skew: int = 0) -> int:
        """The time of a request: `time`, or without one `now`, or just after the newest event where that is later.

        skew: microseconds by which the clocks of those who write and ask may differ; a time before the newest event by
        no more than that stands for now. Raises TimeOrderError for an earlier one, InputError for one that no calendar
        has.
        """
        if time is not None and time >= LARGEST_TIME:
            raise InputError(f"timestamp: expected fewer than {LARGEST_TIME} microseconds since 1970, got {time}")
        if time is None or meta.newest - skew <= time < meta.newest:
            return max(now, meta.newest + 1)
        if time < meta.newest:
            raise TimeOrderError(
                f"timestamp: the store answers for now, expected {moment_text(meta.newest)} or later, the time of its "
                f"newest event, got {moment_text(time)}; leave the timestamp out to rank after everything acknowledged"
            )
        return time

    def counting(self, meta: StateMeta) -> CounterAggregation:
        """How events are counted, with every kind of event that the snapshot knows."""
        if len(meta.kinds) > len(self._counting.kinds):
            self._counting = CounterAggregation(self.settings, meta.kinds)
        return self._counting

    def items(self, snapshot: StoreSnapshot, meta: StateMeta, ids: Iterable[str]) -> dict[str, StoredItem]:
        """The items of those ids that were described; kept in memory between calls."""
        with self._lock:
            if self._items_of < meta.items:
                self._items, self._items_of = {}, meta.items
            cached = self._items if self._items_of == meta.items else {}
        wanted = list(ids)
        missing = [item for item in wanted if item not in cached]
        values = snapshot.get_many([item_key(item) for item in missing])
        fresh = {
            item: None if value is None else unpack_item(item, value)
            for item, value in zip(missing, values, strict=True)
        }
        with self._lock:
            if self._items_of == meta.items:
                if len(self._items) > _CACHED_ITEMS:
                    self._items = {}
                self._items.update(fresh)
        return {item: known for item in wanted if (known := fresh.get(item) or cached.get(item)) is not None}

    def overlay(self, snapshot: StoreSnapshot, meta: StateMeta, moment: int) -> PendingCounters:
        """The changes that wait, at least those before a moment (already shifted by the delay)."""
        end = min(moment, meta.newest + 1)
        with self._overlay_lock:
            overlay = self._overlay
            if overlay.sequence != meta.sequence:
                overlay = PendingCounters(meta.sequence)
            if overlay.end is None or overlay.end < end:
                changes, counting = read_pending(snapshot, start=overlay.end, end=end), self.counting(meta)
                items = self.items(snapshot, meta, {change.item for change, _ in changes})
                for change, count in changes:
                    keys = counting.counter_keys(change, items.get(change.item))
                    if change.user is not None and counting.is_click(change.kind):
                        keys.append((HISTORY, (change.user,)))
                    overlay.add(change, count, dated=counting.is_dated(change.kind), keys=keys)
                overlay.end = end
            if overlay.sequence >= self._overlay.sequence:
                self._overlay = overlay
            return overlay

    def _arrive(self, transaction: Transaction, arrivals: Sequence[EventRecord]) -> None:
        """Enter arrivals into the ledgers, and count what they change."""
        counting = self._counting_with(transaction, {arrival.kind for arrival in arrivals})
        changes = write_to_ledgers(transaction, counting, arrivals)
        kept = [
            (change, count)
            for change, count in changes.items()
            if count and change.kind in counting.counted_event_types
        ]
        self._apply(transaction, kept, max((arrival.time for arrival in arrivals), default=NO_TIME))

    def _apply(self, transaction: Transaction, changes: Sequence[tuple[Change, int]], newest: int) -> None:
        """Fold what every later read may see, and let the rest wait."""
        meta = _meta(transaction)
        newest = max(newest, meta.newest)
        if newest == NO_TIME:
            return
        horizon = newest - self.settings.data.event_delay
        total = Counter(dict(changes))
        for change, count in pop_visible(transaction, horizon):
            total[change] += count
        due = [(change, count) for change, count in total.items() if count and change.time < horizon]
        self._counting_with(transaction, ()).apply_deltas(transaction, due, horizon)
        add_pending(
            transaction, [(change, count) for change, count in total.items() if count and change.time >= horizon]
        )
        _put_meta(transaction, meta._replace(newest=newest, sequence=meta.sequence + 1))

    def _put_items(self, transaction: Transaction, items: Sequence[StoredItem]) -> tuple[list[str], int]:
        """The ids of items of which something is new, and how often items have changed."""
        meta, counting = _meta(transaction), self._counting_with(transaction, ())
        keys = [item_key(item.item_id) for item in items]
        known = dict(zip(keys, transaction.get_many(keys), strict=True))
        horizon = meta.newest if meta.newest == NO_TIME else meta.newest - self.settings.data.event_delay
        changed = []
        for key, item in zip(keys, items, strict=True):
            before, after = known[key], item.pack()
            if before == after:
                continue
            changed.append(item.item_id)
            known[key] = after
            transaction.put_many([(key, after)])
            old = StoredItem(item.item_id) if before is None else unpack_item(item.item_id, before)
            for number, column in enumerate(self.settings.categories):
                gone = [value for value in old.values(column) if value not in item.values(column)]
                new = [value for value in item.values(column) if value not in old.values(column)]
                transaction.delete_many([value_key(number, value, item.item_id) for value in gone])
                transaction.put_many([(value_key(number, value, item.item_id), b"") for value in new])
                if gone or new:
                    counting.recategorise_item(transaction, item.item_id, column, gone, new, horizon)
        if changed:
            meta = meta._replace(sequence=meta.sequence + 1, items=meta.items + 1)
            _put_meta(transaction, meta)
        return changed, meta.items

    def _counting_with(self, transaction: Transaction, names: Iterable[str]) -> CounterAggregation:
        """How events are counted, with kinds of these names; new ones get the next numbers."""
        known = _meta(transaction).kinds
        new = sorted(set(names) - set(known))
        if new:
            transaction.put_many([(KINDS, orjson.dumps((*known, *new)))])
        if (*known, *new) == self._counting.kinds:
            return self._counting
        return CounterAggregation(self.settings, (*known, *new))


def _meta(snapshot: StoreSnapshot) -> StateMeta:
    meta, kinds = snapshot.get_many([META, KINDS])
    newest, sequence, items = (NO_TIME, 0, 0) if meta is None else _META.unpack(meta)
    return StateMeta(newest, sequence, items, _FIRST_KINDS if kinds is None else tuple(orjson.loads(kinds)))


def _put_meta(transaction: Transaction, meta: StateMeta) -> None:
    transaction.put_many([(META, _META.pack(meta.newest, meta.sequence, meta.items))])
