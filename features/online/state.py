"""The online state: items, and events counted as they arrive, so that a request can be answered for now.

    state = OnlineState.open(LmdbStore(path), settings)
    state.add_items(items); state.add_events(events); state.add_impressions(lists)
    with state.snapshot() as view:
        reader = OnlineReader(view, user_id, time, candidates, now=now)       # features.online.reader

A call returns when what it accepted is on disk. The state depends on what was accepted, never on the order in which
it came: repeats count once, late events count at their own time. A read at t sees exactly the events before t minus the
event delay; t may not lie before the newest accepted event.

A clicked row of an impression and its event are one click, by the rule of `features.tables.events`, whichever comes
first (an event without a user and an impression with one are never matched). When an event replaces a counted row,
totals, windows and the item's times are exact; under other keys a first click may stay at the row's time, and with an
event delay a last click and the history too, until the event itself is visible: off by the click window at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from struct import Struct
from threading import Lock
from typing import NamedTuple, TypeVar

import orjson

from features.arrays import NO_TIME
from features.clock import format_time
from features.definitions.aggregates import IMPRESSION
from features.errors import InputError, StoreMissing, TimeOrderError
from features.log import Catalog
from features.online.aggregation import CounterAggregation, unpack_history
from features.online.click_ledger import EVENT
from features.online.delayed_changes import PendingCounters, add_pending, pop_visible, read_pending
from features.online.erasure import Erasure, erase, put_attributes, rejections, user_search, without_forgotten
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
from features.online.item_arrays import ItemArrays, ItemPlaces
from features.online.items import ItemCache, StoredItem, unpack_item
from features.online.keys import (
    EVENT_TYPES,
    FORGOTTEN,
    HISTORIES,
    ITEMS,
    META,
    SETTINGS,
    item_key,
    last_part,
    value_key,
)
from features.online.settings import StoreSettings, settings_from
from features.stores.base import KeyValueStore, StoreSnapshot, Transaction, scan_prefix

_META = Struct("<qQQ")
_EVENTS_AT_ONCE, _IMPRESSIONS_AT_ONCE, _ITEMS_AT_ONCE = 20_000, 2_000, 20_000
_FIRST_EVENT_TYPES = (IMPRESSION, CLICKED_ROW_TYPE)
_Incoming = TypeVar("_Incoming", IncomingEvent, Impression)


class StateMeta(NamedTuple):
    """latest_event_time: of the accepted events, microseconds; NO_TIME for none. sequence, items: how often either
    changed. event_types: names of the event types. salt: of the marks of forgotten users, None before the first.
    """

    latest_event_time: int
    sequence: int
    items: int
    event_types: tuple[str, ...]
    salt: bytes | None


class StateSnapshot:
    """One consistent view of the state: whatever a request reads comes from one of these. values: the store's."""

    def __init__(self, state: OnlineState, values: StoreSnapshot) -> None:
        self.values = values
        self.settings = state.settings
        self.meta = _read_meta(values)
        self.counting = state.counting(self.meta.event_types)
        self._state = state

    def items(self, ids: Iterable[str]) -> dict[str, StoredItem]:
        """The items of those ids that are stored; kept in memory between calls."""
        return self._state.item_cache.read(self.values, self.meta.items, ids)

    def catalog(self, ids: Sequence[str]) -> tuple[Catalog, ItemPlaces] | None:
        """As `ItemArrays.catalog`."""
        return self._state.item_arrays.catalog(self.values, self.meta.items, ids)

    def pending(self, as_of: int) -> PendingCounters:
        """The pending deltas, at least those before `as_of`, a time minus the event delay."""
        return self._state.pending(self, as_of)

    def resolve_request_time(self, time: int | None, now: int, *, skew: int = 0) -> int:
        """The time of a request: `time`, or without one `now`, or just after the latest event where that is later.

        skew: microseconds by which the clocks of writers and readers may differ; a time before the latest event by no
        more than that becomes the current time. Raises TimeOrderError for an earlier one, InputError for one beyond
        the calendar.
        """
        latest = self.meta.latest_event_time
        if time is not None and time >= LARGEST_TIME:
            raise InputError(f"timestamp: expected fewer than {LARGEST_TIME} microseconds since 1970, got {time}")
        if time is None or latest - skew <= time < latest:
            return max(now, latest + 1)
        if time < latest:
            raise TimeOrderError(
                f"timestamp: the store answers for now, expected {format_time(latest)} or later, the time of its "
                f"newest event, got {format_time(time)}; leave the timestamp out to rank after everything acknowledged"
            )
        return time

    def first_items(self, n: int) -> list[StoredItem]:
        """The first n stored items."""
        return [unpack_item(item, value) for item, value in self._first(ITEMS, n)]

    def first_histories(self, n: int) -> dict[str, list[tuple[str, int]]]:
        """(item, time) clicks of the first n users who have a history."""
        return {user: unpack_history(value) for user, value in self._first(HISTORIES, n)}

    def _first(self, prefix: bytes, n: int) -> list[tuple[str, bytes]]:
        return [(last_part(key, prefix), value) for key, value in islice(scan_prefix(self.values, prefix), n)]


class OnlineState:
    """Items, counters, histories and ledgers in a key-value store. Safe for threads: readers never wait for writers."""

    def __init__(self, store: KeyValueStore, settings: StoreSettings) -> None:
        self.store = store
        self.settings = settings
        self.item_cache, self.item_arrays = ItemCache(), ItemArrays(settings)
        self._counting = CounterAggregation(settings, _FIRST_EVENT_TYPES)
        self._pending = PendingCounters(-1)
        self._pending_lock = Lock()

    @classmethod
    def open(cls, store: KeyValueStore, settings: StoreSettings | None = None) -> OnlineState:
        """The state in a store. settings: what it has to count; written into an empty store, compared with a used one.

        Raises StoreError for a store of other settings, naming both, and for an empty one without settings.
        """
        with store.read() as snapshot:
            stored = snapshot.get_many([SETTINGS])[0]
        if stored is not None:
            stored_settings = settings_from(stored)
            if settings is not None:
                stored_settings.check_serves(settings)
            return cls(store, stored_settings)
        if settings is None:
            raise StoreMissing(
                f"online store {store.name!r}: expected one filled by `recsys load-items`, found an empty one"
            )
        data = settings.to_bytes()
        store.update(lambda transaction: transaction.put_many([(SETTINGS, data)]))
        return cls(store, settings)

    def add_events(self, events: Sequence[IncomingEvent], *, latest: int | None = None) -> list[RejectedEvent]:
        """Count events, each once; those that cannot be counted come back with their index, a code and a message.

        latest: microseconds; an event of a later time is rejected, since no read before its time would be possible.
        """
        rule = self.settings.data.positive_rule
        return self._add(events, partial(parse_events, latest=latest, rule=rule), _EVENTS_AT_ONCE)

    def add_impressions(self, impressions: Sequence[Impression], *, latest: int | None = None) -> list[RejectedEvent]:
        """Count impressions, each once, and the clicks that come with them; rejected as for `add_events`."""
        return self._add(impressions, partial(parse_impressions, latest=latest), _IMPRESSIONS_AT_ONCE)

    def _add(
        self,
        rows: Sequence[_Incoming],
        parse: Callable[[Sequence[_Incoming]], tuple[list[EventRecord], list[RejectedEvent]]],
        at_once: int,
    ) -> list[RejectedEvent]:
        rejected: list[RejectedEvent] = []
        for start in range(0, len(rows), at_once):
            records, wrong = parse(rows[start : start + at_once])
            wrong += rejections(self.store.update(partial(self._ingest, records=records)))
            rejected += [replace(reject, index=reject.index + start) for reject in wrong]
        return rejected

    def add_batch(self, events: Sequence[IncomingEvent], impressions: Sequence[Impression]) -> list[RejectedEvent]:
        """Count events and impressions in one transaction, for a few of each; rejected as for either, events first."""
        records, rejected = parse_events(events, latest=None, rule=self.settings.data.positive_rule)
        of_impressions, rejected_impressions = parse_impressions(impressions, latest=None)
        refused = self.store.update(partial(self._ingest, records=[*records, *of_impressions]))
        rejected += rejections(record for record in refused if record.source == EVENT)
        return rejected + rejected_impressions + rejections(record for record in refused if record.source != EVENT)

    def add_items(self, items: Sequence[StoredItem]) -> list[str]:
        """Store items, or replace stored ones; the ids of those that changed. Counts by category move with an item
        whose category changes: at once for one that is stored after its events, at the cost of counting the category
        again for one that had another.
        """
        changed: list[str] = []
        for start in range(0, len(items), _ITEMS_AT_ONCE):
            ids, version = self.store.update(partial(self._put_items, items=items[start : start + _ITEMS_AT_ONCE]))
            self._items_changed(ids, version)
            changed += ids
        return changed

    def _items_changed(self, ids: Sequence[str], version: int) -> None:
        if ids:  # without a change of its own this process may have missed one of another
            self.item_cache.forget(ids, version)
            self.item_arrays.forget(ids, version)

    def remove_item(self, item_id: str) -> bool:
        """Remove a stored item, whose counts by category go with it; whether it was stored. What users did with it, and
        its own counts, stay: they count again when it is stored again."""
        ids, version = self.store.update(partial(self._put_items, items=[StoredItem(item_id)], remove=True))
        self._items_changed(ids, version)
        return bool(ids)

    def add_users(self, users: Sequence[tuple[str, bytes]]) -> list[int]:
        """Store attributes of users, as bytes that the caller reads; the positions of forgotten users, of whom none
        are kept."""
        return self.store.update(partial(put_attributes, users=users))

    def forget_users(self, users: Sequence[str], *, now: int) -> Erasure:
        """Remove everything that is held under users' ids, in one transaction, and keep their earlier events out from
        now on. now: microseconds; where an event is newer, its time.

        Looks through the store: collect users for one call. Raises InputError for what is no user's id.
        """
        search = user_search(users, self._counting.layouts)

        def forget(transaction: Transaction, keys: list[bytes]) -> Erasure:
            meta = _read_meta(transaction)
            _put_meta(transaction, meta._replace(sequence=meta.sequence + 1))
            return erase(transaction, meta.salt, search, keys, max(now, meta.latest_event_time))

        return self.store.update_matching(search, forget)

    @contextmanager
    def snapshot(self) -> Iterator[StateSnapshot]:
        """One consistent view of everything for the reads of a request."""
        with self.store.read() as values:
            yield StateSnapshot(self, values)

    def counting(self, event_types: tuple[str, ...]) -> CounterAggregation:
        """How events of these types are counted; the last result stays in memory."""
        counting = self._counting
        if event_types != counting.event_types:
            self._counting = counting = CounterAggregation(self.settings, event_types)
        return counting

    def pending(self, view: StateSnapshot, as_of: int) -> PendingCounters:
        """`StateSnapshot.pending`, from memory where the state has not changed since."""
        end = min(as_of, view.meta.latest_event_time + 1)
        with self._pending_lock:
            pending = self._pending
            if pending.sequence != view.meta.sequence:
                pending = PendingCounters(view.meta.sequence)
            if pending.end is None or pending.end < end:
                deltas = read_pending(view.values, start=pending.end, end=end)
                items = view.items({delta.item for delta, _ in deltas})
                for delta, count in deltas:
                    keys = view.counting.counter_keys(delta, items.get(delta.item))
                    pending.add(delta, count, keys=keys, click=view.counting.is_click(delta.event_type))
                pending.end = end
            if pending.sequence >= self._pending.sequence:
                self._pending = pending
            return pending

    def _ingest(self, transaction: Transaction, records: Sequence[EventRecord]) -> list[EventRecord]:
        """Write records into the ledgers and count what changes; deltas that a later read may not see yet wait. Those
        of forgotten users are refused, and come back."""
        meta = _read_meta(transaction)
        records, refused = without_forgotten(transaction, meta.salt, records)
        counting = self._counting_with(transaction, meta, {record.event_type for record in records})
        deltas = write_to_ledgers(transaction, counting, records)
        latest = max((record.time for record in records), default=NO_TIME)
        latest = max(latest, meta.latest_event_time)
        if latest == NO_TIME:
            return refused
        horizon = latest - self.settings.data.event_delay
        total = Counter({d: count for d, count in deltas.items() if d.event_type in counting.counted_event_types})
        for delta, count in pop_visible(transaction, horizon):
            total[delta] += count
        visible = [(delta, count) for delta, count in total.items() if count and delta.time < horizon]
        counting.apply_deltas(transaction, visible, horizon)
        add_pending(transaction, [(d, count) for d, count in total.items() if count and d.time >= horizon])
        _put_meta(transaction, meta._replace(latest_event_time=latest, sequence=meta.sequence + 1))
        return refused

    def _put_items(
        self, transaction: Transaction, items: Sequence[StoredItem], *, remove: bool = False
    ) -> tuple[list[str], int]:
        """The ids of items that changed, and how often items have changed. remove: take them out; without columns."""
        meta = _read_meta(transaction)
        counting = self._counting_with(transaction, meta, ())
        keys = [item_key(item.item_id) for item in items]
        stored = dict(zip(keys, transaction.get_many(keys), strict=True))
        latest = meta.latest_event_time
        horizon = latest if latest == NO_TIME else latest - self.settings.data.event_delay
        changed = []
        for key, item in zip(keys, items, strict=True):
            before, after = stored[key], None if remove else item.pack()
            if before == after:
                continue
            changed.append(item.item_id)
            stored[key] = after
            if after is None:
                transaction.delete_many([key])
            else:
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

    def _counting_with(self, transaction: Transaction, meta: StateMeta, names: Iterable[str]) -> CounterAggregation:
        """How events are counted, with event types of these names; new ones get the next numbers."""
        new = sorted(set(names) - set(meta.event_types))
        if new:
            transaction.put_many([(EVENT_TYPES, orjson.dumps((*meta.event_types, *new)))])
        return self.counting((*meta.event_types, *new))


def _read_meta(snapshot: StoreSnapshot) -> StateMeta:
    meta, event_types, salt = snapshot.get_many([META, EVENT_TYPES, FORGOTTEN])
    latest, sequence, items = (NO_TIME, 0, 0) if meta is None else _META.unpack(meta)
    types = _FIRST_EVENT_TYPES if event_types is None else tuple(orjson.loads(event_types))
    return StateMeta(latest, sequence, items, types, salt)


def _put_meta(transaction: Transaction, meta: StateMeta) -> None:
    transaction.put_many([(META, _META.pack(meta.latest_event_time, meta.sequence, meta.items))])
