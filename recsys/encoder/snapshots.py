"""States of an encoder over time: which one scores a list, and what a past one is kept as.

An encoder that goes through the log scores every stretch of it as it stands, then learns from it. So a list is scored
by the state that had seen only what was older, and all that a list's columns read, the vectors of its history and of
collaborative tables included, comes from that one state.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from features.arrays import Float32, Int64
from recsys.encoder.scoring import HeadWeights
from recsys.encoder.vector_table import VectorTable

BEGINNING = int(np.iinfo(np.int64).min)
"""The start of a first state: it scores everything that no later state scores."""
_MEMORY_BYTES = 64 * 2**20


class TextModel(Protocol):
    """What a list's text columns need: an `Encoder`, or what is kept of a past state of one."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""

    @property
    def history_length(self) -> int:
        """Most recent distinct clicked items that are read."""

    @property
    def weights(self) -> HeadWeights:
        """What `scoring.score_candidates` reads."""

    def encode_texts(self, texts: Sequence[str]) -> Float32:
        """Vectors of the texts, (n, d) float32; NaN rows for empty texts."""


@dataclass(frozen=True)
class EncoderSnapshot:
    """A past state. table: the vectors of every text that the lists it scores read; others have none."""

    history_length: int
    weights: HeadWeights
    table: VectorTable

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.table.vectors.shape[1])

    def encode_texts(self, texts: Sequence[str]) -> Float32:
        """Vectors of the texts, (n, d) float32; NaN rows for empty texts and those that are not kept."""
        found = np.full((len(texts), self.dim), np.nan, np.float32)
        rows = self.table.find(texts)
        found[rows >= 0] = self.table.vectors[rows[rows >= 0]]
        return found


@dataclass(frozen=True)
class ScheduledEncoder:
    """start: the lists from this time on, microseconds, are scored by the model, until a later state starts.

    learnt_until: time of the newest label that trained or chose the model, None where none did.
    """

    start: int
    learnt_until: int | None
    model: TextModel


def assign_encoder(states: Sequence[ScheduledEncoder], time: Int64) -> Int64:
    """Which state scores a list at each time, (n,); the first one also what is before its start."""
    starts = np.array([state.start for state in states], np.int64)
    found: Int64 = np.maximum(np.searchsorted(starts, time, side="right") - 1, 0)
    return found


def group_by_encoder(states: Sequence[ScheduledEncoder], time: Int64) -> Iterator[tuple[int, Int64]]:
    """Each state that scores any of the lists at `time`, by number, with the positions of its lists."""
    scored_by = assign_encoder(states, time)
    for number in np.unique(scored_by).tolist():
        yield number, np.flatnonzero(scored_by == number).astype(np.int64)


def copy_or_spill(vectors: Float32) -> Float32:
    """A copy of vectors to be kept: in memory, or, if large, in an unnamed temporary file that the system removes with
    the process."""
    if vectors.nbytes <= _MEMORY_BYTES:
        return vectors.copy()
    with tempfile.TemporaryFile() as file:
        kept = np.memmap(file, np.float32, "w+", shape=vectors.shape)
    kept[:] = vectors
    return kept
