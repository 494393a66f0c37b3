"""The items with an impression or event before a time: models fitted on texts alone read no others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Bool
from features.clock import oldest_read
from features.log import Log


def items_before(log: Log, time: int, *, horizon: int | None = None) -> Bool:
    """(n_items + 1,) True for items of an impression or event strictly before `time`; never for the unknown item.

    time: microseconds; where events are known with a delay, subtract it first. horizon: microseconds that it looks
    back, None for any time.
    """
    requests, events = log.impressions.requests, log.events
    period = (oldest_read(time, horizon), time)
    first, end = requests.offsets[np.searchsorted(requests.time, period)]
    seen = np.zeros(len(log.catalog) + 1, bool)
    seen[requests.item[first:end]] = True
    seen[events.item[slice(*np.searchsorted(events.time, period))]] = True
    seen[-1] = False
    return seen


def texts_before(log: Log, time: int, item_texts: Sequence[str], *, horizon: int | None = None) -> list[str]:
    """The distinct texts of the items of an impression or event strictly before `time`, in the catalog's order.

    time, horizon: as of `items_before`. item_texts: (n_items + 1,) as `recsys.encoder.text.item_texts` gives them; ""
    is left out.
    """
    seen = items_before(log, time, horizon=horizon)
    return list(dict.fromkeys(text for text, is_seen in zip(item_texts, seen, strict=True) if is_seen and text))
