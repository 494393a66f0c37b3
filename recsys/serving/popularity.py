"""Clicks of the most clicked items in memory, for answers without a model, and without the store where that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event, Thread

import numpy as np

from features.arrays import Float64
from features.errors import StoreError
from features.online.item_clicks import item_clicks
from features.online.state import OnlineState

logger = logging.getLogger(__name__)
_AT_ONCE = 1000
_PAUSE = 0.002
"""Seconds between two pages, in which rankings go on."""


class ItemPopularity:
    """The clicks of at most `capacity` stored items, those with most clicks, as of the last refresh."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._clicks: Mapping[str, int] = {}

    def __len__(self) -> int:
        return len(self._clicks)

    def clicks(self, items: Sequence[str]) -> Float64:
        """Clicks of each item, (n,); 0 for those that are not in memory."""
        clicks = self._clicks
        return np.array([clicks.get(item, 0) for item in items], np.float64)

    def refresh(self, state: OnlineState, pause: Callable[[float], bool] = lambda _: False) -> None:
        """Read the clicks of all stored items anew. Raises StoreError where the store cannot be read.

        pause: called between two pages with the seconds to wait; whether to give up, which leaves what is in memory.
        """
        best: dict[str, int] = {}
        now = time.time_ns() // 1000
        last: str | None = None
        while True:
            with state.snapshot() as view:  # one for each page: one that is open for long keeps a store from reuse
                ids, clicks = item_clicks(view, _AT_ONCE, now=now, after=last)
            best |= {item: count for item, count in zip(ids, clicks.tolist(), strict=True) if count > 0}
            if len(best) > 2 * self._capacity:
                best = self._most_clicked(best)
            if len(ids) < _AT_ONCE:
                break
            last = ids[-1]
            if pause(_PAUSE):
                return
        self._clicks = self._most_clicked(best)

    def _most_clicked(self, clicks: dict[str, int]) -> dict[str, int]:
        if len(clicks) <= self._capacity:
            return clicks
        return dict(sorted(clicks.items(), key=lambda entry: (-entry[1], entry[0]))[: self._capacity])

    @contextmanager
    def kept_fresh(self, state: OnlineState, seconds: float) -> Iterator[None]:
        """Refresh in a thread of its own while the block runs, at once and every so many seconds; 0 never does."""
        stopped = Event()

        def run() -> None:
            while not stopped.is_set():
                try:
                    self.refresh(state, stopped.wait)
                except StoreError as error:
                    logger.warning("clicks of items in memory stay as they are: %s", error)
                except Exception:
                    logger.exception("clicks of items in memory stay as they are")
                stopped.wait(seconds)

        thread = Thread(target=run, name="popularity", daemon=True)
        if seconds:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            if seconds:
                thread.join()
