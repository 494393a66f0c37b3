"""Work that nobody waits for, in one thread of low priority, between requests where there is room between them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore, Condition, get_native_id

NICENESS = 10
_PAUSE = 0.01
"""Seconds until a piece of work begins, in which the answer that it belongs to is sent."""


def lower_priority() -> None:
    """Let other threads go before this one and those that it starts, where the system has such threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICENESS)


class BackgroundWork:
    """Takes at most `most` pieces of work at the same time, and does one after the other. Threads of Python take turns:
    each piece waits for a moment without requests, `patience` seconds at most. Safe for threads."""

    def __init__(self, most: int, *, patience: float = 0.25) -> None:
        self._executor = ThreadPoolExecutor(1, "background", initializer=lower_priority)
        self._free = BoundedSemaphore(most)
        self._patience = patience
        self._requests = 0
        self._changed = Condition()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is being answered while the block runs."""
        with self._changed:
            self._requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1
                if not self._requests:
                    self._changed.notify()

    def add(self, work: Callable[[], object]) -> bool:
        """Do a piece of work soon; False where it is not taken, since too much waits already. It must not raise."""
        if not self._free.acquire(blocking=False):
            return False
        try:
            self._executor.submit(self._run, work)
        except RuntimeError:  # closed
            self._free.release()
            return False
        return True

    def close(self) -> None:
        """Take no more work, leave what waits, and let the piece end that is being done: it may be reading a store that
        is closed next."""
        self._executor.shutdown(cancel_futures=True)

    def _run(self, work: Callable[[], object]) -> None:
        try:
            time.sleep(_PAUSE)
            with self._changed:
                self._changed.wait_for(lambda: not self._requests, self._patience)
            work()
        finally:
            self._free.release()
