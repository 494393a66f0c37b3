"""Logs failures that may come by the thousand: at most one a minute, with how many there were."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock

logger = logging.getLogger(__name__)
SECONDS = 60.0


class FailureLog:
    """Failures of one kind. Safe for threads. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._next, self._n = -float("inf"), 0

    def add(self, what: str, error: BaseException) -> None:
        """Log a failure with its traceback, unless the last one was logged less than a minute ago. what: begins the
        line."""
        with self._lock:
            self._n += 1
            now = self._clock()
            if now < self._next:
                return
            n, self._n, self._next = self._n, 0, now + SECONDS
        logger.warning("%s (%d since the last such line)", what, n, exc_info=error)
