"""The keys of the online store. Each part of a key stands behind its length, so that no two keys run into another.

m                   newest time, and how often the state and the items have changed
s                   settings
k                   names of the kinds of events
c TABLE parts       counters
e HASH              an event id, or a shown list, that has been seen
h user              the user's history
i item              what is known of an item
l item user         the ledger of a user and an item
q time kind …       changes that not every later read may see yet, by time
u user              attributes of a user
v COLUMN value item items of a category value
n MODEL …           collaborative tables, kept by `recsys.collaborative.online`
t ENCODER HASH      vectors of texts, kept by `recsys.online.vector_store`
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

META, SETTINGS, KINDS = b"m", b"s", b"k"
PENDING, LEDGERS = b"q", b"l"
MAX_ID_BYTES = 200

_LENGTH = Struct(">H")
_PENDING = Struct(">cQHB")
_TIME_OFFSET = 2**63
_TABLES = [bytes((number,)) for number in range(256)]
_LENGTHS = [_LENGTH.pack(length) for length in range(MAX_ID_BYTES + 1)]


class Change(NamedTuple):
    """What is counted: a kind of event, of an item, at a time in microseconds, by a user or by nobody we know."""

    time: int
    kind: int
    user: str | None
    item: str


def counters_key(table: int, parts: tuple[str, ...]) -> bytes:
    """Key of the counters of a table's key."""
    head = b"c" + _TABLES[table]
    return head + _part(parts[0]) if len(parts) == 1 else head + b"".join([_part(part) for part in parts])


def counters_keys(table: int, keys: Sequence[tuple[str, ...]]) -> list[bytes]:
    """`counters_key` of many keys of one table that differ in their last part alone."""
    if not keys or not keys[0]:
        return [counters_key(table, key) for key in keys]
    head = counters_key(table, keys[0][:-1])
    return [head + _part(key[-1]) for key in keys]


def seen_key(text: str) -> bytes:
    """Key of something that counts once."""
    return b"e" + blake2b(text.encode(), digest_size=16).digest()


def hash_id(text: str | None) -> int:
    """A number for an impression id, 0 for None."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1 if text is not None else 0


def history_key(user: str) -> bytes:
    """Key of a user's history."""
    return b"h" + _part(user)


def item_key(item: str) -> bytes:
    """Key of what is known of an item."""
    return b"i" + _part(item)


def ledger_key(item: str, user: str) -> bytes:
    """Key of a user's and an item's ledger."""
    return LEDGERS + _part(item) + _part(user)


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
    return b"u" + _part(user)


def value_key(column: int, value: str, item: str) -> bytes:
    """Key that says that an item has a category value."""
    return items_with(column, value) + _part(item)


def items_with(column: int, value: str) -> bytes:
    """Prefix of the items with a category value."""
    return b"v" + bytes((column,)) + _part(value)


def last_part(key: bytes, prefix: bytes) -> str:
    """The text behind a prefix that its keys have one part after."""
    return key[len(prefix) + _LENGTH.size :].decode()


def pending_key(change: Change) -> bytes:
    """Key of a change that waits; keys are in order of time."""
    known = change.user is not None
    head = _PENDING.pack(PENDING, change.time + _TIME_OFFSET, change.kind, known)
    return head + _part(change.user or "") + _part(change.item)


def pending_before(time: int) -> bytes:
    """A key after those of all changes before a time, and before those of all others."""
    return _PENDING.pack(PENDING, time + _TIME_OFFSET, 0, 0)


def change_of(key: bytes) -> Change:
    """The change of a `pending_key`."""
    _, time, kind, known = _PENDING.unpack_from(key)
    start = _PENDING.size + _LENGTH.size
    end = start + _LENGTH.unpack_from(key, _PENDING.size)[0]
    user = key[start:end].decode()
    return Change(time - _TIME_OFFSET, kind, user if known else None, key[end + _LENGTH.size :].decode())


@lru_cache(maxsize=2**17)
def _part(text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_ID_BYTES:
        data = data[: MAX_ID_BYTES - 32] + blake2b(data, digest_size=32).digest()
    return _LENGTHS[len(data)] + data
