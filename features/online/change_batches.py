"""Which records a batch of deltas changes: the keys of a counter layout, each once, and each delta's row among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Bool, Int32
from features.definitions.aggregates import GLOBAL, ITEM, USER, Key, category_of
from features.online.counter_deltas import CountedDelta, DeltaArrays, delta_arrays
from features.online.items import StoredItem, categorical


@dataclass(frozen=True)
class DeltaBatch:
    """Deltas as arrays, with codes for their users and items. users, items: ids by code; user -1 is anonymous."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    user: Int32
    item: Int32
    deltas: DeltaArrays

    def group_by_key(
        self, key: Key, counted: Bool, described: Mapping[str, StoredItem]
    ) -> tuple[list[tuple[str, ...]], DeltaArrays]:
        """The distinct values of `key` among deltas of the counted event types, and those deltas, row by value.

        counted: (n_event_types,). described: the stored items; the others have no category values.
        """
        index = np.flatnonzero(counted[self.deltas.event_type] & ((self.user >= 0) | ("user" not in key)))
        if key == GLOBAL:
            row = np.zeros(len(index), np.int64)
            return [()], replace(self.deltas.take(index), row=row)
        if key in (ITEM, USER):
            names, codes = (self.items, self.item) if key == ITEM else (self.users, self.user)
            used, row = np.unique(codes[index], return_inverse=True)
            return [(names[code],) for code in used.tolist()], replace(self.deltas.take(index), row=row)
        column = str(category_of(key))
        category = categorical([described[item].values(column) if item in described else () for item in self.items])
        values, values_of_delta = category.values, category.codes.take(self.item[index])
        index = np.repeat(index, values_of_delta.lengths())
        code = values_of_delta.codes.astype(np.int64)
        if "user" in key:
            code += self.user[index] * np.int64(len(values))
        used, row = np.unique(code, return_inverse=True)
        deltas = replace(self.deltas.take(index), row=row)
        if "user" not in key:
            return [(values[code],) for code in used.tolist()], deltas
        pairs = [divmod(pair, len(values)) for pair in used.tolist()]
        return [(self.users[user], values[value]) for user, value in pairs], deltas


def delta_batch(deltas: Sequence[CountedDelta]) -> DeltaBatch:
    """Deltas, and how often each."""
    users: dict[str | None, int] = {None: -1}
    items: dict[str, int] = {}
    user = np.array([users.setdefault(delta.user, len(users) - 1) for delta, _ in deltas], np.int32)
    item = np.array([items.setdefault(delta.item, len(items)) for delta, _ in deltas], np.int32)
    arrays = delta_arrays([(0, delta, count) for delta, count in deltas])
    return DeltaBatch(tuple(name for name in users if name is not None), tuple(items), user, item, arrays)
