"""The collaborative columns of candidates, from a snapshot of the past and each request's history.

A value depends on its own request and candidate alone: offline and online agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from features.arrays import Float32, Float64, Int32, Int64
from features.compiled import compiled
from features.definitions.aggregates import FeatureReader
from features.exact import to_grid
from features.history import Histories
from features.kernels.history_cosine import history_cosines
from features.log import Requests, slice_requests
from recsys.collaborative.column_names import (
    ALIGNED_COLUMN,
    AUDIENCE_COLUMN,
    CO_CLICK_COLUMNS,
    FACTOR_COLUMN,
    SEQUENCE_COLUMN,
)
from recsys.collaborative.neighbours import Neighbours
from recsys.collaborative.snapshot import CollaborativeSnapshot, TableSettings


class TableSource(Protocol):
    """Where a reader's snapshots come from, in the codes of its catalog, the unknown item last."""

    @property
    def settings(self) -> TableSettings:
        """How the snapshots are built."""

    def build_times(self, times: Int64) -> Int64:
        """When the snapshot was built that a request at each time reads, (n,); never after the time."""

    def snapshot(self, as_of: int) -> CollaborativeSnapshot:
        """The snapshot of the clicks before a build time."""


def collaborative_matrix(
    source: TableSource, reader: FeatureReader, text_vectors: Float32, columns: Sequence[str]
) -> Float32:
    """Some of the source's columns of every candidate row of the reader's requests, (n_rows, n_columns) float32.

    co_click_*: similarity to the history's items, mean, best and last; 0 for items without common users, NaN
    for an empty history. factor_similarity: cosine with the history's mean factors. sequence_similarity: the sum of
    similarities by nearness, each divided by the history item's place from the latest; 0 and NaN as co_click_*.
    audience_similarity: cosine of the history's mean text vector with the item's audience. aligned_similarity: cosine
    with the history's mean aligned factors. The cosines are NaN where either side is missing.
    text_vectors: (n_items + 1, d), which only the last two read. columns: of `source.settings.columns`.
    """
    requests, histories = reader.requests, reader.histories
    matrix = np.empty((requests.n_rows, len(columns)), np.float32)
    build_times = source.build_times(requests.time - reader.delay)
    starts = np.flatnonzero(np.diff(build_times, prepend=build_times[:1] - 1)).tolist()
    for first, end in zip(starts, [*starts[1:], len(requests)], strict=True):
        chunk, chunk_histories = requests, histories
        if end - first < len(requests):
            chunk, chunk_histories = slice_requests(requests, first, end), histories.take_range(first, end)
        values = _values(source.snapshot(int(build_times[first])), chunk, chunk_histories, text_vectors, columns)
        block = matrix[requests.offsets[first] : requests.offsets[end]]
        for position, name in enumerate(columns):
            block[:, position] = values[name]
    return matrix


def _values(
    snapshot: CollaborativeSnapshot,
    requests: Requests,
    histories: Histories,
    text_vectors: Float32,
    columns: Sequence[str],
) -> dict[str, Float64]:
    """The columns by name, (n_rows,) each, of requests that read one snapshot."""
    history, alignment = histories.items, snapshot.alignment
    values: dict[str, Float64] = {}
    if not {*CO_CLICK_COLUMNS, SEQUENCE_COLUMN}.isdisjoint(columns):
        pairs = _of_pairs(snapshot.neighbours, snapshot.sequence, requests, histories)
        values |= zip((*CO_CLICK_COLUMNS, SEQUENCE_COLUMN), pairs.T, strict=True)
    if FACTOR_COLUMN in columns:
        values[FACTOR_COLUMN] = history_cosines(snapshot.factors, history, requests)
    if AUDIENCE_COLUMN in columns:
        values[AUDIENCE_COLUMN] = history_cosines(snapshot.audience, history, requests, of_history=text_vectors)
    if ALIGNED_COLUMN in columns:
        assert alignment is not None
        values[ALIGNED_COLUMN] = alignment.similarity(requests, history, text_vectors)
    return values


def _of_pairs(neighbours: Neighbours, sequence: Neighbours | None, requests: Requests, histories: Histories) -> Float64:
    """Mean, best and last co-click similarity of each candidate to the history, and its sequence similarity,
    (n_rows, 4)."""
    history = histories.items
    columns = np.full((requests.n_rows, 4), np.nan)
    by_place = to_grid(1.0 / np.arange(1, history.lengths().max(initial=0) + 1))  # on the grid: exact in any order
    near = neighbours if sequence is None else sequence
    _fill_pair_columns(
        (neighbours.offsets, neighbours.item, neighbours.similarity),
        (near.offsets, near.item, near.similarity),
        (history.offsets, history.codes),
        (requests.offsets, requests.item),
        by_place,
        columns if sequence is not None else columns[:, :3],
    )
    return columns


@compiled
def similarity_of(table: tuple[Int64, Int32, Float32], row: int, item: int) -> float:
    """Similarity of two items, 0 where `item` is none of the row's. table: offsets, items and similarities of
    `Neighbours`."""
    offsets, items, similarity = table
    low, high = offsets[row], offsets[row + 1]
    end = high
    while low < high:
        middle = (low + high) // 2
        if items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return np.float64(similarity[low]) if low < end and items[low] == item else 0.0


@compiled
def _fill_pair_columns(
    neighbours: tuple[Int64, Int32, Float32],
    sequence: tuple[Int64, Int32, Float32],
    history: tuple[Int64, Int32],
    candidates: tuple[Int64, Int32],
    by_place: Float32,
    columns: Float64,
) -> None:
    """`_of_pairs`, added up oldest first. Tables as in `Neighbours`, history and candidates as offsets and codes, which
    may be negative for the last item. by_place: weight of a history item by its place from the latest. columns: where
    there are three, the fourth is left out."""
    n_items = len(neighbours[0]) - 1
    for request in range(len(candidates[0]) - 1):
        first, end = history[0][request], history[0][request + 1]
        if first == end:
            continue
        for row in range(candidates[0][request], candidates[0][request + 1]):
            item = candidates[1][row] % n_items
            total, best, last, near = 0.0, 0.0, 0.0, 0.0
            for entry in range(first, end):
                clicked = history[1][entry] % n_items
                last = similarity_of(neighbours, clicked, item)
                total += last
                best = max(best, last)
                if columns.shape[1] == 4:
                    near += similarity_of(sequence, clicked, item) * np.float64(by_place[end - entry - 1])
            columns[row, 0], columns[row, 1], columns[row, 2] = total / (end - first), best, last
            if columns.shape[1] == 4:
                columns[row, 3] = near
