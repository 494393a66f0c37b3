"""How long a request with a budget waits for texts that are being encoded."""

from __future__ import annotations

from recsys.online.encoding_queue import Finished
from recsys.serving.budget import Budget
from recsys.serving.stage_times import StageTimes


class TextWait:
    """As long as the budget allows, less what comes after it; not at all where that is known to be too short.

    reserve: seconds of the stages after it. missed: texts that had no vector in time. seconds: spent waiting.
    """

    def __init__(self, budget: Budget, times: StageTimes, reserve: float) -> None:
        self.missed: set[str] = set()
        self.seconds = 0.0
        self._budget, self._times, self._reserve = budget, times, reserve

    def wait(self, n_texts: int, finished: Finished) -> None:
        """As `EncodingWait.wait`."""
        left = self._budget.left() - self._reserve
        if left <= 0:
            return
        if left < self._times.estimate("encoding", n_texts):
            self._times.skipped("encoding", n_texts)
            return
        started = self._budget.clock()
        in_time = finished(left)
        seconds = self._budget.clock() - started
        self.seconds += seconds
        self._times.add("encoding", n_texts, seconds if in_time else 2 * left)
