"""What gives texts their vectors, as the matrix and the online store read it; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from features.arrays import Float32
from recsys.encoder.scoring import HeadWeights, untrained_head


class TextModel(Protocol):
    """An encoder, a past state of one, or none."""

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
        """Vectors of the texts, (n, dim) float32; NaN rows for empty texts."""


@dataclass(frozen=True)
class NoEncoder:
    """The text model of a ranker that reads no column of an encoder: its vectors have width 0."""

    history_length: int
    fingerprint: str = ""
    dim: int = 0

    @property
    def weights(self) -> HeadWeights:
        """Of width 0."""
        return untrained_head(self.dim)

    def encode_texts(self, texts: Sequence[str]) -> Float32:
        """(n, 0)."""
        return np.zeros((len(texts), self.dim), np.float32)

    def encode_from(self, snapshot: object, texts: Sequence[str], waiting: object = None) -> Float32:
        """(n, 0); as `recsys.online.cached_encoder.CachedEncoder.encode_from`."""
        return self.encode_texts(texts)

    def close(self) -> None:
        """There is nothing to end."""

    def prepare(self, *, threads: int) -> None:
        """Nothing; as `Encoder.prepare`."""
