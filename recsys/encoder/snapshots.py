"""Snapshots of an encoder over time: which one scores an impression, and what is stored of past ones.

Progressive training scores every chunk of the log with the present encoder, then learns from it. So an impression is
scored by the encoder that had seen only older ones, and everything that its columns read, the vectors of its history
and of collaborative tables included, comes from that one encoder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Float32, Int64
from recsys.encoder.scoring import HeadWeights
from recsys.encoder.text_model import TextModel
from recsys.encoder.vector_table import VectorTable

BEGINNING = int(np.iinfo(np.int64).min)
"""The start of the first encoder: it scores everything that no later one scores."""
MEMORY_BYTES = 64 * 2**20
"""Vectors of a snapshot beyond that are stored on disk."""


@dataclass(frozen=True)
class EncoderSnapshot:
    """A past encoder. table: the vectors of every text that the impressions it scores read; others have none."""

    history_length: int
    weights: HeadWeights
    table: VectorTable

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.table.vectors.shape[1])

    def encode_texts(self, texts: Sequence[str]) -> Float32:
        """Vectors of the texts, (n, d) float32; NaN rows for empty texts and those that its table does not hold."""
        return self.table.vectors_of(texts)[0]


@dataclass(frozen=True)
class ScheduledEncoder:
    """start: the impressions from this time on, microseconds, are scored by the model, until a later one starts.

    trained_until: time of the newest label that trained or chose the model, None where none did.
    """

    start: int
    trained_until: int | None
    model: TextModel


def assign_encoder(states: Sequence[ScheduledEncoder], time: Int64) -> Int64:
    """Which encoder scores an impression at each time, (n,); the first one also what is before its start."""
    starts = np.array([state.start for state in states], np.int64)
    return np.maximum(np.searchsorted(starts, time, side="right") - 1, 0)


def group_by_encoder(states: Sequence[ScheduledEncoder], time: Int64) -> Iterator[tuple[int, Int64]]:
    """Each encoder that scores any of the impressions at `time`, by number, with their positions."""
    scored_by = assign_encoder(states, time)
    for number in np.unique(scored_by).tolist():
        yield number, np.flatnonzero(scored_by == number).astype(np.int64)


def copy_or_spill(vectors: Float32, *, memory_bytes: int = MEMORY_BYTES) -> Float32:
    """A copy of vectors, in memory or, if large, on disk."""
    copied: Float32 = zeros_or_spilled(vectors.shape, memory_bytes)
    copied[:] = vectors
    return copied


def zeros_or_spilled(shape: tuple[int, int], memory_bytes: int, dtype: npt.DTypeLike = np.float32) -> Any:
    """Zeros in memory or, above `memory_bytes`, in an unnamed temporary file, which the system removes with the
    process."""
    if np.dtype(dtype).itemsize * shape[0] * shape[1] <= memory_bytes:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)
