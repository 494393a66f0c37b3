"""What every stage of a training needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import Int64
from features.log import Impressions, Log
from features.offline.reader import LogIndex
from recsys.config import Config
from recsys.training.time_split import TimeSplit

SECOND = 1_000_000


@dataclass(frozen=True)
class TrainingContext:
    """What every stage needs: the log, its slices, its counters, the settings."""

    config: Config
    log: Log
    sliced: TimeSplit
    index: LogIndex
    threads: int

    @property
    def delay(self) -> int:
        """Microseconds that an event needs to become known."""
        return round(self.config.data.event_delay_seconds * SECOND)

    def usable(self, positions: Int64) -> Impressions:
        """The impressions at `positions` that have both a clicked and an unclicked item."""
        part = self.log.impressions.take(positions)
        return part.take(np.flatnonzero(part.has_both()))
