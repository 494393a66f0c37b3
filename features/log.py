"""The click log in memory: integer codes, microsecond times, sorted once, read by everything after.

A `Log` is built from checked tables by `features.tables.load`. Codes are positions in sorted ids, so that comparing two
item codes compares their ids: events at one time are ordered by (time, item id) everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.arrays import Bool, CsrLists, Float32, Float64, Int8, Int32, Int64, Strings, segment_sums

UNKNOWN: int = -1
"""The code of an id that the log does not hold: a user without history, an item without text or events."""

_EVENT_COLUMNS = ("user", "item", "time", "type", "positive", "dated")

HISTORY_TYPE = "history"
"""Event type of clicks with an order but no time: they count, but in no window and no recency."""


@dataclass(frozen=True)
class Categorical:
    """A column of category values, several for an item where the input separates them by `|`.

    values: the distinct values, sorted, strings. codes: (n_items + 1) rows of positions in `values`; an item without a
    value has an empty row, as has the last row, which is every item that is not in the table.
    """

    values: tuple[str, ...]
    codes: CsrLists


@dataclass(frozen=True)
class Catalog:
    """The items with their columns. Arrays have n_items + 1 rows: the last, which code -1 reaches, is the unknown item.

    ids: (n_items,) item ids, sorted. title, description: (n_items + 1,) strings, "" where missing.
    published_at: (n_items + 1,) int64 microseconds, NO_TIME where missing.
    categories: column name to its values. numbers: column name to (n_items + 1,) float64, NaN where missing.
    vectors: column name to (n_items + 1, d) float32, NaN rows where missing.
    texts: any further columns that are plain text, as title.
    """

    ids: Strings
    title: Strings
    description: Strings
    published_at: Int64
    categories: Mapping[str, Categorical] = field(default_factory=dict)
    numbers: Mapping[str, Float64] = field(default_factory=dict)
    vectors: Mapping[str, Float32] = field(default_factory=dict)
    texts: Mapping[str, Strings] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def codes(self, ids: npt.ArrayLike) -> Int32:
        """Codes of item ids, UNKNOWN for those not in the catalog; same length as `ids`."""
        return codes_of(ids, self.ids)


@dataclass(frozen=True)
class Requests:
    """n impressions to rank, with n_rows candidates in all. Sorted by time when they come from a log.

    user: (n,) int32 user codes, UNKNOWN for a user without history (a null id, or one never seen).
    time: (n,) int64 microseconds. offsets: (n + 1,) int64. item: (n_rows,) int32 item codes, distinct in an impression.
    query: (n,) strings or None for no query, or None where no request has one.
    """

    user: Int32
    time: Int64
    offsets: Int64
    item: Int32
    query: Strings | None = None

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_rows(self) -> int:
        """Candidates over all requests."""
        return len(self.item)

    def lengths(self) -> Int64:
        """Candidates of each request, (n,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def request_of_row(self) -> Int32:
        """Which request each candidate row belongs to, (n_rows,)."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.lengths())

    def row_user(self) -> Int32:
        """User code of each candidate row, (n_rows,)."""
        return np.repeat(self.user, self.lengths())

    def row_time(self) -> Int64:
        """Time of each candidate row, (n_rows,)."""
        return np.repeat(self.time, self.lengths())

    def rows_of(self, index: npt.NDArray[np.integer]) -> Int64:
        """Row numbers of the requests `index`, in that order."""
        rows = CsrLists(self.offsets, np.arange(self.n_rows, dtype=np.int32)).take(index)
        return rows.codes.astype(np.int64)

    def take(self, index: npt.NDArray[np.integer]) -> Requests:
        """The requests `index`, in that order."""
        items = CsrLists(self.offsets, self.item).take(index)
        query = None if self.query is None else self.query[index]
        return Requests(self.user[index], self.time[index], items.offsets, items.codes, query)


@dataclass(frozen=True)
class Impressions:
    """Impressions with their labels, sorted by (time, order in the input).

    requests: who, when, which candidates. ids: (n,) impression ids. sampled: (n,) True for sampled ones, which are
    no impression of any item. label: (n_rows,) graded relevance, 0 for no click. position: (n_rows,) from 1, 0 where
    not logged.
    """

    requests: Requests
    ids: Strings
    sampled: Bool
    label: Int8
    position: Int32

    def __len__(self) -> int:
        return len(self.requests)

    def take(self, index: npt.NDArray[np.integer]) -> Impressions:
        """The impressions `index`, in that order."""
        rows = self.requests.rows_of(index)
        return Impressions(
            self.requests.take(index),
            self.ids[index],
            self.sampled[index],
            self.label[rows],
            self.position[rows],
        )

    def has_both(self) -> Bool:
        """(n,) True for impressions with a clicked and an unclicked item: only those train and test anything."""
        return both_labels(self.label, self.requests.offsets)


def both_labels(label: npt.NDArray[np.number], offsets: Int64) -> Bool:
    """(n,) True for lists with a clicked (label > 0) and an unclicked candidate. offsets: (n + 1,)."""
    n_clicked = segment_sums(label > 0, offsets)
    return (n_clicked > 0) & (n_clicked < np.diff(offsets))


@dataclass(frozen=True)
class Events:
    """All events, once each, sorted by (time, item id). A clicked row of an impression is here too: at the time of the
    event that it was matched with, or at its impression's time.

    user, item: (n,) int32 codes; a null user is UNKNOWN. time: (n,) int64 microseconds.
    type: (n,) int8 positions in `types`. positive: (n,) True for what counts as a click.
    dated: (n,) False for type `history`, whose times only give an order.
    """

    user: Int32
    item: Int32
    time: Int64
    type: Int8
    types: tuple[str, ...]
    positive: Bool
    dated: Bool

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: npt.NDArray[np.integer] | slice) -> Events:
        """The events `index`, in that order."""
        return replace(self, **{name: getattr(self, name)[index] for name in _EVENT_COLUMNS})

    def sorted(self) -> Events:
        """The events by time, item, user and type."""
        return self.take(np.lexsort((self.type, self.user, self.item, self.time)))

    def with_added(self, more: Events) -> Events:
        """These events, then `more` of the same types; no longer sorted."""
        both: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(more, name)]) for name in _EVENT_COLUMNS
        }
        return replace(self, **both)


@dataclass(frozen=True)
class Log:
    """A whole data set in memory. users: sorted user ids. attributes: the users table by user code, if there is one."""

    catalog: Catalog
    users: Strings
    events: Events
    impressions: Impressions
    attributes: pd.DataFrame | None = None

    def user_codes(self, ids: npt.ArrayLike) -> Int32:
        """Codes of user ids, UNKNOWN for null and never seen ones."""
        return codes_of(ids, self.users)


def codes_of(ids: npt.ArrayLike, vocabulary: Strings) -> Int32:
    """Positions of `ids` in the sorted `vocabulary`, (len(ids),); UNKNOWN for null ids and those not in it."""
    index = pd.Index(vocabulary, dtype="str")
    return index.get_indexer(pd.Index(np.asarray(ids, dtype=object), dtype="str")).astype(np.int32)


def chunk_bounds(offsets: Int64, rows: int) -> list[tuple[int, int]]:
    """Bounds (first, end) of runs of requests with at most `rows` rows each, or with one request.

    offsets: (n + 1,) where each request's rows begin.
    """
    bounds, first = [], 0
    while first < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
        end = max(end, first + 1)
        bounds.append((first, end))
        first = end
    return bounds


def slice_requests(requests: Requests, first: int, end: int) -> Requests:
    """Requests first to end, without copying rows."""
    rows = requests.offsets[first : end + 1]
    query = None if requests.query is None else requests.query[first:end]
    item = requests.item[rows[0] : rows[-1]]
    return Requests(requests.user[first:end], requests.time[first:end], rows - rows[0], item, query)
