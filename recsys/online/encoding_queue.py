"""Texts that are encoded in the background, so that a request need not wait for them longer than it may."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Protocol

logger = logging.getLogger(__name__)
_MOST_WAITING = 4096
_AT_ONCE = 32
Finished = Callable[[float], bool]
"""Waits for texts at most so many seconds; whether all of them have been encoded."""


class EncodingWait(Protocol):
    """How long one request waits for texts that have no vector yet. missed: texts that it went on without."""

    missed: set[str]

    def wait(self, n_texts: int, finished: Finished) -> None:
        """Wait for a number of texts, as long as the request may."""


class NoWait:
    """An `EncodingWait` of no time at all."""

    def __init__(self) -> None:
        self.missed: set[str] = set()

    def wait(self, n_texts: int, finished: Finished) -> None:
        """Go on without the texts."""


class EncodingQueue:
    """One thread that encodes texts in the order in which they were asked for, each once. Safe for threads."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "encoder")
        self._waiting: dict[str, Future[None]] = {}
        self._lock = Lock()
        self._is_closed = False

    def close(self) -> None:
        """Take no more texts, and leave those that wait."""
        with self._lock:
            self._is_closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def add(self, encode: Callable[[Sequence[str]], object], texts: Sequence[str]) -> Finished:
        """Encode distinct texts soon, those that wait already not again; beyond 4,096 that wait no more are taken.

        encode: encodes some texts and keeps their vectors.
        """
        with self._lock:
            room = _MOST_WAITING - len(self._waiting)
            new = [] if self._is_closed else [text for text in texts if text not in self._waiting][:room]
            for start in range(0, len(new), _AT_ONCE):
                batch = new[start : start + _AT_ONCE]
                self._waiting |= dict.fromkeys(batch, self._executor.submit(self._run, encode, batch))
            futures = {self._waiting[text] for text in texts if text in self._waiting}
            is_whole = all(text in self._waiting for text in texts)
        return lambda seconds: not wait(futures, seconds).not_done and is_whole

    def _run(self, encode: Callable[[Sequence[str]], object], batch: Sequence[str]) -> None:
        try:
            encode(batch)
        except Exception:
            logger.exception("%d texts could not be encoded; they are tried again when they are asked for", len(batch))
        finally:
            with self._lock:
                for text in batch:
                    del self._waiting[text]
