"""The aggregates of past events that features read, and the reader that computes them.

An aggregate names what is counted, by which key, over which window. There are two readers:
`features.offline.reader` over the sorted log, `features.online.reader` from the counters of a store. Both give the same
integers, since window edges move in cells of window / CELLS_PER_WINDOW, the resolution of a counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from features.arrays import Float64, Int64
from features.clock import CELLS_PER_WINDOW, DAY, HOUR
from features.history import Histories
from features.log import Catalog, Requests
from features.tables.event_types import canonical_type

__all__ = [
    "CLICK",
    "DATED_CLICK",
    "GLOBAL",
    "IMPRESSION",
    "ITEM",
    "USER",
    "USER_ITEM",
    "Count",
    "First",
    "Last",
    "days",
    "hours",
    "of_category",
    "user_of_category",
]
CLICK = "click"
"""Events of any positive type, as `Events.positive` marks them."""
DATED_CLICK = "dated click"
"""As CLICK, without events of type history, of which only the order is known."""
IMPRESSION = "impression"
"""Candidates of shown lists; lists made by sampling are none."""

Key = tuple[str, ...]
GLOBAL: Key = ()
ITEM: Key = ("item",)
USER: Key = ("user",)
USER_ITEM: Key = ("user", "item")


_COLUMN = "\0"
"""Marks a column in a key whose name is that of another key."""


def _in_key(column: str) -> str:
    return column + _COLUMN if column in (*ITEM, *USER) else column


def of_category(column: str) -> Key:
    """The key of a categorical item column: the candidate's values of it, added up where it has several."""
    return (_in_key(column),)


def user_of_category(column: str) -> Key:
    """The key of a user together with the candidate's values of a categorical item column."""
    return ("user", _in_key(column))


def category_of(key: Key) -> str | None:
    """The categorical column in a key, or None; raises ValueError for a key that is none of the six kinds."""
    if key in (GLOBAL, ITEM, USER, USER_ITEM):
        return None
    if len(key) == 1 or (len(key) == 2 and key[0] == "user"):
        return key[-1].removesuffix(_COLUMN)
    raise ValueError(
        f"expected a key (), ('item',), ('user',), ('user', 'item'), (column,) or ('user', column), got {key!r}"
    )


def event_table_of(event_type: str) -> str:
    """The type of the events that an aggregate of `event_type` counts: dated clicks are clicks but the undated ones."""
    return CLICK if event_type == DATED_CLICK else event_type


def hours(n: int) -> int:
    """Microseconds in n hours."""
    return n * HOUR


def days(n: int) -> int:
    """Microseconds in n days."""
    return n * DAY


@dataclass(frozen=True)
class _EventsByKey:
    event_type: str
    key: Key

    def __post_init__(self) -> None:
        object.__setattr__(self, "event_type", canonical_type(self.event_type))
        category_of(self.key)


@dataclass(frozen=True)
class Count(_EventsByKey):
    """How many events before the request. Integer, never missing: 0 for an unknown user or item.

    event_type: CLICK, DATED_CLICK, IMPRESSION or an event type, compared without case and blanks. key: which of them; a
    candidate with several values of a category gets the sum over its values. window: microseconds back, a multiple of
    24, or None for all time; events without a date count in all time alone.
    """

    window: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        window = self.window
        if window is not None and (not isinstance(window, int) or window <= 0 or window % CELLS_PER_WINDOW):
            raise ValueError(
                f"expected a window of whole microseconds, a positive multiple of {CELLS_PER_WINDOW} as hours(1) and "
                f"days(7) are, got {window!r}"
            )


@dataclass(frozen=True)
class Last(_EventsByKey):
    """Time of the latest dated event before the request, in microseconds; NO_TIME where there is none."""


@dataclass(frozen=True)
class First(_EventsByKey):
    """Time of the first dated event before the request, in microseconds; NO_TIME where there is none."""


Aggregate = Count | Last | First


def within(read: Aggregate, horizon: int | None) -> Aggregate:
    """What is read of an aggregate where no read looks further back than a horizon, None for any time: a count of all
    time, or of a longer window, is that of a window as long as the horizon. First and last times stay as they are: the
    readers leave out what lies beyond."""
    if horizon is None or not isinstance(read, Count) or (read.window is not None and read.window <= horizon):
        return read
    return replace(read, window=horizon)


class FeatureReader(Protocol):
    """The past of a batch of requests: every value counts only events before the request's time minus the delay."""

    @property
    def requests(self) -> Requests:
        """The lists to rank, with item codes of `catalog`."""

    @property
    def catalog(self) -> Catalog:
        """The items whose codes `requests` and `histories` hold."""

    @property
    def histories(self) -> Histories:
        """Each request's latest clicked items before its time."""

    @property
    def delay(self) -> int:
        """Microseconds that an event needs to become known."""

    @property
    def timezone(self) -> str:
        """IANA name of the zone of hour and weekday."""

    def n_values(self, column: str) -> Float64:
        """How many values of a categorical column each candidate row's item has, (n_rows,)."""

    def answers(self, reads: Sequence[Aggregate], rows: slice) -> Int64:
        """Counts and times of some candidate rows, (n_reads, n); NO_TIME for no event."""

    def count(self, read: Count) -> Int64:
        """Events counted for each candidate row, (n_rows,)."""
