"""Pending counter deltas: accepted by the store, but not yet visible to every read that may still come.

Without an event delay these are the events of the newest time alone; with one, those of its length. The store keeps
them in order of time; a read counts those before its own time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from struct import Struct

from features.online.counter_deltas import NO_DELTAS, CountedDelta, CounterDelta, DeltaArrays, delta_arrays
from features.online.keys import PENDING, CounterKeys, pending_before, pending_delta, pending_key
from features.stores.base import StoreSnapshot, Transaction

_COUNT = Struct("<q")


def read_pending(snapshot: StoreSnapshot, *, start: int | None, end: int) -> list[CountedDelta]:
    """The pending deltas of times from `start` (None: from the first) to before `end`, and how often each."""
    first = PENDING if start is None else pending_before(start)
    return [(pending_delta(key), _COUNT.unpack(value)[0]) for key, value in snapshot.scan(first, pending_before(end))]


def pop_visible(transaction: Transaction, as_of: int) -> list[CountedDelta]:
    """Remove the deltas before a time from the queue and return them."""
    visible = list(transaction.scan(PENDING, pending_before(as_of)))
    transaction.delete_many([key for key, _ in visible])
    return [(pending_delta(key), _COUNT.unpack(value)[0]) for key, value in visible]


def add_pending(transaction: Transaction, deltas: Sequence[CountedDelta], *, newest: int) -> None:
    """Add deltas to the queue; those whose counts add up to 0 leave it. newest: none in it is of a later time."""
    keys = [pending_key(delta) for delta, _ in deltas]
    queued = [key for key, (delta, _) in zip(keys, deltas, strict=True) if delta.time <= newest]
    before = {
        key: _COUNT.unpack(value)[0]
        for key, value in zip(queued, transaction.get_many(queued), strict=True)
        if value is not None
    }
    counts = [before.get(key, 0) + count for key, (_, count) in zip(keys, deltas, strict=True)]
    transaction.put_many((key, _COUNT.pack(count)) for key, count in zip(keys, counts, strict=True) if count)
    transaction.delete_many([key for key, count in zip(keys, counts, strict=True) if not count])


def make_anonymous(transaction: Transaction, keys: Sequence[bytes]) -> None:
    """Take the user out of pending deltas of these keys, all of which are there; they count for their items alone."""
    counts: Counter[CounterDelta] = Counter()
    for key, value in zip(keys, transaction.get_many(keys), strict=True):
        if value is not None:
            counts[pending_delta(key)._replace(user=None)] += _COUNT.unpack(value)[0]
    transaction.delete_many(keys)
    add_pending(transaction, list(counts.items()), newest=max((delta.time for delta in counts), default=0))


@dataclass
class PendingCounters:
    """Pending deltas in memory, grouped as they are read. sequence: of the state they are from. end: deltas before it
    are in. by_key: for each counter layout, its keys with their deltas. clicks: the deltas of each user's clicks.
    """

    sequence: int
    end: int | None = None
    by_key: dict[int, dict[tuple[str, ...], list[CountedDelta]]] = field(default_factory=dict)
    clicks: dict[str, list[CountedDelta]] = field(default_factory=dict)

    def add(self, delta: CounterDelta, count: int, *, keys: Iterable[tuple[int, tuple[str, ...]]], click: bool) -> None:
        """Add a delta under its keys, and, where it is a click, under its user."""
        for layout, key in keys:
            self.by_key.setdefault(layout, {}).setdefault(key, []).append((delta, count))
        if click and delta.user is not None:
            self.clicks.setdefault(delta.user, []).append((delta, count))

    def clicks_of(self, user: str, as_of: int) -> list[tuple[str, int]]:
        """(item, time) of a user's pending clicks before a time."""
        return [(d.item, d.time) for d, count in self.clicks.get(user, ()) if count > 0 and d.time < as_of]

    def deltas(self, layout: int, keys: CounterKeys, as_of: int) -> DeltaArrays:
        """The pending deltas of some keys of a layout before a time; row is the position in `keys`."""
        pending = self.by_key.get(layout)
        rows = keys.rows_in(pending) if pending else []
        if not pending or not rows:
            return NO_DELTAS
        return delta_arrays([(row, d, count) for row, key in rows for d, count in pending[key] if d.time < as_of])
