"""Admission control: a few requests run at the same time, some wait, the rest are rejected at once.

Early rejection bounds the waiting time of admitted requests; an unbounded queue would make all of them late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from recsys.serving.errors import Overloaded

Answer = TypeVar("Answer")


class AdmissionLimiter:
    """Runs work in threads: `workers` at a time, at most `queue` waiting."""

    def __init__(self, workers: int, queue: int) -> None:
        self._limiter = anyio.CapacityLimiter(workers)
        self._capacity = workers + queue
        self._inside = 0

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns. Raises Overloaded where too many wait already. Call it from one event loop only."""
        if self._inside >= self._capacity:
            raise Overloaded(f"{self._inside} requests are being worked on or wait already; try again in a moment")
        self._inside += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._inside -= 1
