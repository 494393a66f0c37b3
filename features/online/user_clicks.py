"""The items that each user of the online state clicked before a time, from the ledgers, for collaborative snapshots.

The same users and items as `features.history.clicked_before` gives over a log of the same events.
"""

from __future__ import annotations

from array import array

import numpy as np

from features.arrays import CsrLists, Int32, Int64
from features.clock import oldest_read
from features.history import latest_items
from features.online.aggregation import ANONYMOUS_PREFIX
from features.online.click_ledger import unpack
from features.online.keys import LEDGERS, ledger_parts
from features.online.state import StateSnapshot
from features.stores.base import scan_prefix


def clicked_before(view: StateSnapshot, as_of: int, *, length: int) -> tuple[tuple[str, ...], CsrLists]:
    """Item ids, sorted, and for each user in the order of their ids the codes of the latest `length` distinct items
    clicked strictly before a time, oldest first.
    """
    since = oldest_read(as_of, view.settings.data.horizon)
    users: dict[str, int] = {}
    items: list[str] = []
    user, item, time = array("i"), array("i"), array("q")
    for key, value in scan_prefix(view.values, LEDGERS):
        item_id, user_id = ledger_parts(key)
        if user_id.startswith(ANONYMOUS_PREFIX):
            continue
        events = view.counting.matching.resolve(unpack(value))
        times = [event.time for event in events if view.counting.is_click(event.event_type)]
        clicks = [moment for moment in times if since <= moment < as_of]
        if clicks:
            if not items or items[-1] != item_id:
                items.append(item_id)
            user.append(users.setdefault(user_id, len(users)))
            item.append(len(items) - 1)
            time.append(max(clicks))
    return _sorted(tuple(users), items, *(np.array(column) for column in (user, item, time)), length=length)


def _sorted(
    users: tuple[str, ...], items: list[str], user: Int32, item: Int32, time: Int64, *, length: int
) -> tuple[tuple[str, ...], CsrLists]:
    """Users and items in the order of their ids, and the latest clicks of each user."""
    rank_of_user, rank_of_item = (np.argsort(np.argsort(np.array(ids, object))) for ids in (users, items))
    user, item = rank_of_user[user].astype(np.int32), rank_of_item[item].astype(np.int32)
    order = np.lexsort((item, time, user))
    latest = latest_items(user[order], item[order], n_users=len(users), length=length)
    used, codes = np.unique(latest.codes, return_inverse=True)
    names = sorted(items)
    return tuple(names[code] for code in used.tolist()), CsrLists(latest.offsets, codes.astype(np.int32))
