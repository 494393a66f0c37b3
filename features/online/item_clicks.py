"""How often the stored items were clicked, read in pages: for what ranks by popularity without the store."""

from __future__ import annotations

from itertools import islice

import numpy as np

from features.arrays import Int64
from features.definitions.aggregates import CLICK, ITEM, Count
from features.online.counter_deltas import NO_DELTAS
from features.online.keys import ITEMS, CounterKeys, item_key, last_part
from features.online.state import StateSnapshot
from features.stores.base import scan_after, scan_prefix


def item_clicks(view: StateSnapshot, n: int, *, now: int, after: str | None = None) -> tuple[list[str], Int64]:
    """Ids and clicks of the first n stored items, or of the first n after one; the order is the store's. now:
    microseconds. Clicks that an event delay still holds back, and those from beyond the horizon, are left out, and all
    are 0 where the store does not count clicks by item."""
    entries = scan_prefix(view.values, ITEMS) if after is None else scan_after(view.values, ITEMS, item_key(after))
    ids = [last_part(key, ITEMS) for key, _ in islice(entries, n)]
    clicks, delay = np.zeros(len(ids), np.int64), view.settings.data.event_delay
    for number, layout in enumerate(view.counting.layouts):
        if layout.key == ITEM and layout.counts_all_time(CLICK):
            values = view.values.get_many(CounterKeys((), ids).names(number))
            answers, as_of = view.counting.answers[ITEM], view.resolve_request_time(None, now) - delay
            clicks = answers.of_keys(values, NO_DELTAS, as_of)[answers.row(Count(CLICK, ITEM))]
    return ids, clicks
