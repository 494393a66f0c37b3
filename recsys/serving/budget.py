"""The time that a request may take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from recsys.serving.errors import BadRequest
from recsys.serving.schemas import BUDGET_HEADER

Clock = Callable[[], float]


@dataclass(frozen=True)
class Budget:
    """seconds: from the request's arrival; infinite for no limit. ends: when they are over, by `clock`."""

    seconds: float
    ends: float
    clock: Clock = time.perf_counter

    @classmethod
    def of(cls, milliseconds: float, arrived: float, clock: Clock) -> Budget:
        """The budget of a request that arrived at a time of the clock. milliseconds: 0 for no limit."""
        seconds = milliseconds / 1000 if milliseconds else math.inf
        return cls(seconds, arrived + seconds, clock)

    @property
    def is_limited(self) -> bool:
        """Whether the time ends."""
        return math.isfinite(self.seconds)

    def left(self) -> float:
        """Seconds, negative once they are over."""
        return self.ends - self.clock()


UNLIMITED = Budget(math.inf, math.inf)
"""For whoever waits as long as it takes: replay, golden requests, warm-up."""


def parse_milliseconds(text: str) -> float:
    """The value of the header that sets a request's budget. Raises BadRequest for what is none."""
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = math.nan
    if not (math.isfinite(milliseconds) and milliseconds >= 0):
        raise BadRequest(
            f"header {BUDGET_HEADER}: expected milliseconds, a number from 0 on, 0 for no limit, got {text!r}",
            BUDGET_HEADER,
        )
    return milliseconds
