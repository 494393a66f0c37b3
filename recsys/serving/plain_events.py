"""Posted events of the usual form, read without a validator: an object of texts in ASCII and one item.

Any other row is left to `recsys.serving.schemas.Event`, which says what is wrong with it or reads it; both read a usual
row alike.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from features.definitions.aggregates import CLICK, IMPRESSION
from features.online.events import IncomingEvent
from features.tables.event_types import canonical_type
from features.tables.timestamps import parse_time
from recsys.serving.schemas import MAX_ID, MAX_TIME, MAX_TYPE, Event

_FIELDS = frozenset(Event.model_fields) - {"items"}
_time_of = lru_cache(maxsize=4096)(parse_time)


def plain_event(row: Any, timezone: str) -> IncomingEvent | None:
    """The event of a posted row, None for a row that needs the validator. timezone: of times without a zone."""
    if type(row) is not dict or not row.keys() <= _FIELDS:
        return None
    user, item = row.get("user_id"), row.get("item_id")
    impression, event_id = row.get("impression_id"), row.get("event_id")
    if (
        item is None
        or not _is_plain(item)
        or not (user is None or _is_plain(user))
        or not (impression is None or _is_plain(impression))
        or not (event_id is None or _is_plain(event_id))
    ):
        return None
    event_type, value, written = row.get("event_type", CLICK), row.get("value"), row.get("timestamp")
    if type(event_type) is not str or not _is_usable_type(event_type) or not (value is None or type(value) is float):
        return None
    if type(written) is not int and (type(written) is not str or len(written) > MAX_TIME):
        return None
    time = _time_of(written, timezone)
    return None if time is None else IncomingEvent(user, item, time, event_type, impression, event_id, value)


def _is_plain(value: object) -> bool:
    return type(value) is str and value.isascii() and 0 < len(value) <= MAX_ID


@lru_cache(maxsize=1024)
def _is_usable_type(event_type: str) -> bool:
    usable_length = event_type.isascii() and 0 < len(event_type) <= MAX_TYPE
    return usable_length and canonical_type(event_type) != IMPRESSION
