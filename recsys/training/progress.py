"""Progress of a ranker's training as log messages: trees, validation metric, time spent and time left."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two lines."""


class TreeProgress:
    """The trees of one ranker. valid_ndcg: nDCG@10 on valid after each of them."""

    def __init__(self, method: str, max_trees: int) -> None:
        self.valid_ndcg: list[float] = []
        self._method, self._max_trees = method, max_trees
        self._started = self._logged = time.monotonic()

    def add(self, tree: int, ndcg: float) -> None:
        """Count a tree, by its number from 0, and log a line where the last one is long ago."""
        self.valid_ndcg.append(ndcg)
        now = time.monotonic()
        if now - self._logged < EVERY:
            return
        self._logged = now
        spent, trees = now - self._started, tree + 1
        log.info(
            "ranker %r: tree %d of at most %d, validation nDCG@10 %.4f (best %.4f), %.0f s, at most %.0f s left",
            self._method,
            trees,
            self._max_trees,
            ndcg,
            max(self.valid_ndcg),
            spent,
            spent / trees * (self._max_trees - trees),
        )

    def finish(self, trees: int) -> None:
        """Log the outcome. trees: how many the ranker keeps."""
        log.info(
            "ranker %r: %d trees of %d trained, validation nDCG@10 %.4f, %.1f s",
            self._method,
            trees,
            len(self.valid_ndcg),
            self.valid_ndcg[trees - 1],
            time.monotonic() - self._started,
        )
