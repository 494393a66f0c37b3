"""The collaborative columns of candidates, from a snapshot of the past and each request's history.

A value depends on its own request and candidate alone: offline and online agree to the last bit.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from features.arrays import Float32, Float64, Int64, offsets_of
from features.definitions.aggregates import FeatureReader
from features.history import Histories
from features.history_cosine import history_cosines
from features.log import Requests, chunk_bounds, slice_requests
from recsys.collaborative.column_names import COLLABORATIVE_COLUMNS
from recsys.collaborative.snapshot import CollaborativeSnapshot, Neighbours

_PAIRS = 1 << 20


class TableSource(Protocol):
    """Where a reader's snapshots come from, in the codes of its catalog, the unknown item last."""

    def build_times(self, times: Int64) -> Int64:
        """When the snapshot was built that a request at each time reads, (n,); never after the time."""

    def snapshot(self, as_of: int) -> CollaborativeSnapshot:
        """The snapshot of the clicks before a build time."""


def collaborative_matrix(source: TableSource, reader: FeatureReader, text_vectors: Float32 | None) -> Float32:
    """The columns of every candidate row of the reader's requests, (n_rows, 5) float32.

    co_click_*: similarity to the history's items, mean, best and last; 0 for items without common users, NaN
    for an empty history. factor_similarity: cosine with the history's mean factors. audience_similarity: cosine of the
    history's mean text vector with the item's audience. Both NaN where either side is missing.
    text_vectors: (n_items + 1, d); None leaves audience_similarity missing.
    """
    requests, histories = reader.requests, reader.histories
    columns = np.empty((requests.n_rows, len(COLLABORATIVE_COLUMNS)), np.float32)
    build_times = source.build_times(requests.time - reader.delay)
    starts = np.flatnonzero(np.diff(build_times, prepend=build_times[:1] - 1)).tolist()
    for first, end in zip(starts, [*starts[1:], len(requests)], strict=True):
        chunk, chunk_histories = slice_requests(requests, first, end), histories.take_range(first, end)
        snapshot = source.snapshot(int(build_times[first]))
        block = columns[requests.offsets[first] : requests.offsets[end]]
        block[:, :3] = _co_clicks(snapshot.neighbours, chunk, chunk_histories)
        block[:, 3] = history_cosines(snapshot.factors, chunk_histories.items, chunk)
        if text_vectors is None:
            block[:, 4] = np.nan
        else:
            block[:, 4] = history_cosines(snapshot.audience, chunk_histories.items, chunk, of_history=text_vectors)
    return columns


def _co_clicks(neighbours: Neighbours, requests: Requests, histories: Histories) -> Float64:
    """Mean, best and last similarity of each candidate to the history, (n_rows, 3), some requests at a time."""
    pairs = offsets_of(histories.items.lengths() * requests.lengths())
    similarities = np.empty((requests.n_rows, 3))
    for first, end in chunk_bounds(pairs, _PAIRS):
        rows = slice(requests.offsets[first], requests.offsets[end])
        chunk, past = slice_requests(requests, first, end), histories.take_range(first, end)
        similarities[rows] = _pair_similarities(neighbours, chunk, past)
    return similarities


def _pair_similarities(neighbours: Neighbours, requests: Requests, histories: Histories) -> Float64:
    """`_co_clicks` with all pairs of a candidate and a history item at once, (n_rows, 3)."""
    n_items, history_items = len(neighbours.offsets) - 1, histories.items
    request = requests.request_of_row()
    lengths = history_items.lengths()[request]
    row = np.repeat(np.arange(requests.n_rows), lengths)
    starts = np.cumsum(lengths) - lengths
    entry = np.arange(len(row)) - starts[row] + history_items.offsets[request[row]]
    clicked, candidate = history_items.codes[entry].astype(np.int64), requests.item[row].astype(np.int64)
    similarity = neighbours.of_pairs(clicked % n_items, candidate % n_items)
    columns = np.full((requests.n_rows, 3), np.nan)
    with_history = np.flatnonzero(lengths > 0)
    if len(with_history):
        starts, lengths = starts[with_history], lengths[with_history]
        columns[with_history, 0] = np.add.reduceat(similarity, starts) / lengths
        columns[with_history, 1] = np.maximum.reduceat(similarity, starts)
        columns[with_history, 2] = similarity[starts + lengths - 1]
    return columns
