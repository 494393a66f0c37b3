"""Requests in runs of bounded size: what bounds the memory of everything that is computed for millions of rows."""

from __future__ import annotations

import numpy as np

from features.log import Int64, Requests


def row_chunks(offsets: Int64, rows: int) -> list[tuple[int, int]]:
    """Bounds (first, end) of runs of requests with at most `rows` candidates each, or with one request.

    offsets: (n + 1,) where each request's candidates begin.
    """
    bounds, first = [], 0
    while first < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
        end = max(end, first + 1)
        bounds.append((first, end))
        first = end
    return bounds


def part_of(requests: Requests, first: int, end: int) -> Requests:
    """Requests first to end, without copying rows."""
    rows = requests.offsets[first : end + 1]
    query = None if requests.query is None else requests.query[first:end]
    item = requests.item[rows[0] : rows[-1]]
    return Requests(requests.user[first:end], requests.time[first:end], rows - rows[0], item, query)
