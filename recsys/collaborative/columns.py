"""The collaborative columns of candidates, from a snapshot of the past and each request's history.

A value depends on its own request and candidate alone: offline and online agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from features.arrays import Float32, Float64, Int64, offsets_of
from features.definitions.aggregates import FeatureReader
from features.exact import to_grid
from features.history import Histories
from features.history_cosine import history_cosines
from features.log import Requests, chunk_bounds, slice_requests
from recsys.collaborative.column_names import (
    ALIGNED_COLUMN,
    AUDIENCE_COLUMN,
    CO_CLICK_COLUMNS,
    FACTOR_COLUMN,
    SEQUENCE_COLUMN,
)
from recsys.collaborative.neighbours import Neighbours
from recsys.collaborative.snapshot import CollaborativeSnapshot, TableSettings

_PAIRS = 1 << 20


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
    (n_rows, 4), some requests at a time."""
    pairs = offsets_of(histories.items.lengths() * requests.lengths())
    similarities = np.empty((requests.n_rows, 4))
    for first, end in chunk_bounds(pairs, _PAIRS):
        rows = slice(requests.offsets[first], requests.offsets[end])
        chunk, past = slice_requests(requests, first, end), histories.take_range(first, end)
        similarities[rows] = _pair_similarities(neighbours, sequence, chunk, past)
    return similarities


def _pair_similarities(
    neighbours: Neighbours, sequence: Neighbours | None, requests: Requests, histories: Histories
) -> Float64:
    """`_of_pairs` with all pairs of a candidate and a history item at once, (n_rows, 4)."""
    n_items, history_items = len(neighbours.offsets) - 1, histories.items
    request = requests.request_of_row()
    lengths = history_items.lengths()[request]
    row = np.repeat(np.arange(requests.n_rows), lengths)
    starts = np.cumsum(lengths) - lengths
    entry = np.arange(len(row)) - starts[row] + history_items.offsets[request[row]]
    clicked, candidate = history_items.codes[entry].astype(np.int64), requests.item[row].astype(np.int64)
    clicked %= n_items
    candidate %= n_items
    similarity = neighbours.of_pairs(clicked, candidate)
    columns = np.full((requests.n_rows, 4), np.nan)
    with_history = np.flatnonzero(lengths > 0)
    if len(with_history):
        starts, lengths = starts[with_history], lengths[with_history]
        columns[with_history, 0] = np.add.reduceat(similarity, starts) / lengths
        columns[with_history, 1] = np.maximum.reduceat(similarity, starts)
        columns[with_history, 2] = similarity[starts + lengths - 1]
        if sequence is not None:
            place = history_items.offsets[1:][request[row]] - entry
            near = sequence.of_pairs(clicked, candidate) * to_grid(1.0 / place)  # on the grid: exact in any order
            columns[with_history, 3] = np.add.reduceat(near, starts)
    return columns
