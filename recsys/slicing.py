"""Slices of the impressions in time order: encoder, ranker, valid, test.

A timestamp is never split: all impressions of one moment lie in one slice, so nothing in an older slice is as late as
anything in a newer one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from features.log import Impressions, Int64
from recsys.config import Slices
from recsys.errors import TrainingError


@dataclass(frozen=True)
class Sliced:
    """Positions of the impressions of each slice, oldest first; together they are all impressions."""

    encoder: Int64
    ranker: Int64
    valid: Int64
    test: Int64

    def counts(self) -> dict[str, int]:
        """Impressions in each slice."""
        return {name: len(getattr(self, name)) for name in ("encoder", "ranker", "valid", "test")}


def slice_impressions(impressions: Impressions, shares: Slices) -> Sliced:
    """Cut impressions, sorted by time, at the moments nearest to the cumulated shares.

    Raises TrainingError where a slice would hold no list with both a clicked and an unclicked item: too few
    impressions, or all at one moment.
    """
    time = impressions.requests.time
    edges = [0]
    for share in np.cumsum([shares.encoder, shares.ranker, shares.valid]):
        edges.append(_cut(time, share))
    edges.append(len(time))
    usable = impressions.has_both()
    parts = [np.arange(low, high, dtype=np.int64) for low, high in itertools.pairwise(edges)]
    for name, part in zip(("encoder", "ranker", "valid", "test"), parts, strict=True):
        if not usable[part].any():
            raise TrainingError(
                f"slice {name!r} holds no impression with both a clicked and an unclicked item "
                f"({len(time)} impressions at {len(np.unique(time))} distinct times in all); "
                "expected at least one in each of the four slices: give more impressions or other shares"
            )
    return Sliced(*parts)


def _cut(time: Int64, share: float) -> int:
    """The position nearest to `share` of the impressions at which the timestamp changes."""
    target = round(share * len(time))
    if target <= 0 or target >= len(time):
        return min(max(target, 0), len(time))
    before = int(np.searchsorted(time, time[target], side="left"))
    after = int(np.searchsorted(time, time[target], side="right"))
    return before if target - before <= after - target else after
