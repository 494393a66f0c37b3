"""What an online state knows of itself: the newest time, how often it has changed, and the names of the event types."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import orjson

from features.arrays import NO_TIME
from features.definitions.aggregates import IMPRESSION
from features.online.events import CLICKED_ROW_TYPE
from features.online.keys import EVENT_TYPES, FORGOTTEN, META
from features.stores.base import StoreSnapshot, Transaction

_META = Struct("<qQQ")
FIRST_EVENT_TYPES = (IMPRESSION, CLICKED_ROW_TYPE)


class StateMeta(NamedTuple):
    """latest_event_time: of the accepted events, microseconds; NO_TIME for none. sequence, items: how often either
    changed. event_types: names of the event types. salt: of the marks of forgotten users, None before the first.
    """

    latest_event_time: int
    sequence: int
    items: int
    event_types: tuple[str, ...]
    salt: bytes | None

    def as_of(self, delay: int) -> int | None:
        """What the earliest read that may still come counts events before; None without events. delay: microseconds
        that an event needs to become known."""
        return None if self.latest_event_time == NO_TIME else self.latest_event_time - delay


def read_meta(snapshot: StoreSnapshot) -> StateMeta:
    """As it is in a snapshot or a transaction."""
    meta, event_types, salt = snapshot.get_many([META, EVENT_TYPES, FORGOTTEN])
    latest, sequence, items = (NO_TIME, 0, 0) if meta is None else _META.unpack(meta)
    types = FIRST_EVENT_TYPES if event_types is None else tuple(orjson.loads(event_types))
    return StateMeta(latest, sequence, items, types, salt)


def put_meta(transaction: Transaction, meta: StateMeta) -> None:
    """Write what changes with every write; event types and salt have writers of their own."""
    transaction.put_many([(META, _META.pack(meta.latest_event_time, meta.sequence, meta.items))])
