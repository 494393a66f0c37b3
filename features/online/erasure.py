"""Erasure: everything under a user's id is removed, and a mark without the id keeps what was before out for good.

A mark is a hash of the id, keyed by a random salt of the store, with the time of the erasure. Events up to that time
are refused however often a log is loaded again; later ones are a user's who comes back, and count anew. Totals of items
stay: they name nobody. Pending changes go on without their user, so that these totals hold them too.
"""

from __future__ import annotations

import hmac
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from features.clock import format_time
from features.errors import InputError
from features.online.counter_records import CounterLayout
from features.online.delayed_changes import make_anonymous
from features.online.events import EventRecord, RejectedEvent
from features.online.keys import COUNTERS, FORGOTTEN, HISTORIES, LEDGERS, PENDING, USERS, forgotten_key, user_key
from features.online.user_keys import UserKeys
from features.stores.base import StoreSnapshot, Transaction
from features.tables.rejects import FORGOTTEN_USER

KINDS: Mapping[bytes, str] = {
    HISTORIES: "histories",
    COUNTERS: "counters",
    LEDGERS: "ledgers",
    PENDING: "pending changes",
    USERS: "attributes",
}
"""What is held under a user's id, by the first byte of its keys."""
_SALT_BYTES = 32
_TIME = Struct("<q")


@dataclass(frozen=True)
class Erasure:
    """What was forgotten. known: the users of whom anything was held. removed: how many records, by kind. time: events
    up to it stay out, microseconds."""

    known: frozenset[str]
    removed: Mapping[str, int]
    time: int


def user_search(users: Sequence[str], layouts: Sequence[CounterLayout]) -> UserKeys:
    """The search for all that is held of some users. Raises InputError for what is no user's id."""
    for user in users:
        _require_user(user)
    return UserKeys(users, layouts)


def _require_user(user: object) -> None:
    if not isinstance(user, str) or not user or user.startswith("\0") or _has_surrogates(user):
        raise InputError(f"user_id: expected a text that is not empty, got {user!r}")


def erase(transaction: Transaction, salt: bytes | None, search: UserKeys, keys: Sequence[bytes], time: int) -> Erasure:
    """Remove what is held of the users of a search, and mark them.

    salt: the store's, None where nobody was forgotten before. keys: all that the search finds, and maybe some that are
    gone. time: of the erasure, microseconds.
    """
    held = [key for key, value in zip(keys, transaction.get_many(keys), strict=True) if value is not None]
    make_anonymous(transaction, [key for key in held if key.startswith(PENDING)])
    transaction.delete_many([key for key in held if not key.startswith(PENDING)])
    if salt is None:
        salt = secrets.token_bytes(_SALT_BYTES)
        transaction.put_many([(FORGOTTEN, salt)])
    value = _TIME.pack(time)
    transaction.put_many([(_mark_key(salt, user), value) for user in search.users])
    removed = Counter(KINDS[key[:1]] for key in held)
    return Erasure(frozenset(search.owner(key) for key in held), dict(sorted(removed.items())), time)


def forgotten_times(snapshot: StoreSnapshot, salt: bytes | None, users: Iterable[str]) -> dict[str, int]:
    """When each of those users was forgotten who was, microseconds. salt: as for `erase`."""
    if salt is None:
        return {}
    distinct = list(dict.fromkeys(users))
    times = snapshot.get_many([_mark_key(salt, user) for user in distinct])
    return {user: _TIME.unpack(time)[0] for user, time in zip(distinct, times, strict=True) if time is not None}


def without_forgotten(
    snapshot: StoreSnapshot, salt: bytes | None, records: Sequence[EventRecord]
) -> tuple[Sequence[EventRecord], list[EventRecord]]:
    """The records that may be counted, and those of forgotten users up to the time of their erasure."""
    times = forgotten_times(snapshot, salt, (record.user for record in records if record.user is not None))
    if not times:
        return records, []
    kept: list[EventRecord] = []
    refused: list[EventRecord] = []
    for record in records:
        time = None if record.user is None else times.get(record.user)
        (kept if time is None or record.time > time else refused).append(record)
    return kept, refused


def put_attributes(transaction: Transaction, users: Sequence[tuple[str, bytes]]) -> list[int]:
    """Store attributes of users, but those of forgotten users, whose positions come back: a row of attributes has no
    time, and so may be from before."""
    times = forgotten_times(transaction, transaction.get_many([FORGOTTEN])[0], (user for user, _ in users))
    transaction.put_many((user_key(user), data) for user, data in users if user not in times)
    return [position for position, (user, _) in enumerate(users) if user in times]


def rejections(refused: Iterable[EventRecord]) -> list[RejectedEvent]:
    """One rejection for each row that refused records are of; it does not name the user."""
    return [
        RejectedEvent(
            group,
            FORGOTTEN_USER,
            "user_id: expected an event after the erasure of this user, got one of "
            f"{format_time(time)}; it is left out",
        )
        for group, time in {record.group: record.time for record in refused}.items()
    ]


def _mark_key(salt: bytes, user: str) -> bytes:
    return forgotten_key(hmac.digest(salt, user.encode(), "sha256"))


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
