"""Which counters a batch of changes belongs to: a table's keys, each once, and the row of each change among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Bool, CsrLists, Int32, Int64
from features.definitions.aggregates import GLOBAL, ITEM, USER, Key, category_of
from features.online.counter_records import Changes
from features.online.delayed_changes import delta_arrays
from features.online.items import StoredItem
from features.online.keys import Change


@dataclass(frozen=True)
class DeltaBatch:
    """Changes as arrays, with codes for their users and items. users, items: names by code; user -1: nobody we know."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    user: Int32
    item: Int32
    changes: Changes

    def group_by_key(
        self, by: Key, counted: Bool, known: Mapping[str, StoredItem]
    ) -> tuple[list[tuple[str, ...]], Changes]:
        """The distinct keys of `by` that changes of the counted kinds fall under, and those changes, row by key.

        counted: (n_kinds,). known: the items that were described; the others have no category values.
        """
        index = np.flatnonzero(counted[self.changes.kind] & ((self.user >= 0) | ("user" not in by)))
        if by == GLOBAL:
            return [()], self._rows(index, np.zeros(len(index), np.int64))
        if by in (ITEM, USER):
            names, codes = (self.items, self.item) if by == ITEM else (self.users, self.user)
            used, row = np.unique(codes[index], return_inverse=True)
            return [(names[code],) for code in used.tolist()], self._rows(index, row)
        values, of_item = _values(self.items, known, str(category_of(by)))
        each = of_item.take(self.item[index])
        index = np.repeat(index, each.lengths())
        code = each.codes.astype(np.int64)
        if "user" not in by:
            used, row = np.unique(code, return_inverse=True)
            return [(values[code],) for code in used.tolist()], self._rows(index, row)
        used, row = np.unique(self.user[index] * np.int64(len(values)) + code, return_inverse=True)
        pairs = [divmod(pair, len(values)) for pair in used.tolist()]
        return [(self.users[user], values[value]) for user, value in pairs], self._rows(index, row)

    def _rows(self, index: Int64, row: Int64) -> Changes:
        changes = self.changes
        return Changes(row, changes.kind[index], changes.time[index], changes.dated[index], changes.count[index])


def addressed(changes: Sequence[tuple[Change, int]], dated: Sequence[bool]) -> DeltaBatch:
    """Changes, and how often each. dated: for each kind, whether its time is known."""
    users: dict[str | None, int] = {None: -1}
    items: dict[str, int] = {}
    user = np.array([users.setdefault(change.user, len(users) - 1) for change, _ in changes], np.int32)
    item = np.array([items.setdefault(change.item, len(items)) for change, _ in changes], np.int32)
    arrays = delta_arrays([(0, change, count, dated[change.kind]) for change, count in changes])
    return DeltaBatch(tuple(str(name) for name in users if name is not None), tuple(items), user, item, arrays)


def _values(items: Sequence[str], known: Mapping[str, StoredItem], column: str) -> tuple[list[str], CsrLists]:
    """The category values of some items: their names, and a row of codes for each item."""
    rows = [known[item].values(column) if item in known else () for item in items]
    codes: dict[str, int] = {}
    flat = np.array([codes.setdefault(value, len(codes)) for row in rows for value in row], np.int32)
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return list(codes), CsrLists(offsets, flat)
