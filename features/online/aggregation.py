"""Changes folded into the counters and histories of the online state, inside one transaction.

What is folded is visible to every read that may still come; the order of folding changes nothing. When an item's
category changes, what it counted for is moved: the counters are always those of the items table as it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from struct import Struct

import numpy as np

from features.arrays import Bool
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
    of_category,
    user_of_category,
)
from features.log import HISTORY_TYPE
from features.online.change_batches import addressed
from features.online.click_ledger import Rule, unpack
from features.online.counter_records import Changes, CounterLayout, Records, tables_for
from features.online.delayed_changes import delta_arrays
from features.online.items import StoredItem, read_items
from features.online.keys import (
    Change,
    counters_key,
    history_key,
    items_with,
    last_part,
    ledger_key,
    ledgers_of,
)
from features.online.settings import StoreSettings
from features.stores.base import StoreSnapshot, Transaction, scan_prefix

SHOWN_KIND, ROW_KIND = 0, 1
ANONYMOUS_PREFIX = "\0"
"""Begins the user part of the ledgers of users who are not known."""

_CLICK_TIME = Struct("<qH")


@dataclass(frozen=True)
class CounterAggregation:
    """How changes are counted, given the kinds of events seen so far. kinds: names by number; the first two are the
    impression and the clicked row of a list that no event belongs to.
    """

    settings: StoreSettings
    kinds: tuple[str, ...]

    @cached_property
    def tables(self) -> tuple[CounterLayout, ...]:
        """The tables of counters, in the order of their numbers."""
        return tables_for(self.settings.reads)

    @cached_property
    def user_item_layout(self) -> CounterLayout:
        """What is counted by user and item; read from ledgers, not from records."""
        whats = {
            CLICK if read.event_type == DATED_CLICK else read.event_type
            for read in self.settings.reads
            if read.key == USER_ITEM
        }
        return CounterLayout(USER_ITEM, tuple(sorted(whats)), ())

    @cached_property
    def whats(self) -> tuple[frozenset[str], ...]:
        """What each kind of event counts as."""
        return tuple(self._whats_of(kind, name) for kind, name in enumerate(self.kinds))

    @cached_property
    def counted(self) -> dict[Key, Bool]:
        """For each key (n_kinds, n_whats), which kinds of events each of its table's whats counts."""
        return {table.by: table.counted(self.whats) for table in (*self.tables, self.user_item_layout)}

    @cached_property
    def rule(self) -> Rule:
        """How arrivals of a user and an item become what is counted."""
        usable = [self.is_click(kind) and self.is_dated(kind) for kind in range(len(self.kinds))]
        return Rule(usable.__getitem__, ROW_KIND, SHOWN_KIND, self.settings.data.click_window)

    @cached_property
    def needs_impression_ledger(self) -> bool:
        """Whether what a user was shown has to be known item by item."""
        return any(
            read.event_type == IMPRESSION and "user" in read.key and read.key != USER for read in self.settings.reads
        )

    @cached_property
    def counted_event_types(self) -> frozenset[int]:
        """The kinds of events that anything counts."""
        return frozenset(kind for kind in range(len(self.kinds)) if self._matters(kind))

    def _matters(self, kind: int) -> bool:
        return (
            self.is_click(kind) or bool(self.counters_by_event_type[kind]) or bool(self.counted[USER_ITEM][kind].any())
        )

    def is_click(self, kind: int) -> bool:
        """Whether a kind of event is a click."""
        return CLICK in self.whats[kind]

    def is_dated(self, kind: int) -> bool:
        """Whether the time of a kind of event is known, not only its order."""
        return self.kinds[kind] != HISTORY_TYPE

    @cached_property
    def counters_by_event_type(self) -> tuple[tuple[tuple[int, Key], ...], ...]:
        """For each kind of event, the (table, key) that count it."""
        return tuple(
            tuple((number, table.by) for number, table in enumerate(self.tables) if self.counted[table.by][kind].any())
            for kind in range(len(self.kinds))
        )

    def counter_keys(self, change: Change, item: StoredItem | None) -> list[tuple[int, tuple[str, ...]]]:
        """The (table, key) pairs under which a change is counted. item: as the items table has it."""
        found: list[tuple[int, tuple[str, ...]]] = []
        user = change.user
        for number, by in self.counters_by_event_type[change.kind]:
            if by == ITEM:
                found.append((number, (change.item,)))
            elif by == GLOBAL:
                found.append((number, ()))
            elif by == USER:
                if user is not None:
                    found.append((number, (user,)))
            elif item is not None and len(by) == 1:
                found += [(number, (value,)) for value in item.values(str(category_of(by)))]
            elif item is not None and user is not None:
                found += [(number, (user, value)) for value in item.values(str(category_of(by)))]
        return found

    def apply_deltas(self, transaction: Transaction, changes: Sequence[tuple[Change, int]], horizon: int) -> None:
        """Add changes, and how often each, to the counters and histories. horizon: all changes before it are folded,
        and they are all before it; ledgers have them already.
        """
        found = addressed(changes, [self.is_dated(kind) for kind in range(len(self.kinds))])
        items = read_items(transaction, found.items)
        for number, table in enumerate(self.tables):
            keys, part = found.group_by_key(table.by, np.asarray(self.counted[table.by].any(axis=1)), items)
            self._add(transaction, number, keys, part, horizon)
        self._fold_histories(transaction, [change for change, count in changes if count > 0])

    def _add(
        self, transaction: Transaction, number: int, keys: Sequence[tuple[str, ...]], changes: Changes, horizon: int
    ) -> None:
        table = self.tables[number]
        if not len(changes.row):
            return
        names = [counters_key(number, key) for key in keys]
        records = table.decode(transaction.get_many(names))
        table.add(records, changes, self.counted[table.by])
        if table.by == ITEM:
            for row in sorted(set(changes.row[changes.count < 0].tolist())):
                self._set_extremes(transaction, table, records[row : row + 1], keys[row][0], horizon)
        transaction.put_many(zip(names, table.encode(records), strict=True))

    def _set_extremes(
        self, snapshot: StoreSnapshot, table: CounterLayout, record: Records, item: str, horizon: int
    ) -> None:
        """First and last time of an item from which an event was taken, from the ledgers of all its users; those of
        impressions, which ledgers need not hold and which are never taken, stay.
        """
        history = self._history_of(snapshot, item, horizon)
        fresh = table.decode([None])
        table.add(
            fresh, delta_arrays([(0, *one, self.is_dated(one[0].kind)) for one in history]), self.counted[table.by]
        )
        for place, what in enumerate(table.whats):
            if what != IMPRESSION:
                record["first"][0, place], record["last"][0, place] = fresh["first"][0, place], fresh["last"][0, place]

    def recategorise_item(
        self, transaction: Transaction, item: str, column: str, gone: Sequence[str], new: Sequence[str], horizon: int
    ) -> None:
        """Move what an item counted for to its present values of a category, which `value_key`s already name."""
        numbers = {table.by: number for number, table in enumerate(self.tables)}
        if of_category(column) in numbers:
            self._move_value_counts(transaction, item, column, gone, new)
        number = numbers.get(user_of_category(column))
        if number is None:
            return
        history = self._history_of(transaction, item, horizon)
        added = [(change, count) for change, count in history if change.user is not None]
        for value in new:
            rows = {user: row for row, user in enumerate(dict.fromkeys(str(change.user) for change, _ in added))}
            changes = delta_arrays(
                [(rows[str(change.user)], change, count, self.is_dated(change.kind)) for change, count in added]
            )
            self._add(transaction, number, [(user, value) for user in rows], changes, horizon)
        users = {str(change.user) for change, _ in added}
        for value in gone:
            self._recount_users(transaction, number, column, value, users, horizon)

    def _move_value_counts(
        self, transaction: Transaction, item: str, column: str, gone: Sequence[str], new: Sequence[str]
    ) -> None:
        """Move an item's counters: added to those of the new values; those of the old ones are made anew from their
        items, since a first and a last time cannot be taken away.
        """
        numbers = {table.by: number for number, table in enumerate(self.tables)}
        source, table = self.tables[numbers[ITEM]], self.tables[numbers[of_category(column)]]
        own = transaction.get_many([counters_key(numbers[ITEM], (item,))])
        if own == [None]:
            return
        for value in new:
            key = counters_key(numbers[of_category(column)], (value,))
            known = np.concatenate([table.decode(transaction.get_many([key])), table.of(source, source.decode(own))])
            transaction.put_many([(key, table.merged(known).tobytes())])
        for value in gone:
            keys = [counters_key(numbers[ITEM], (other,)) for other in self._items_with(transaction, column, value)]
            records = table.of(source, source.decode(transaction.get_many(keys)))
            key = counters_key(numbers[of_category(column)], (value,))
            transaction.put_many([(key, table.merged(records).tobytes())])

    def _items_with(self, snapshot: StoreSnapshot, column: str, value: str) -> list[str]:
        prefix = items_with(self.settings.categories.index(column), value)
        return [last_part(key, prefix) for key, _ in scan_prefix(snapshot, prefix)]

    def _recount_users(
        self, transaction: Transaction, number: int, column: str, value: str, users: set[str], horizon: int
    ) -> None:
        """Make the counters of users and a category value anew from the ledgers of the value's items."""
        items, table = self._items_with(transaction, column, value), self.tables[number]
        for user in users:
            ledgers = transaction.get_many([ledger_key(item, user) for item in items])
            changes = [
                (0, Change(one.time, one.kind, user, item), count, self.is_dated(one.kind))
                for item, ledger in zip(items, ledgers, strict=True)
                for one, count in self.rule.resolve(unpack(ledger)).items()
            ]
            record = table.decode([None])
            table.add(record, delta_arrays(changes, horizon), self.counted[table.by])
            transaction.put_many([(counters_key(number, (user, value)), record.tobytes())])

    def _history_of(self, snapshot: StoreSnapshot, item: str, horizon: int) -> list[tuple[Change, int]]:
        """All that ledgers say of an item before the horizon."""
        prefix = ledgers_of(item)
        found = []
        for key, value in scan_prefix(snapshot, prefix):
            user = last_part(key, prefix)
            known = None if user.startswith(ANONYMOUS_PREFIX) else user
            for one, count in self.rule.resolve(unpack(value)).items():
                if one.time < horizon:
                    found.append((Change(one.time, one.kind, known, item), count))
        return found

    def _fold_histories(self, transaction: Transaction, changes: Sequence[Change]) -> None:
        clicks: dict[str, dict[str, int]] = {}
        for change in changes:
            if change.user is not None and self.is_click(change.kind):
                times = clicks.setdefault(change.user, {})
                times[change.item] = max(change.time, times.get(change.item, change.time))
        keys = [history_key(user) for user in clicks]
        histories = [unpack_history(value) for value in transaction.get_many(keys)]
        lengthened = [
            pack_history(latest(old, new.items(), self.settings.history_length))
            for old, new in zip(histories, clicks.values(), strict=True)
        ]
        transaction.put_many(zip(keys, lengthened, strict=True))

    def _whats_of(self, kind: int, name: str) -> frozenset[str]:
        if kind == SHOWN_KIND:
            return frozenset((IMPRESSION,))
        if kind == ROW_KIND:
            return frozenset((CLICK,))
        own = frozenset({name} - {CLICK, IMPRESSION})
        return own | {CLICK} if self.settings.is_positive(name) else own


def latest(history: Iterable[tuple[str, int]], clicks: Iterable[tuple[str, int]], length: int) -> list[tuple[str, int]]:
    """The `length` latest of two histories together: (item, time), each item once, in order of (time, item)."""
    times = dict(history)
    for item, time in clicks:
        times[item] = max(time, times.get(item, time))
    return sorted(times.items(), key=lambda entry: (entry[1], entry[0]))[-length:]


def pack_history(history: Iterable[tuple[str, int]]) -> bytes:
    """The bytes of (item, time) pairs."""
    parts = []
    for item, time in history:
        data = item.encode()
        parts += [_CLICK_TIME.pack(time, len(data)), data]
    return b"".join(parts)


def unpack_history(value: bytes | None) -> list[tuple[str, int]]:
    """The (item, time) pairs of a stored history; none for None."""
    history, start = [], 0
    while value is not None and start < len(value):
        time, length = _CLICK_TIME.unpack_from(value, start)
        start += _CLICK_TIME.size
        history.append((value[start : start + length].decode(), time))
        start += length
    return history
