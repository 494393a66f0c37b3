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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from threading import Lock

import orjson

from features.arrays import NO_TIME
from features.clock import format_time, oldest_kept, oldest_read
from features.errors import InputError, StoreMissing, TimeOrderError
from features.log import Catalog
from features.online.aggregation import CounterAggregation
from features.online.delayed_changes import PendingCounters, add_pending, pop_visible, read_pending
from features.online.erasure import Erasure, erase, put_attributes, rejections, user_search, without_forgotten
from features.online.events import (
    LARGEST_TIME,
    EventRecord,
    Impression,
    IncomingEvent,
    RejectedEvent,
    split,
)
from features.online.group_commit import GroupCommit
from features.online.history_records import unpack_history
from features.online.ingest import write_to_ledgers
from features.online.item_arrays import ItemArrays, ItemPlaces
from features.online.item_changes import note_changed_items
from features.online.items import ItemCache, StoredItem, unpack_item
from features.online.keys import (
    EVENT_TYPES,
    HISTORIES,
    ITEMS,
    SETTINGS,
    item_key,
    last_part,
    value_key,
)
from features.online.settings import StoreSettings, settings_from
from features.online.state_meta import FIRST_EVENT_TYPES, StateMeta, put_meta, read_meta
from features.stores.base import KeyValueStore, StoreSnapshot, Transaction, scan_after, scan_prefix

_ITEMS_AT_ONCE = 20_000


@dataclass(eq=False)
class _Change:
    """Records that are written together. refused: those of forgotten users, known once it is written."""

    records: Sequence[EventRecord]
    refused: Sequence[EventRecord] = ()


class StateSnapshot:
    """One consistent view of the state: whatever a request reads comes from one of these. values: the store's."""

    def __init__(self, state: OnlineState, values: StoreSnapshot) -> None:
        self.values = values
        self.settings = state.settings
        self.meta = read_meta(values)
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

    def first_items(self, n: int, *, after: str | None = None) -> list[StoredItem]:
        """The first n stored items, or the first n after one; the order is the store's."""
        keys = scan_prefix(self.values, ITEMS) if after is None else scan_after(self.values, ITEMS, item_key(after))
        return [unpack_item(last_part(key, ITEMS), value) for key, value in islice(keys, n)]

    def first_histories(self, n: int) -> dict[str, list[tuple[str, int]]]:
        """(item, time) clicks within the horizon of the first n users who have a history."""
        since = oldest_read(self.meta.as_of(self.settings.data.event_delay) or 0, self.settings.data.horizon)
        keys = islice(scan_prefix(self.values, HISTORIES), n)
        return {last_part(key, HISTORIES): unpack_history(value, oldest=since) for key, value in keys}


class OnlineState:
    """Items, counters, histories and ledgers in a key-value store. Safe for threads: readers never wait for writers."""

    def __init__(self, store: KeyValueStore, settings: StoreSettings) -> None:
        self.store = store
        self.settings = settings
        self.item_cache, self.item_arrays = ItemCache(), ItemArrays(settings)
        self._counting = CounterAggregation(settings, FIRST_EVENT_TYPES)
        self._pending = PendingCounters(-1)
        self._pending_lock = Lock()
        self._commits = GroupCommit(self._commit, most=store.rows_together)

    @classmethod
    def open(
        cls, store: KeyValueStore, settings: StoreSettings | None = None, *, new: StoreSettings | None = None
    ) -> OnlineState:
        """The state in a store. settings: what it has to count at least, compared with a used store. new: what an
        empty one is made to count, None for the same.

        Raises StoreMismatch for a store of other settings, naming both, StoreMissing for an empty one without settings.
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
        made = new or settings
        made.check_serves(settings)
        store.update(lambda transaction: transaction.put_many([(SETTINGS, made.to_bytes())]))
        return cls(store, made)

    def add(self, arrivals: Sequence[IncomingEvent | Impression], *, latest: int | None = None) -> list[RejectedEvent]:
        """Count events and impressions, each once, and the clicks that come with impressions. Those that cannot be
        counted come back with their index, a code and a message.

        latest: microseconds; an event of a later time is rejected, since no read before its time would be possible.
        Arrivals that several threads add at the same time are written together, each thread's in their order.
        """
        rule = self.settings.data.positive_rule
        records: list[EventRecord] = []
        rejected: list[RejectedEvent] = []
        places: dict[int, int] = {}
        for index, arrival in enumerate(arrivals):
            n_before = len(records)
            problem = split(arrival, records, latest=latest, rule=rule)
            if problem is not None:
                rejected.append(RejectedEvent(index, *problem))
            elif len(records) > n_before:
                places[records[-1].group] = index
            if len(records) >= self.store.rows_together:
                rejected += self._write(records, places)
                records = []
        if records:
            rejected += self._write(records, places)
        rejected.sort(key=lambda reject: reject.index)
        return rejected

    def prepare(self) -> None:
        """Compile, or load from disk, what writing events needs, so that the first event does not wait for it."""
        self._counting.prepare()

    def add_events(self, events: Sequence[IncomingEvent], *, latest: int | None = None) -> list[RejectedEvent]:
        """As `add`."""
        return self.add(events, latest=latest)

    def add_impressions(self, impressions: Sequence[Impression], *, latest: int | None = None) -> list[RejectedEvent]:
        """As `add`."""
        return self.add(impressions, latest=latest)

    def add_items(self, items: Sequence[StoredItem]) -> list[str]:
        """Store items, or replace stored ones; the ids of those that changed. Counts by category move with an item
        whose category changes: at once for one that is stored after its events, at the cost of counting the category
        again for one that had another.
        """
        changed: list[str] = []
        for start in range(0, len(items), _ITEMS_AT_ONCE):
            changed += self.store.update(partial(self._put_items, items=items[start : start + _ITEMS_AT_ONCE]))
        return changed

    def remove_item(self, item_id: str) -> bool:
        """Remove a stored item, whose counts by category go with it; whether it was stored. What users did with it, and
        its own counts, stay: they count again when it is stored again."""
        return bool(self.store.update(partial(self._put_items, items=[StoredItem(item_id)], remove=True)))

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
            meta = read_meta(transaction)
            put_meta(transaction, meta._replace(sequence=meta.sequence + 1))
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

    def _write(self, records: list[EventRecord], places: Mapping[int, int]) -> list[RejectedEvent]:
        """Write records; the rejections of those of forgotten users. places: the arrival of each group."""
        change = _Change(records)
        self._commits.add(change, size=len(records))
        return [replace(reject, index=places[reject.index]) for reject in rejections(change.refused)]

    def _commit(self, changes: Sequence[_Change]) -> None:
        """Write changes in one transaction."""
        records = changes[0].records if len(changes) == 1 else [one for change in changes for one in change.records]
        groups = {record.group for record in self.store.update(partial(self._ingest, records=records))}
        for change in changes:
            change.refused = [record for record in change.records if record.group in groups] if groups else ()

    def _ingest(self, transaction: Transaction, records: Sequence[EventRecord]) -> list[EventRecord]:
        """Write records into the ledgers and count what changes; deltas that a later read may not see yet wait. Those
        of forgotten users come back, refused; those beyond the horizon change nothing."""
        meta = read_meta(transaction)
        records, refused = without_forgotten(transaction, meta.salt, records)
        latest = max([meta.latest_event_time, *(record.time for record in records)])
        if latest == NO_TIME:
            return refused
        as_of = latest - self.settings.data.event_delay
        oldest = oldest_kept(as_of, self.settings.data.horizon)
        records = [record for record in records if record.time >= oldest]
        counting = self._counting_with(transaction, meta, [record.event_type for record in records])
        total = write_to_ledgers(transaction, counting, records)
        for delta, count in pop_visible(transaction, as_of):
            total[delta] = total.get(delta, 0) + count
        visible = [(delta, count) for delta, count in total.items() if count and delta.time < as_of]
        items = self.item_cache.read(transaction, meta.items, {delta.item for delta, _ in visible})
        counting.apply_deltas(transaction, visible, as_of, items)
        waiting = [(delta, count) for delta, count in total.items() if count and delta.time >= as_of]
        add_pending(transaction, waiting, newest=meta.latest_event_time)
        put_meta(transaction, meta._replace(latest_event_time=latest, sequence=meta.sequence + 1))
        return refused

    def _put_items(self, transaction: Transaction, items: Sequence[StoredItem], *, remove: bool = False) -> list[str]:
        """The ids of items that changed. remove: take them out; without columns."""
        meta = read_meta(transaction)
        counting = self._counting_with(transaction, meta, ())
        keys = [item_key(item.item_id) for item in items]
        stored = dict(zip(keys, transaction.get_many(keys), strict=True))
        as_of = meta.as_of(self.settings.data.event_delay)
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
                if (gone or new) and as_of is not None:
                    counting.recategorise_item(transaction, item.item_id, column, gone, new, as_of)
        if changed:
            meta = meta._replace(sequence=meta.sequence + 1, items=meta.items + 1)
            put_meta(transaction, meta)
            note_changed_items(transaction, meta.items, changed)
        return changed

    def _counting_with(self, transaction: Transaction, meta: StateMeta, names: Iterable[str]) -> CounterAggregation:
        """How events are counted, with event types of these names; new ones get the next numbers."""
        new = [name for name in dict.fromkeys(names) if name not in meta.event_types]
        if new:
            transaction.put_many([(EVENT_TYPES, orjson.dumps((*meta.event_types, *new)))])
        return self.counting((*meta.event_types, *new))
