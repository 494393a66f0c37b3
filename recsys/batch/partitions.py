"""Partitions of the input: whole requests, cut by their rows alone, so that neither batches nor workers change them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from features.arrays import offsets_of
from features.log import chunk_bounds
from features.tables.candidates import CandidateChunk

PARTITION_ROWS = 200_000
"""Candidate rows of a partition, unless another number is named."""


def partitions_of(chunks: Iterable[CandidateChunk], rows: int = PARTITION_ROWS) -> Iterator[CandidateChunk]:
    """The requests of `chunks`, in their order, as partitions of at most `rows` rows, or of one request of more.

    A partition ends where the next request would not fit: where the chunks end changes nothing. Holds one partition and
    one chunk.
    """
    waiting: list[CandidateChunk] = []
    n_waiting = 0
    for chunk in chunks:
        waiting.append(chunk)
        n_waiting += len(chunk.item)
        if n_waiting <= rows:
            continue
        *full, last = batches_of(_joined(waiting), rows)
        yield from full
        waiting, n_waiting = [last], len(last.item)
    if n_waiting:
        yield _joined(waiting)


def batches_of(chunk: CandidateChunk, rows: int) -> Iterator[CandidateChunk]:
    """The requests of a chunk in runs of at most `rows` rows, or of one request of more."""
    for first, end in chunk_bounds(chunk.offsets, rows):
        yield _slice(chunk, first, end)


def _slice(chunk: CandidateChunk, first: int, end: int) -> CandidateChunk:
    if (first, end) == (0, len(chunk)):
        return chunk
    offsets = chunk.offsets[first : end + 1]
    return CandidateChunk(
        chunk.ids[first:end],
        chunk.user[first:end],
        chunk.time[first:end],
        chunk.query[first:end],
        offsets - offsets[0],
        chunk.item[offsets[0] : offsets[-1]],
    )


def _joined(chunks: Sequence[CandidateChunk]) -> CandidateChunk:
    if len(chunks) == 1:
        return chunks[0]
    return CandidateChunk(
        np.concatenate([chunk.ids for chunk in chunks]),
        np.concatenate([chunk.user for chunk in chunks]),
        np.concatenate([chunk.time for chunk in chunks]),
        np.concatenate([chunk.query for chunk in chunks]),
        offsets_of(np.concatenate([np.diff(chunk.offsets) for chunk in chunks])),
        np.concatenate([chunk.item for chunk in chunks]),
    )
