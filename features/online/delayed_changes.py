"""Changes that wait: known to the store, but not yet visible to every read that may still come.

With no event delay these are the events of the newest time alone; with a delay those of its length. They lie in the
store by time; a read takes in those before its own moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from struct import Struct

import numpy as np

from features.online.counter_records import Changes
from features.online.keys import PENDING, Change, change_of, pending_before, pending_key
from features.stores.base import StoreSnapshot, Transaction

_COUNT = Struct("<q")


def read_pending(snapshot: StoreSnapshot, *, start: int | None, end: int) -> list[tuple[Change, int]]:
    """The changes that wait, of times from `start` (or ever) to before `end`, and how often each."""
    first = PENDING if start is None else pending_before(start)
    found = snapshot.between(first, pending_before(end))
    return [(change_of(key), _COUNT.unpack(value)[0]) for key, value in found]


def pop_visible(transaction: Transaction, horizon: int) -> list[tuple[Change, int]]:
    """Remove the changes before the horizon from the queue and return them."""
    due = read_pending(transaction, start=None, end=horizon)
    transaction.delete_many([pending_key(change) for change, _ in due])
    return due


def add_pending(transaction: Transaction, changes: Sequence[tuple[Change, int]]) -> None:
    """Add changes to the queue; what comes to nothing leaves it."""
    keys = [pending_key(change) for change, _ in changes]
    before = [_COUNT.unpack(value)[0] if value else 0 for value in transaction.get_many(keys)]
    counts = [old + count for old, (_, count) in zip(before, changes, strict=True)]
    transaction.put_many((key, _COUNT.pack(count)) for key, count in zip(keys, counts, strict=True) if count)
    transaction.delete_many(key for key, count in zip(keys, counts, strict=True) if not count)


@dataclass
class PendingCounters:
    """Changes that wait, in memory, by what reads ask for. sequence: of the state it was read from. end: changes before
    it are in. by_key: for each table, key to places in `changes`.
    """

    sequence: int
    end: int | None = None
    changes: list[tuple[Change, int, bool]] = field(default_factory=list)
    by_key: dict[int, dict[tuple[str, ...], list[int]]] = field(default_factory=dict)

    def add(self, change: Change, count: int, *, dated: bool, keys: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        """Take in a change under its keys in the tables."""
        place = len(self.changes)
        self.changes.append((change, count, dated))
        for table, key in keys:
            self.by_key.setdefault(table, {}).setdefault(key, []).append(place)

    def of_key(self, table: int, key: tuple[str, ...], moment: int) -> list[tuple[Change, int, bool]]:
        """The changes of one key before a moment."""
        found = self.by_key.get(table, {}).get(key, ())
        return [self.changes[place] for place in found if self.changes[place][0].time < moment]

    def of_table(self, table: int, keys: Sequence[tuple[str, ...]], moment: int) -> Changes:
        """The changes of a table's keys before a moment; row is the place in `keys`."""
        known = self.by_key.get(table)
        if not known:
            return delta_arrays(())
        rows = [(row, key) for row, key in enumerate(keys) if key in known]
        return delta_arrays([(row, *one) for row, key in rows for one in self.of_key(table, key, moment)])


def delta_arrays(rows: Sequence[tuple[int, Change, int, bool]], moment: int | None = None) -> Changes:
    """Arrays of (row, change, count, dated), those before a moment if it is given."""
    kept = [row for row in rows if moment is None or row[1].time < moment]
    if not kept:
        return _NONE
    return Changes(
        np.array([row[0] for row in kept], np.int64),
        np.array([row[1].kind for row in kept], np.int32),
        np.array([row[1].time for row in kept], np.int64),
        np.array([row[3] for row in kept], bool),
        np.array([row[2] for row in kept], np.int64),
    )


_NONE = Changes(
    np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, np.int64)
)
