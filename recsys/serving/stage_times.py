"""How long the stages of a ranking take on this process, learnt from the requests that it answers."""

from __future__ import annotations

from typing import Literal

Stage = Literal["read", "text", "encoding", "no_text", "memory"]
"""read: what the store knows. text: matrix and scores of the full ranker, without the wait for texts that are being
encoded. encoding: that wait. no_text: matrix and scores of the ranker without text. memory: an answer without
a model."""

_RISE, _FALL = 0.5, 0.05
_FORGET = 0.98


class StageTimes:
    """An estimate for each stage and size class of lists, the powers of two.

    It moves by half of the difference to a longer time and by a twentieth to a shorter one, so that about nine of ten
    requests take less. Whenever a stage is left out because of its estimate that shrinks by 2%: after some requests the
    stage is tried again, and one slow moment does not last.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[Stage, int], float] = {}

    def estimate(self, stage: Stage, n: int) -> float:
        """Seconds for n candidates, or texts; 0 where nothing of this size has been measured."""
        return self._seconds.get((stage, n.bit_length()), 0.0)

    def add(self, stage: Stage, n: int, seconds: float) -> None:
        """Count one measured time."""
        key = (stage, n.bit_length())
        before = self._seconds.get(key)
        if before is None:
            self._seconds[key] = seconds
        else:
            self._seconds[key] = before + (seconds - before) * (_RISE if seconds > before else _FALL)

    def skipped(self, stage: Stage, n: int) -> None:
        """Count that a stage was left out for its estimate."""
        key = (stage, n.bit_length())
        if key in self._seconds:
            self._seconds[key] *= _FORGET
