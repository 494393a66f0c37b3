"""Which requests a pass has seen, by a hash of each: 8 bytes a request."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


class SeenRequests:
    """Hashes so far, in sorted runs of which each is longer than the next."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def first_seen_before(self, hashes: Hashes) -> int | None:
        """The position of the first of some hashes that was there before it, in an earlier call or this one; None where
        there is none, and all are remembered."""
        order = np.argsort(hashes, kind="stable")
        run = hashes[order]
        again = np.zeros(len(run), np.bool_)
        again[1:] = run[1:] == run[:-1]
        for earlier in self._runs:
            place = np.minimum(np.searchsorted(earlier, run), len(earlier) - 1)
            again |= earlier[place] == run
        if again.any():
            return int(order[again].min())
        if len(run):
            self._remember(run)
        return None

    def _remember(self, run: Hashes) -> None:
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)
