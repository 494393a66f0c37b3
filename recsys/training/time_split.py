"""Slices of the impressions in time order: encoder, ranker, valid, test.

A timestamp is never split: all impressions of one moment lie in one slice, so nothing in an older slice is as late as
anything in a newer one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from features.arrays import Int64
from features.log import Impressions
from recsys.config import SlicesConfig
from recsys.errors import TrainingError


@dataclass(frozen=True)
class TimeSplit:
    """Positions of the impressions of each slice, oldest first; together they are all impressions."""

    encoder: Int64
    ranker: Int64
    valid: Int64
    test: Int64

    def counts(self) -> dict[str, int]:
        """Impressions in each slice."""
        return {name: len(getattr(self, name)) for name in ("encoder", "ranker", "valid", "test")}


def slice_impressions(impressions: Impressions, shares: SlicesConfig) -> TimeSplit:
    """Cut impressions, sorted by time, at the moments nearest to the cumulated shares.

    Raises TrainingError where a slice would hold no list with both a clicked and an unclicked item: too few
    impressions, or all at one moment.
    """
    time = impressions.requests.time
    cuts = [_cut(time, share) for share in np.cumsum([shares.encoder, shares.ranker, shares.valid])]
    return _sliced(impressions, cuts)


def slice_after(impressions: Impressions, n: int, shares: SlicesConfig) -> TimeSplit:
    """The first `n` impressions as the encoder slice, the others cut by the shares of the other slices.

    Raises TrainingError as `slice_impressions`.
    """
    rest = impressions.requests.time[n:]
    later = np.cumsum([shares.ranker, shares.valid]) / (shares.ranker + shares.valid + shares.test)
    return _sliced(impressions, [n, *(n + _cut(rest, share) for share in later)])


def _sliced(impressions: Impressions, cuts: list[int]) -> TimeSplit:
    """Slices that begin at the start and at each edge; raises TrainingError where one has nothing to rank."""
    time = impressions.requests.time
    usable = impressions.has_both()
    slices = [np.arange(low, high, dtype=np.int64) for low, high in itertools.pairwise([0, *cuts, len(time)])]
    for name, positions in zip(("encoder", "ranker", "valid", "test"), slices, strict=True):
        if not usable[positions].any():
            raise TrainingError(
                f"slice {name!r} holds no impression with both a clicked and an unclicked item "
                f"({len(time)} impressions at {len(np.unique(time))} distinct times in all); "
                "expected at least one in each of the four slices: give more impressions or other shares"
            )
    return TimeSplit(*slices)


def chunk_starts(impressions: Impressions, positions: Int64, n: int) -> Int64:
    """Where each of `n` parts of about one size begins among `positions`, which are sorted by time; (k,), k <= n.

    A timestamp is never split: a part that would begin within one begins before it, and is left out where another
    begins there.
    """
    time = impressions.requests.time[positions]
    starts = [int(np.searchsorted(time, time[round(len(time) * k / n)], side="left")) for k in range(n)]
    return np.unique(np.array(starts, np.int64))


def _cut(time: Int64, share: float) -> int:
    """The position nearest to `share` of the impressions at which the timestamp changes."""
    target = round(share * len(time))
    if target <= 0 or target >= len(time):
        return min(max(target, 0), len(time))
    before = int(np.searchsorted(time, time[target], side="left"))
    after = int(np.searchsorted(time, time[target], side="right"))
    return before if target - before <= after - target else after
