"""Counter deltas applied to the counters and histories of the online state, inside one transaction.

Applied deltas are visible to every later read; their order changes nothing. When an item's category
changes, its counts are moved: the counters are always those of the items table as it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from types import MappingProxyType

import numpy as np

from features.arrays import Bool
from features.clock import oldest_kept
from features.definitions.aggregates import (
    CLICK,
    IMPRESSION,
    ITEM,
    USER,
    USER_ITEM,
    Key,
    of_category,
    user_of_category,
)
from features.log import HISTORY_TYPE
from features.online.change_batches import CounterChanges, delta_batch
from features.online.click_ledger import ROW_TYPE, SHOWN_TYPE, ClickMatching, unpack
from features.online.counter_answers import AnswerRows, CounterAnswers
from features.online.counter_deltas import NO_DELTAS, CountedDelta, CounterDelta, delta_arrays
from features.online.counter_records import CounterLayout, Records, counter_layouts, layout_of
from features.online.history_records import extended, pack_click
from features.online.items import StoredItem
from features.online.keys import counter_parts, counters_key, history_key, items_with, last_part, ledger_key, ledgers_of
from features.online.settings import StoreSettings
from features.stores.base import StoreSnapshot, Transaction, scan_prefix
from features.tables.event_types import RULE_NOT_MET

ANONYMOUS_PREFIX = "\0"
"""Begins the user part of the ledgers of anonymous users."""


@dataclass(frozen=True)
class CounterAggregation:
    """How events are counted, given the event types seen so far. event_types: names by number; the first two are the
    impression and the clicked row that no event matches.
    """

    settings: StoreSettings
    event_types: tuple[str, ...]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each event type."""
        return {name: number for number, name in enumerate(self.event_types)}

    @cached_property
    def layouts(self) -> tuple[CounterLayout, ...]:
        """The layouts of the counters, in the order of their numbers."""
        return counter_layouts(self.settings.reads, self.settings.data.horizon)

    @cached_property
    def user_item_layout(self) -> CounterLayout:
        """The layout of counts by user and item, which are read from ledgers, not from records."""
        reads = [read for read in self.settings.reads if read.key == USER_ITEM]
        return layout_of(USER_ITEM, reads, self.settings.data.horizon)

    @cached_property
    def counts_as(self) -> tuple[frozenset[str], ...]:
        """For each event type, the event types of reads that count it."""
        return tuple(self._read_types(number, name) for number, name in enumerate(self.event_types))

    @cached_property
    def counted(self) -> dict[Key, Bool]:
        """For each key (n_types, n_layout_types), which event types each of its layout's event types counts."""
        return {layout.key: layout.counted(self.counts_as) for layout in (*self.layouts, self.user_item_layout)}

    @cached_property
    def answers(self) -> dict[Key, CounterAnswers]:
        """How the counters of each key are read."""
        layouts = (*self.layouts, self.user_item_layout)
        return {layout.key: CounterAnswers(layout, self.counted[layout.key], self.timed) for layout in layouts}

    @cached_property
    def answer_rows(self) -> AnswerRows:
        """Where the answers of each key stand in the matrix of all."""
        return AnswerRows(self.answers)

    @cached_property
    def timed(self) -> Bool:
        """(n_event_types,) whether the time of an event type is known, not only its order."""
        return np.array([name != HISTORY_TYPE for name in self.event_types], bool)

    @cached_property
    def matching(self) -> ClickMatching:
        """How the entries of a ledger become counted events."""
        can_match = [self.is_click(number) and bool(self.timed[number]) for number in range(len(self.event_types))]
        rule_met = {
            number: self.numbers.get(name.removesuffix(RULE_NOT_MET))
            for number, name in enumerate(self.event_types)
            if name.endswith(RULE_NOT_MET)
        }
        return ClickMatching(can_match, self.settings.data.click_window, rule_met)

    @cached_property
    def needs_impression_ledger(self) -> bool:
        """Whether the ledgers have to hold a user's impressions of each item."""
        return any(
            read.event_type == IMPRESSION and "user" in read.key and read.key != USER for read in self.settings.reads
        )

    @cached_property
    def counted_event_types(self) -> frozenset[int]:
        """The event types that some counter or history counts."""
        return frozenset(
            number
            for number in range(len(self.event_types))
            if self.is_click(number) or any(counted[number].any() for counted in self.counted.values())
        )

    def is_click(self, event_type: int) -> bool:
        """Whether an event type is a click."""
        return CLICK in self.counts_as[event_type]

    @cached_property
    def counters_by_event_type(self) -> tuple[tuple[tuple[int, Key], ...], ...]:
        """For each event type, the (number, key) of the layouts that count it."""
        return tuple(
            tuple(
                (number, layout.key)
                for number, layout in enumerate(self.layouts)
                if self.counted[layout.key][event_type].any()
            )
            for event_type in range(len(self.event_types))
        )

    def counter_keys(self, delta: CounterDelta, item: StoredItem | None) -> list[tuple[int, tuple[str, ...]]]:
        """The (layout, key) pairs under which a delta is counted. item: as it is stored."""
        users = () if delta.user is None else (delta.user,)
        values_of = StoredItem(delta.item).values if item is None else item.values
        return [
            (number, parts)
            for number, key in self.counters_by_event_type[delta.event_type]
            for parts in counter_parts(key, users, (delta.item,), values_of)
        ]

    def ledger_deltas(self, ledger: bytes | None, user: str | None, item: str) -> list[CountedDelta]:
        """The deltas that the ledger of a user and an item counts, and how often."""
        counted = self.matching.resolve(unpack(ledger)).items()
        return [(CounterDelta(event.time, event.event_type, user, item), count) for event, count in counted]

    def prepare(self) -> None:
        """Compile, or load from disk, what `apply_deltas` needs."""
        extended([None], [b""], self.settings.history_length)
        for layout in self.layouts:
            layout.add(layout.decode([None]), NO_DELTAS, self.counted[layout.key], self.timed)

    def apply_deltas(
        self, transaction: Transaction, deltas: Sequence[CountedDelta], as_of: int, items: Mapping[str, StoredItem]
    ) -> None:
        """Add deltas, and how often each, to the counters and histories. as_of: all deltas before it are applied, and
        these are all before it; ledgers hold them already. items: the stored ones among those of the deltas.
        """
        batch = delta_batch(deltas)
        changes = []
        for number, layout in enumerate(self.layouts):
            counted = np.asarray(self.counted[layout.key].any(axis=1))
            changes.append(CounterChanges(number, *batch.group_by_key(layout.key, counted, items)))
        self._add(transaction, changes, as_of, self._clicks([delta for delta, count in deltas if count > 0]))

    def _add(
        self,
        transaction: Transaction,
        changes: Sequence[CounterChanges],
        as_of: int,
        clicks: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Change counters, and histories by the packed clicks of their users: one read and one write of each."""
        changes = [change for change in changes if len(change.deltas.row)]
        names = [change.names() for change in changes]
        keys = [history_key(user) for user in clicks]
        length, oldest = self.settings.history_length, oldest_kept(as_of, self.settings.data.horizon)
        values = iter(transaction.get_many([name for of_layout in (keys, *names) for name in of_layout]))
        histories = list(islice(values, len(keys)))
        extended_histories = extended(histories, list(clicks.values()), length, oldest=oldest)
        written = list(zip(keys, extended_histories, strict=True))
        for change, of_layout in zip(changes, names, strict=True):
            layout = self.layouts[change.number]
            records = layout.decode(list(islice(values, len(of_layout))))
            layout.add(records, change.deltas, self.counted[layout.key], self.timed)
            if layout.key == ITEM:
                for row in sorted(set(change.deltas.row[change.deltas.count < 0].tolist())):
                    self._set_extremes(transaction, layout, records[row : row + 1], change.keys[row][0], as_of)
            written += zip(of_layout, layout.encode(records), strict=True)
        transaction.put_many(written)

    def _record_of(self, layout: CounterLayout, deltas: Iterable[CountedDelta]) -> Records:
        """One record, (1,), of these deltas alone."""
        record = layout.decode([None])
        self._count(layout, record, deltas)
        return record

    def _count(self, layout: CounterLayout, record: Records, deltas: Iterable[CountedDelta]) -> None:
        """Add deltas to one record, (1,)."""
        arrays = delta_arrays([(0, delta, count) for delta, count in deltas])
        layout.add(record, arrays, self.counted[layout.key], self.timed)

    def _set_extremes(
        self, snapshot: StoreSnapshot, layout: CounterLayout, record: Records, item: str, as_of: int
    ) -> None:
        """First and last time of an item from which an event was taken, from the ledgers of all its users; those of
        impressions, which ledgers need not hold and which are never taken, stay.
        """
        fresh = layout.decode([None])
        fresh["stamp"] = record["stamp"]  # so that the cells of both are of the same buckets
        self._count(layout, fresh, self._item_deltas(snapshot, item, as_of))
        for index, event_type in enumerate(layout.event_types):
            if event_type != IMPRESSION:
                record["first"][0, index], record["last"][0, index] = fresh["first"][0, index], fresh["last"][0, index]
        for place, ring in enumerate(layout.first_rings):
            if layout.event_types[layout.rings[ring][0]] != IMPRESSION:
                record["firsts"][0, place] = fresh["firsts"][0, place]

    def recategorise_item(
        self, transaction: Transaction, item: str, column: str, gone: Sequence[str], new: Sequence[str], as_of: int
    ) -> None:
        """Move an item's counts to its present values of a category, which `value_key`s already name."""
        self._move_value_counts(transaction, item, column, gone, new)
        number = self._numbers.get(user_of_category(column))
        if number is None:
            return
        deltas = [pair for pair in self._item_deltas(transaction, item, as_of) if pair[0].user is not None]
        rows = {user: row for row, user in enumerate(dict.fromkeys(str(delta.user) for delta, _ in deltas))}
        arrays = delta_arrays([(rows[str(delta.user)], delta, count) for delta, count in deltas])
        for value in new:
            self._add(transaction, [CounterChanges(number, [(user, value) for user in rows], arrays)], as_of)
        for value in gone:
            self._recount_users(transaction, number, column, value, rows, as_of)

    @cached_property
    def _numbers(self) -> dict[Key, int]:
        return {layout.key: number for number, layout in enumerate(self.layouts)}

    def _move_value_counts(
        self, transaction: Transaction, item: str, column: str, gone: Sequence[str], new: Sequence[str]
    ) -> None:
        """Move an item's counters: added to those of the new values; those of the old ones are counted again from
        their items, since a first and a last time cannot be taken away.
        """
        number = self._numbers.get(of_category(column))
        if number is None:
            return
        layout, source = self.layouts[number], self.layouts[self._numbers[ITEM]]
        item_counts = transaction.get_many([counters_key(self._numbers[ITEM], (item,))])
        if item_counts == [None]:
            return
        for value in new:
            key = counters_key(number, (value,))
            before = layout.decode(transaction.get_many([key]))
            records = np.concatenate([before, layout.convert(source, source.decode(item_counts))])
            transaction.put_many([(key, layout.sum_records(records).tobytes())])
        for value in gone:
            keys = [
                counters_key(self._numbers[ITEM], (member,)) for member in self._items_with(transaction, column, value)
            ]
            records = layout.convert(source, source.decode(transaction.get_many(keys)))
            transaction.put_many([(counters_key(number, (value,)), layout.sum_records(records).tobytes())])

    def _items_with(self, snapshot: StoreSnapshot, column: str, value: str) -> list[str]:
        prefix = items_with(self.settings.categories.index(column), value)
        return [last_part(key, prefix) for key, _ in scan_prefix(snapshot, prefix)]

    def _recount_users(
        self, transaction: Transaction, number: int, column: str, value: str, users: Iterable[str], as_of: int
    ) -> None:
        """Count users and a category value again from the ledgers of the value's items."""
        items = self._items_with(transaction, column, value)
        for user in users:
            ledgers = transaction.get_many([ledger_key(item, user) for item in items])
            deltas = [
                pair
                for item, ledger in zip(items, ledgers, strict=True)
                for pair in self.ledger_deltas(ledger, user, item)
                if pair[0].time < as_of
            ]
            record = self._record_of(self.layouts[number], deltas)
            transaction.put_many([(counters_key(number, (user, value)), record.tobytes())])

    def _item_deltas(self, snapshot: StoreSnapshot, item: str, as_of: int) -> list[CountedDelta]:
        """The deltas that all ledgers of an item count before a time."""
        prefix = ledgers_of(item)
        deltas = []
        for key, ledger in scan_prefix(snapshot, prefix):
            user = last_part(key, prefix)
            owner = None if user.startswith(ANONYMOUS_PREFIX) else user
            deltas += [pair for pair in self.ledger_deltas(ledger, owner, item) if pair[0].time < as_of]
        return deltas

    def _clicks(self, deltas: Sequence[CounterDelta]) -> dict[str, bytes]:
        """The clicks among deltas of each user, packed as in a history."""
        clicks: dict[str, list[bytes]] = {}
        are_clicks = [self.is_click(number) for number in range(len(self.event_types))]
        for delta in deltas:
            if delta.user is not None and are_clicks[delta.event_type]:
                clicks.setdefault(delta.user, []).append(pack_click(delta.item, delta.time))
        return {user: b"".join(parts) for user, parts in clicks.items()}

    def _read_types(self, number: int, name: str) -> frozenset[str]:
        if number == SHOWN_TYPE:
            return frozenset((IMPRESSION,))
        if number == ROW_TYPE:
            return frozenset((CLICK,))
        if name.endswith(RULE_NOT_MET):
            return frozenset({name.removesuffix(RULE_NOT_MET)} - {CLICK})
        types = frozenset({name} - {CLICK, IMPRESSION})
        return types | {CLICK} if self.settings.is_positive(name) else types
