"""Units of time in microseconds, the edges of windows, and the text of a time in messages, reports and manifests."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from features.arrays import NO_TIME, Int64

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CELLS_PER_WINDOW = 24
"""A window's edge moves in steps of window / 24: a counter keeps at most 25 cells of it."""
Times = TypeVar("Times", int, Int64)


def cell_width(window: int) -> int:
    """Microseconds of one cell of a window."""
    return window // CELLS_PER_WINDOW


def window_edge(time: Times, window: int) -> Times:
    """First microsecond inside the window that ends before `time`; same shape, on a cell's edge."""
    width = cell_width(window)
    return (time // width - CELLS_PER_WINDOW) * width


def oldest_read(as_of: int, horizon: int | None) -> int:
    """The time of the oldest event that is read as of a time, NO_TIME without a horizon: that of a window as long."""
    return NO_TIME if horizon is None else window_edge(as_of, horizon)


def oldest_kept(as_of: int, horizon: int | None) -> int:
    """The time of the oldest event that a store keeps for reads as of a time or later, NO_TIME without a horizon.

    A cell earlier than what is read at that time: a collaborative snapshot may be built as of a time shortly before.
    """
    return NO_TIME if horizon is None else as_of - horizon - 2 * cell_width(horizon)


def format_time(microseconds: int) -> str:
    """A time as ISO 8601 in UTC."""
    return f"{np.datetime64(microseconds, 'us')}Z"
