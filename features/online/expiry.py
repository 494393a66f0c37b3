"""State beyond the horizon of an online store: what no read at its newest event's time or later looks at any more.

Writes drop it in passing where they touch a record anyway: late events, old clicks of histories, old cells of counters.
Everything else is found here, by a look at the whole store, and removed a part at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from features.clock import oldest_kept
from features.online.aggregation import CounterAggregation
from features.online.click_ledger import pack, unpack
from features.online.erasure import KINDS
from features.online.history_records import extended
from features.online.ingest import mark_time
from features.online.keys import COUNTERS, HISTORIES, LEDGERS, SEEN
from features.online.state import OnlineState
from features.stores.base import Transaction

_AT_ONCE = 5_000
_NAMES: Mapping[bytes, str] = {**{kind: KINDS[kind] for kind in (COUNTERS, HISTORIES, LEDGERS)}, SEEN: "seen ids"}
Entry = tuple[bytes, bytes]
"""A key and its value."""


class Expiry:
    """What remains of a store's records. counting: of the store. as_of: no later read counts events before an earlier
    time."""

    def __init__(self, counting: CounterAggregation, as_of: int) -> None:
        self._counting = counting
        self._as_of = as_of
        self._oldest = oldest_kept(as_of, counting.settings.data.horizon)

    def remaining(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """The value of each key without what lies beyond the horizon, None where nothing is left of it."""
        places: dict[bytes, list[int]] = {}
        for place, (key, _) in enumerate(entries):
            places.setdefault(key[:2] if key[:1] == COUNTERS else key[:1], []).append(place)
        result: list[bytes | None] = [value for _, value in entries]
        for head, of_kind in places.items():
            values = [entries[place][1] for place in of_kind]
            for place, value in zip(of_kind, self._remaining(head, values), strict=True):
                result[place] = value
        return result

    def remove(self, transaction: Transaction, keys: Sequence[bytes]) -> Mapping[str, int]:
        """Shorten or remove the records of some keys; how many changed, by kind."""
        values = transaction.get_many(keys)
        entries = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
        changed = [
            (key, kept) for (key, value), kept in zip(entries, self.remaining(entries), strict=True) if kept != value
        ]
        transaction.put_many([(key, kept) for key, kept in changed if kept is not None])
        transaction.delete_many([key for key, kept in changed if kept is None])
        return Counter(_NAMES[key[:1]] for key, _ in changed)

    def _remaining(self, head: bytes, values: Sequence[bytes]) -> Sequence[bytes | None]:
        """`remaining` of values whose keys have the same beginning."""
        layouts = self._counting.layouts
        if head[:1] == COUNTERS and head[1] < len(layouts):
            layout = layouts[head[1]]
            records = layout.encode(layout.without_expired(layout.decode(values), self._as_of))
            return [None if record == layout.empty else record for record in records]
        if head == HISTORIES:
            length, no_clicks = self._counting.settings.history_length, [b""] * len(values)
            return [history or None for history in extended(values, no_clicks, length, oldest=self._oldest)]
        if head == LEDGERS:
            return [self._ledger(value) for value in values]
        if head == SEEN:
            return [None if mark_time(value) < self._oldest else value for value in values]
        return values

    def _ledger(self, value: bytes) -> bytes | None:
        entries = unpack(value)
        if min(entry.time for entry in entries) >= self._oldest:
            return value
        return pack(self._counting.matching.without_expired(entries, self._oldest)) or None


def expiry_of(state: OnlineState) -> Expiry | None:
    """What remains of a state as it is now; None where it has no horizon, or no events yet."""
    with state.snapshot() as view:
        as_of = view.meta.as_of(state.settings.data.event_delay)
        if state.settings.data.horizon is None or as_of is None:
            return None
        return Expiry(view.counting, as_of)


def drop_expired(state: OnlineState, *, stopping: Callable[[], bool] = lambda: False) -> Mapping[str, int]:
    """Remove what lies beyond the horizon, while others read and write; how many records were shortened or removed, by
    kind. stopping: whether to leave the rest for another time. Raises StoreError where the store cannot be read or
    written."""
    expiry = expiry_of(state)
    if expiry is None:
        return {}
    dropped: Counter[str] = Counter()
    for keys in _with_expired(state, expiry):
        if stopping():
            break
        dropped.update(state.store.update(partial(expiry.remove, keys=keys)))
    return dict(sorted(dropped.items()))


def _with_expired(state: OnlineState, expiry: Expiry) -> Iterator[list[bytes]]:
    """The keys of records that have something beyond the horizon, some at a time."""
    entries = state.store.everything()
    while batch := list(islice(entries, _AT_ONCE)):
        remaining = expiry.remaining(batch)
        keys = [key for (key, value), kept in zip(batch, remaining, strict=True) if kept != value]
        if keys:
            yield keys
