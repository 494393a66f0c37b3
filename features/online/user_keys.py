"""Which keys of the online store hold something of given users: what an erasure removes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol

from features.definitions.aggregates import USER
from features.online.counter_records import CounterLayout
from features.online.keys import COUNTERS, HISTORIES, LEDGERS, PENDING, USERS, first_part, pending_delta, user_part

_LAST = b"\xff\xff"
"""After every part of a key."""


class _Section(Protocol):
    """The keys of one prefix. prefix: theirs."""

    prefix: bytes

    def seek(self, key: bytes) -> bytes | None:
        """As `KeySearch.seek`, for a key that begins with the prefix."""

    def user(self, key: bytes) -> bytes:
        """The user within a key that holds one, with what may follow it."""


class UserKeys:
    """`features.stores.base.KeySearch` for the keys that hold one of some users."""

    def __init__(self, users: Sequence[str], layouts: Sequence[CounterLayout]) -> None:
        """layouts: of the store's counters, in the order of their numbers."""
        self.users = tuple(dict.fromkeys(users))
        self._by_part = {user_part(user): user for user in self.users}
        parts = sorted(self._by_part)
        sections: list[_Section] = [_Pending(set(users)), _Ledgers(parts)]
        sections += [_Leading(prefix, parts) for prefix in (HISTORIES, USERS)]
        by_user = [number for number, layout in enumerate(layouts) if layout.key[:1] == USER]
        sections += [_Leading(COUNTERS + bytes((number,)), parts) for number in by_user]
        self._sections = sorted(sections, key=lambda section: section.prefix)

    def seek(self, key: bytes) -> bytes | None:
        """The first key not before `key` that may hold one of the users."""
        for section in self._sections:
            if key < section.prefix:
                key = section.prefix
            if key.startswith(section.prefix):
                found = section.seek(key)
                if found is not None:
                    return found
        return None

    def owner(self, key: bytes) -> str:
        """The user that a wanted key holds."""
        section = next(section for section in self._sections if key.startswith(section.prefix))
        rest = section.user(key)
        return self._by_part[first_part(rest, b"") or rest]


class _Leading:
    """Keys whose first part is the user."""

    def __init__(self, prefix: bytes, parts: Sequence[bytes]) -> None:
        self.prefix = prefix
        self._parts = parts

    def seek(self, key: bytes) -> bytes | None:
        rest = key[len(self.prefix) :]
        next_part = bisect_right(self._parts, rest)
        if next_part and rest.startswith(self._parts[next_part - 1]):
            return key
        return self.prefix + self._parts[next_part] if next_part < len(self._parts) else None

    def user(self, key: bytes) -> bytes:
        return key[len(self.prefix) :]


class _Ledgers:
    """Keys of an item and a user."""

    prefix = LEDGERS

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts

    def seek(self, key: bytes) -> bytes | None:
        item = first_part(key, LEDGERS)
        if item is None:  # a place to begin at, no key of a ledger
            return key
        head = LEDGERS + item
        user = key[len(head) :]
        next_part = bisect_left(self._parts, user)
        return head + (self._parts[next_part] if next_part < len(self._parts) else _LAST)

    def user(self, key: bytes) -> bytes:
        return key[len(LEDGERS) + len(first_part(key, LEDGERS) or b"") :]


class _Pending:
    """Pending deltas, in order of time: each is looked at."""

    prefix = PENDING

    def __init__(self, users: set[str]) -> None:
        self._users = users

    def seek(self, key: bytes) -> bytes | None:
        if key == PENDING:
            return key
        return key if pending_delta(key).user in self._users else key + b"\0"

    def user(self, key: bytes) -> bytes:
        return user_part(pending_delta(key).user or "")
