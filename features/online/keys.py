"""The keys of the online store. Each part of a key follows its length, so that no two keys run into each other.

m                   newest time, and how often the state and the items have changed
s                   settings
k                   names of the event types
c LAYOUT parts      counters
e HASH              an event id, or an impression, that has been counted
h user              the user's history
i item              the stored item
j SLOT              items of one of the last changes, see `features.online.item_changes`
l item user         the ledger of a user and an item
q time type …       pending counter deltas, by time
u user              attributes of a user
v COLUMN value item items of a category value
n TABLES …          tables of item records, see `features.online.item_tables`
t ENCODER HASH      vectors of texts, see `features.online.text_vectors`
f                   salt of the marks of forgotten users
f MARK              when a user was forgotten, see `features.online.erasure`

Only this package makes keys: everything outside reads and writes by the methods of its modules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from struct import Struct

from features.definitions.aggregates import Key, category_of
from features.online.counter_deltas import CounterDelta

META, SETTINGS, EVENT_TYPES = b"m", b"s", b"k"
HISTORIES, ITEMS, LEDGERS, PENDING = b"h", b"i", b"l", b"q"
ITEM_CHANGES, ITEM_TABLES, TEXT_VECTORS = b"j", b"n", b"t"
COUNTERS, SEEN, USERS, VALUES, FORGOTTEN = b"c", b"e", b"u", b"v", b"f"
MAX_ID_BYTES = 200
_FEW = 8

_LENGTH = Struct(">H")
_PENDING = Struct(">cQHB")
_TIME_OFFSET = 2**63
_LAYOUTS = [bytes((number,)) for number in range(256)]
_LENGTHS = [_LENGTH.pack(length) for length in range(MAX_ID_BYTES + 1)]


def counters_key(layout: int, parts: tuple[str, ...]) -> bytes:
    """Key of the record of one counter key. layout: its number."""
    head = COUNTERS + _LAYOUTS[layout]
    return head + _part(parts[0]) if len(parts) == 1 else head + b"".join([_part(part) for part in parts])


def counter_parts(
    key: Key, users: Sequence[str], items: Sequence[str], values_of: Callable[[str], Sequence[str]]
) -> list[tuple[str, ...]]:
    """The parts of the counters of a feature's key: every combination of a user, an item and a category value, as far
    as they are in `key`. values_of: the values of a categorical column.
    """
    values = {"user": users, "item": items}
    column = category_of(key)
    if column is not None:
        values[key[-1]] = values_of(column)
    return list(product(*(values[part] for part in key)))


@dataclass(frozen=True)
class CounterKeys:
    """Keys of a counter layout that differ in their last part alone. head: the parts that all have. last: the last part
    of each; None for one key that is the head.
    """

    head: tuple[str, ...]
    last: Sequence[str] | None

    def __len__(self) -> int:
        return 1 if self.last is None else len(self.last)

    def names(self, layout: int) -> list[bytes]:
        """`counters_key` of each. layout: its number."""
        head = counters_key(layout, self.head)
        return [head] if self.last is None else [head + part for part in map(_part, self.last)]

    def rows_in(self, keys: Collection[tuple[str, ...]]) -> list[tuple[int, tuple[str, ...]]]:
        """Which of them are among some keys, with their positions here."""
        if self.last is None:
            return [(0, self.head)] if self.head in keys else []
        if len(keys) > _FEW:
            wanted = ((row, (*self.head, part)) for row, part in enumerate(self.last))
            return [(row, key) for row, key in wanted if key in keys]
        mine = [key for key in keys if key[:-1] == self.head]
        return [(row, key) for key in mine for row, part in enumerate(self.last) if part == key[-1]]


def seen_key(text: str) -> bytes:
    """Key of something that counts once."""
    return SEEN + blake2b(text.encode(), digest_size=16).digest()


def history_key(user: str) -> bytes:
    """Key of a user's history."""
    return HISTORIES + _part(user)


def item_key(item: str) -> bytes:
    """Key of a stored item."""
    return ITEMS + _part(item)


def item_change_key(slot: int) -> bytes:
    """Key of the record of a change of items."""
    return ITEM_CHANGES + slot.to_bytes(2, "big")


def ledger_key(item: str, user: str) -> bytes:
    """Key of a user's and an item's ledger."""
    return LEDGERS + _part(item) + _part(user)


def ledger_keys(items: Sequence[str], user: str) -> list[bytes]:
    """`ledger_key` of a user and many items."""
    tail = _part(user)
    return [LEDGERS + _part(item) + tail for item in items]


def ledger_parts(key: bytes) -> tuple[str, str]:
    """Item and user of a `ledger_key`."""
    start = len(LEDGERS) + _LENGTH.size
    end = start + _LENGTH.unpack_from(key, len(LEDGERS))[0]
    return key[start:end].decode(), key[end + _LENGTH.size :].decode()


def ledgers_of(item: str) -> bytes:
    """Prefix of the ledgers of an item."""
    return LEDGERS + _part(item)


def user_key(user: str) -> bytes:
    """Key of a user's attributes."""
    return USERS + _part(user)


def value_key(column: int, value: str, item: str) -> bytes:
    """Key whose presence means that an item has a category value."""
    return items_with(column, value) + _part(item)


def items_with(column: int, value: str) -> bytes:
    """Prefix of the items with a category value."""
    return VALUES + bytes((column,)) + _part(value)


def first_part(key: bytes, prefix: bytes) -> bytes | None:
    """The first part after a prefix, with its length before it; None where the key ends before."""
    start = len(prefix)
    if len(key) < start + _LENGTH.size:
        return None
    return key[start : start + _LENGTH.size + _LENGTH.unpack_from(key, start)[0]]


def user_part(user: str) -> bytes:
    """A user within a key, with its length before it."""
    return _part(user)


def last_part(key: bytes, prefix: bytes) -> str:
    """The part after a prefix, for keys that have one part after it."""
    return key[len(prefix) + _LENGTH.size :].decode()


def pending_key(delta: CounterDelta) -> bytes:
    """Key of a pending delta; keys are in order of time."""
    head = _PENDING.pack(PENDING, delta.time + _TIME_OFFSET, delta.event_type, delta.user is not None)
    return head + _part(delta.user or "") + _part(delta.item)


def pending_before(time: int) -> bytes:
    """A key after those of all deltas before a time, and before those of all others."""
    return _PENDING.pack(PENDING, time + _TIME_OFFSET, 0, 0)


def pending_delta(key: bytes) -> CounterDelta:
    """The delta of a `pending_key`."""
    _, time, event_type, has_user = _PENDING.unpack_from(key)
    start = _PENDING.size + _LENGTH.size
    end = start + _LENGTH.unpack_from(key, _PENDING.size)[0]
    user = key[start:end].decode() if has_user else None
    return CounterDelta(time - _TIME_OFFSET, event_type, user, key[end + _LENGTH.size :].decode())


def forgotten_key(mark: bytes) -> bytes:
    """Key of a forgotten user. mark: a keyed hash of the id."""
    return FORGOTTEN + mark


@lru_cache(maxsize=2**17)
def _part(text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_ID_BYTES:
        data = data[: MAX_ID_BYTES - 32] + blake2b(data, digest_size=32).digest()
    return _LENGTHS[len(data)] + data
