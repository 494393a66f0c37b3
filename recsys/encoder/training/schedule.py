"""What an encoder goes through in training: the lists that teach it, in order, and where it is set aside on the way."""

from __future__ import annotations

from dataclasses import dataclass

from features.log import Impressions


@dataclass(frozen=True)
class TrainingSchedule:
    """What an encoder goes through. shown: the lists that teach, oldest first. chunks: where each part begins that is
    scored and then learnt from. reported: how many of the parts are learnt before the state that is evaluated; those
    after it are learnt for the version that goes live alone.
    """

    shown: Impressions
    chunks: tuple[int, ...] = ()
    reported: int | None = None

    @property
    def n_chunks_before_evaluation(self) -> int:
        """How many of the parts are learnt before the state that is evaluated."""
        return len(self.chunks) if self.reported is None else self.reported
