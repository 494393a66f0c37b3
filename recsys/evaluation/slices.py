"""Slices of impressions by their attributes, and means with intervals over each: cold and warm users and items, history
length, category, hour, list size, position.

Reads the columns of `Evaluation.per_impression_frame`, which `lists.parquet` holds; an absent column gives no slices.
A list may lie in several slices, and slices of one column need not cover all lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.arrays import Bool, Float64
from recsys.metrics.bootstrap import Interval, count_clusters, mean_intervals

COLD_ITEMS = "cold_items_"
"""Prefix of metric columns over cold candidates alone."""

ALL = "all lists"

FEW_USERS = 50
"""Below this many users an interval is too narrow to be read as more than a hint (docs/evaluation.md)."""

MAX_CATEGORIES = 8
"""The categories with most lists get one slice each; the others share one."""

OTHER = "other"

_HISTORY = (0, 1, 5, 20)
_HOURS = (0, 6, 12, 18)
_SIZES = (0, 11, 21, 51, 101)
_POSITIONS = (1, 2, 4, 11)


@dataclass(frozen=True)
class ListSlice:
    """Some of n lists. attribute: what slices them. value: its value or range. mask: (n,). prefix: of the columns of
    their metrics; "" except for cold items, where only cold candidates are ranked."""

    attribute: str
    value: str
    mask: Bool
    prefix: str = ""


@dataclass(frozen=True)
class SliceResult:
    """Intervals over one slice. name: of the slice. n_lists, n_users: that have every value."""

    attribute: str
    value: str
    n_lists: int
    n_users: int
    intervals: tuple[Interval, ...]

    @property
    def name(self) -> str:
        """Like `history 5 to 19`."""
        return f"{self.attribute} {self.value}".strip()

    def as_dict(self) -> dict[str, Any]:
        """Which slice it is, {"by", "value", "lists", "users"}, without the intervals."""
        return {"by": self.attribute, "value": self.value, "lists": self.n_lists, "users": self.n_users}

    def cells(self) -> list[str]:
        """The same for a table: name, lists, users."""
        return [self.name, f"{self.n_lists:,}", f"{self.n_users:,}"]


def measure_slices(
    frame: pd.DataFrame, values: Mapping[str, Float64], *, resamples: int, seed: int
) -> tuple[SliceResult, ...]:
    """Means with intervals over all lists and over each slice that has any.

    frame: as in `list_slices`, with user_id, null for a user who is a cluster of their own. values: by prefix of a
    slice, "" and `cold_items_`, (n, k) columns; a list with a NaN among its columns is left out, and so is a slice
    whose prefix is not there.
    """
    user = pd.factorize(frame["user_id"], sort=True)[0]  # the order of `Log.users`, so that the draws are the same
    results = []
    for slice_ in (ListSlice(ALL, "", np.ones(len(frame), np.bool_)), *list_slices(frame)):
        if slice_.prefix not in values:
            continue
        columns = values[slice_.prefix]
        rows = np.flatnonzero(slice_.mask & ~np.isnan(columns).any(axis=1))
        if len(rows):
            intervals = mean_intervals(columns[rows], user[rows], resamples=resamples, seed=seed)
            results.append(
                SliceResult(slice_.attribute, slice_.value, len(rows), count_clusters(user[rows]), intervals)
            )
    return tuple(results)


def list_slices(frame: pd.DataFrame) -> tuple[ListSlice, ...]:
    """Every slice that holds some of the lists and not all, in the order of a table.

    frame: one row each, with any of the columns cold_user, cold_item, history_length, category (values joined by
    `|`), hour (0 to 23), candidates (how many) and position (of the first click from 1, NaN where not logged).
    """
    slices: list[ListSlice] = []
    if "cold_user" in frame:
        slices += _cold(frame["cold_user"].to_numpy(bool), "user", "")
    if "cold_item" in frame:
        slices += _cold(frame["cold_item"].to_numpy(bool), "clicked item", COLD_ITEMS)
    slices += _ranges(frame, "history_length", "history", _HISTORY)
    if "category" in frame:
        slices += _categories(frame["category"])
    slices += _ranges(frame, "hour", "hour", _HOURS, last=23)
    slices += _ranges(frame, "candidates", "list size", _SIZES)
    slices += _ranges(frame, "position", "clicked position", _POSITIONS)
    return tuple(slice_ for slice_ in slices if slice_.mask.any() and not slice_.mask.all())


def _cold(cold: Bool, attribute: str, prefix: str) -> list[ListSlice]:
    return [ListSlice(attribute, "cold", cold, prefix), ListSlice(attribute, "warm", ~cold)]


def _ranges(
    frame: pd.DataFrame, column: str, attribute: str, starts: Sequence[int], *, last: int | None = None
) -> list[ListSlice]:
    """Slices of a number by ranges that begin at `starts`; NaN lies in none. last: where the last range ends."""
    if column not in frame:
        return []
    values: npt.NDArray[np.float64] = frame[column].to_numpy(np.float64)
    position = np.where(np.isnan(values), 0, np.searchsorted(starts, values, side="right"))
    ends = [*(start - 1 for start in starts[1:]), last]
    return [
        ListSlice(attribute, _range(start, end), position == i)
        for i, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    ]


def _range(start: int, end: int | None) -> str:
    if end is None:
        return f"{start} or more"
    return str(start) if start == end else f"{start} to {end}"


def _categories(column: pd.Series) -> list[ListSlice]:
    """The values with most lists, then the lists that hold values but none of these."""
    values = [str(joined).split("|") if joined else [] for joined in column.fillna("")]
    owner = np.repeat(np.arange(len(values)), [len(names) for names in values])
    value = pd.Series([name for names in values for name in names], dtype="str")
    counts = value.value_counts()
    chosen = sorted(counts.index, key=lambda name: (-counts[name], name))[:MAX_CATEGORIES]
    slices = [ListSlice("category", name, _holding(owner[value == name], len(values))) for name in chosen]
    rest = _holding(owner, len(values))
    for slice_ in slices:
        rest &= ~slice_.mask
    return [*slices, ListSlice("category", OTHER, rest)]


def _holding(positions: npt.NDArray[np.int64], n: int) -> Bool:
    mask = np.zeros(n, np.bool_)
    mask[positions] = True
    return mask
