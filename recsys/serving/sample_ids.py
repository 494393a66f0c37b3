"""A few ids from the online state, for a person who wants to try the server."""

from __future__ import annotations

from itertools import islice
from typing import Any

from features.online.aggregation import unpack_history
from features.online.items import unpack_item
from features.online.keys import last_part
from features.online.state import OnlineState
from features.stores.base import StoreSnapshot, scan_prefix

USERS, ITEMS = 12, 60
_LOOKED_AT = 300
_HISTORY, _ITEM = b"h", b"i"


def examples(state: OnlineState) -> dict[str, Any]:
    """User ids, those with the longest histories among the first few, and items with their titles."""
    with state.snapshot() as (snapshot, _):
        items = [unpack_item(item_id, value) for item_id, value in _first(snapshot, _ITEM)]
        histories = {user: unpack_history(value) for user, value in _first(snapshot, _HISTORY)}
    users = sorted(histories, key=lambda user: (-len(histories[user]), user))[:USERS]
    step = max(1, len(items) // ITEMS)
    shown = [{"item_id": item.item_id, "title": item.title} for item in items[::step][:ITEMS]]
    return {"users": users, "items": shown}


def _first(snapshot: StoreSnapshot, prefix: bytes) -> list[tuple[str, bytes]]:
    return [(last_part(key, prefix), value) for key, value in islice(scan_prefix(snapshot, prefix), _LOOKED_AT)]
