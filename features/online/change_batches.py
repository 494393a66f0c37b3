"""The records that a batch of deltas changes: the distinct keys of a counter layout, and the row of each delta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Bool, Int32
from features.definitions.aggregates import Key, category_of
from features.online.counter_deltas import CountedDelta, DeltaArrays, delta_arrays
from features.online.items import StoredItem, categorical
from features.online.keys import counters_key


@dataclass(frozen=True)
class CounterChanges:
    """Deltas of the records of one layout. number: of the layout. keys: of the records; `deltas.row` are places in
    them."""

    number: int
    keys: Sequence[tuple[str, ...]]
    deltas: DeltaArrays

    def names(self) -> list[bytes]:
        """The records' keys in the store."""
        return [counters_key(self.number, key) for key in self.keys]


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
        parts: dict[str, tuple[tuple[str, ...], Int32]] = {}
        column = category_of(key)
        if column is not None:
            category = categorical([described[item].values(column) if item in described else () for item in self.items])
            values = category.codes.take(self.item[index])
            index = np.repeat(index, values.lengths())
            parts[key[-1]] = (category.values, values.codes)
        parts |= {"user": (self.users, self.user[index]), "item": (self.items, self.item[index])}
        code = np.zeros(len(index), np.int64)
        for names, codes in (parts[part] for part in key):
            code = code * len(names) + codes
        _, first, row = np.unique(code, return_index=True, return_inverse=True)
        columns = [list(map(parts[part][0].__getitem__, parts[part][1][first].tolist())) for part in key]
        keys: list[tuple[str, ...]] = list(zip(*columns, strict=True)) if columns else [()] * len(first)
        return keys, replace(self.deltas.take(index), row=row)


def delta_batch(deltas: Sequence[CountedDelta]) -> DeltaBatch:
    """Deltas, and how often each."""
    users: dict[str | None, int] = {None: -1}
    items: dict[str, int] = {}
    user = np.array([users.setdefault(delta.user, len(users) - 1) for delta, _ in deltas], np.int32)
    item = np.array([items.setdefault(delta.item, len(items)) for delta, _ in deltas], np.int32)
    arrays = delta_arrays([(0, delta, count) for delta, count in deltas])
    return DeltaBatch(tuple(name for name in users if name is not None), tuple(items), user, item, arrays)
