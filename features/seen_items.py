"""The items with an impression or event before a time: models fitted on texts alone read no others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Bool
from features.log import Log


def items_before(log: Log, time: int) -> Bool:
    """(n_items + 1,) True for items of an impression or event strictly before `time`; never for the unknown item.

    time: microseconds; where events are known with a delay, subtract it first.
    """
    requests, events = log.impressions.requests, log.events
    n_impressions = np.searchsorted(requests.time, time, side="left")
    seen = np.zeros(len(log.catalog) + 1, bool)
    seen[requests.item[: requests.offsets[n_impressions]]] = True
    seen[events.item[: np.searchsorted(events.time, time, side="left")]] = True
    seen[-1] = False
    return seen


def texts_before(log: Log, time: int, item_texts: Sequence[str]) -> list[str]:
    """The distinct texts of the items of an impression or event strictly before `time`, in the catalog's order.

    time: microseconds. item_texts: (n_items + 1,) as `recsys.encoder.text.item_texts` gives them; "" is left out.
    """
    seen = items_before(log, time)
    return list(dict.fromkeys(text for text, is_seen in zip(item_texts, seen, strict=True) if is_seen and text))
