"""The schedule of an encoder's training: the training impressions in order, and when it is evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from features.log import Impressions


@dataclass(frozen=True)
class TrainingSchedule:
    """impressions: for training, oldest first. chunks: where each chunk begins that is scored and then trained on.
    evaluated_after: how many of the chunks are learnt before the encoder is evaluated, None for all. The chunks after
    it are learnt for the registered encoder alone.
    """

    impressions: Impressions
    chunks: tuple[int, ...] = ()
    evaluated_after: int | None = None

    @property
    def n_chunks_before_evaluation(self) -> int:
        """How many of the chunks are learnt before the encoder is evaluated."""
        return len(self.chunks) if self.evaluated_after is None else self.evaluated_after
