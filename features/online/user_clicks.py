"""What every user of the online state clicked before a moment, read from the ledgers: the past that tables are made of.

The same users and items as `features.history.clicked_before` gives over a log of the same arrivals.
"""

from __future__ import annotations

from array import array

import numpy as np

from features.arrays import CsrLists, Int32, Int64
from features.online.aggregation import ANONYMOUS_PREFIX, CounterAggregation
from features.online.click_ledger import unpack
from features.online.keys import LEDGERS, ledger_parts
from features.stores.base import StoreSnapshot, scan_prefix


def clicked_before(
    snapshot: StoreSnapshot, counting: CounterAggregation, moment: int, *, length: int
) -> tuple[tuple[str, ...], CsrLists]:
    """Item ids, sorted, and for each user in the order of their ids the codes of the latest `length` distinct items
    clicked strictly before a moment, oldest first.
    """
    users: dict[str, int] = {}
    items: list[str] = []
    user, item, time = array("i"), array("i"), array("q")
    for key, value in scan_prefix(snapshot, LEDGERS):
        item_id, user_id = ledger_parts(key)
        if user_id.startswith(ANONYMOUS_PREFIX):
            continue
        happened = counting.rule.resolve(unpack(value))
        clicks = [one.time for one in happened if one.time < moment and counting.is_click(one.kind)]
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
    place_of_user, place_of_item = (np.argsort(np.argsort(np.array(ids, object))) for ids in (users, items))
    user, item = place_of_user[user].astype(np.int32), place_of_item[item].astype(np.int32)
    order = np.lexsort((item, time, user))
    user, item = user[order], item[order]
    latest = np.searchsorted(user, user, side="right") - np.arange(len(user)) <= length
    user, item = user[latest], item[latest]
    kept, codes = np.unique(item, return_inverse=True)
    names = sorted(items)
    offsets = np.searchsorted(user, np.arange(len(users) + 1)).astype(np.int64)
    return tuple(names[place] for place in kept.tolist()), CsrLists(offsets, codes.astype(np.int32))
