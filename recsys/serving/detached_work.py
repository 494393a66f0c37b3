"""Work that may hang, such as reading a store on another machine, waited for no longer than a request may take."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from threading import BoundedSemaphore
from typing import TypeVar

Result = TypeVar("Result")


class LateWork(Exception):
    """The work goes on alone; nobody waits for its result."""


class AllThreadsHang(Exception):
    """As many pieces of work as may go on alone do so already."""


class DetachedWork:
    """Threads for at most so many pieces of work at the same time, those that nobody waits for any more included."""

    def __init__(self, most: int) -> None:
        self._executor = ThreadPoolExecutor(most, "ranking")
        self._free = BoundedSemaphore(most)

    def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """What the work returns or raises. Raises LateWork where that takes longer, and AllThreadsHang at once."""
        if not self._free.acquire(blocking=False):
            raise AllThreadsHang
        future = self._executor.submit(copy_context().run, work)
        future.add_done_callback(lambda _: self._free.release())
        if wait([future], max(0.0, seconds)).not_done:
            raise LateWork
        return future.result()
