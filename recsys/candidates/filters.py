"""Which items may be candidates: of anybody, and of one user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from features.arrays import NO_TIME, Bool, CsrLists, Int32, Int64, Strings
from features.log import Log, codes_of
from features.tables.id_lists import Exclusions
from recsys.candidates.asked_users import AskedUsers
from recsys.candidates.item_ages import came_later

Skip = Literal["clicked", "seen", "nothing"]
SKIPS: tuple[Skip, ...] = get_args(Skip)
"""Items that a user does not get again: clicked ones, those of any impression or event of the user, or none."""


@dataclass(frozen=True)
class Filters:
    """allowed: (n_items,) items that any user may get. banned: ascending codes of those that one user may not, a row a
    user."""

    allowed: Bool
    banned: CsrLists


def make_filters(
    log: Log,
    users: AskedUsers,
    described: Strings,
    exclusions: Sequence[Exclusions],
    *,
    at: int,
    as_of: int,
    skip: Skip = "clicked",
) -> Filters:
    """What may be found for some users at `at`, when events strictly before `as_of` are known.

    Allowed are the items of the items table that are published before `at`, and that no exclusion names for all. An
    item without a date is allowed unless its first impression or event is at or after `at`. described: ids of the items
    table.
    """
    catalog, n_users = log.catalog, len(users)
    published = catalog.published_at[:-1]
    allowed = np.zeros(len(catalog) + 1, np.bool_)
    allowed[catalog.codes(described)] = True
    undated = published == NO_TIME
    allowed = allowed[:-1] & (undated | (published < at))
    if undated.any():
        allowed &= ~(undated & came_later(log, at))
    user, item = known_pairs(log, as_of, skip)
    pair_users, pair_items = [users.position(len(log.users))[user]], [item]
    order = np.argsort(users.ids)
    for one in exclusions:
        left_out = catalog.codes(one.items)
        allowed[left_out[left_out >= 0]] = False
        place = codes_of(one.pair_users, users.ids[order])
        pair_users.append(np.where(place >= 0, order[place], -1))
        pair_items.append(catalog.codes(one.pair_items))
    banned = pairs_by_user(np.concatenate(pair_users), np.concatenate(pair_items), n_users, len(catalog))
    return Filters(allowed, banned)


def known_pairs(log: Log, as_of: int, skip: Skip) -> tuple[Int32, Int32]:
    """(user, item) codes of what users know already strictly before `as_of`; pairs may repeat."""
    events = log.events
    known = (events.time < as_of) & (events.user >= 0)
    if skip == "nothing":
        known[:] = False
    elif skip == "clicked":
        known &= events.positive
    user, item = events.user[known], events.item[known]
    if skip != "seen":
        return user, item
    shown = log.impressions
    n = int(np.searchsorted(shown.requests.time, as_of))
    real = np.repeat(~shown.sampled[:n] & (shown.requests.user[:n] >= 0), np.diff(shown.requests.offsets[: n + 1]))
    rows = slice(0, int(shown.requests.offsets[n]))
    return (
        np.concatenate([user, shown.requests.row_user()[rows][real]]),
        np.concatenate([item, shown.requests.item[rows][real]]),
    )


def pairs_by_user(user: Int64, item: Int32, n_users: int, n_items: int) -> CsrLists:
    """Distinct ascending items of each user. user, item: (n_pairs,); a pair with a negative code is left out."""
    valid = (user >= 0) & (item >= 0)
    pairs = np.unique(user[valid].astype(np.int64) * max(1, n_items) + item[valid])
    owner = pairs // max(1, n_items)
    offsets = np.searchsorted(owner, np.arange(n_users + 1)).astype(np.int64)
    return CsrLists(offsets, (pairs % max(1, n_items)).astype(np.int32))
