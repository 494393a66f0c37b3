"""Which items changed lately, so that what a process keeps in memory of all others stays, whoever changed them.

The last changes are named in a ring of records of the store, by their number modulo its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from threading import Lock

import orjson

from features.online.keys import item_change_key
from features.stores.base import StoreSnapshot, Transaction

SLOTS, MOST_NAMED = 256, 1000
"""Changes that are remembered, and items that one of them names; a larger one stands for all items."""
_VERSION = Struct("<Q")


def note_changed_items(transaction: Transaction, version: int, ids: Sequence[str]) -> None:
    """Name the items of a change. version: how often items have changed, with this one."""
    named = orjson.dumps(ids if len(ids) <= MOST_NAMED else None)
    transaction.put_many([(item_change_key(version % SLOTS), _VERSION.pack(version) + named)])


def changed_items(snapshot: StoreSnapshot, since: int, version: int) -> list[str] | None:
    """The items that changed after one version and up to a later one, None where that may be any."""
    if since < 0 or version - since > SLOTS:
        return None
    versions = range(since + 1, version + 1)
    changed: list[str] = []
    for number, value in zip(
        versions, snapshot.get_many([item_change_key(number % SLOTS) for number in versions]), strict=True
    ):
        if value is None or _VERSION.unpack_from(value)[0] != number:
            return None
        named = orjson.loads(value[_VERSION.size :])
        if named is None:
            return None
        changed += named
    return changed


class ItemMemory:
    """What is kept in memory of stored items, as of one version of all of them. Safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._version = -1
        self._clear()

    def _clear(self) -> None:
        """Keep nothing."""
        raise NotImplementedError

    def _drop(self, ids: Sequence[str]) -> None:
        """Keep nothing of some items."""
        raise NotImplementedError

    def _catch_up(self, snapshot: StoreSnapshot, version: int) -> None:
        """Drop what changed up to the snapshot, whose version of the items this is."""
        since = self._version
        if since >= version:
            return
        changed = changed_items(snapshot, since, version)
        with self._lock:
            if self._version >= version:
                return
            if changed is None or self._version != since:
                self._clear()
            else:
                self._drop(changed)
            self._version = version
