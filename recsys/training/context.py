"""The input of every stage of a training: settings, log, slices, counters, and how to read the past of a request."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from features.arrays import Int64
from features.log import Impressions, Log
from features.offline.reader import LogIndex, OfflineSettings
from recsys.config import Config
from recsys.encoder.text import item_texts
from recsys.ranker.column_names import RESERVED_COLUMNS
from recsys.ranker.features import check_features
from recsys.training.time_split import TimeSplit, slice_impressions


@dataclass(frozen=True)
class TrainingContext:
    """threads: of the stages, at least 1."""

    config: Config
    log: Log
    sliced: TimeSplit
    index: LogIndex
    threads: int

    @property
    def delay(self) -> int:
        """Microseconds that an event needs to become known."""
        return self.index.settings.data.event_delay

    @cached_property
    def item_texts(self) -> list[str]:
        """The text of every item of the log's catalog, (n_items + 1,); "" where there is none."""
        return item_texts(self.log.catalog, self.config.encoder.template)

    def usable(self, positions: Int64) -> Impressions:
        """The impressions at `positions` that have both a clicked and an unclicked item."""
        impressions = self.log.impressions.take(positions)
        return impressions.take(np.flatnonzero(impressions.has_both()))


def make_context(config: Config, log: Log, *, threads: int = 1) -> TrainingContext:
    """A log with its slices and counters, read as the configuration says.

    Raises TrainingError where a slice would have nothing to rank.
    """
    settings = OfflineSettings(config.data, config.encoder.history_length, threads)
    sliced = slice_impressions(log.impressions, config.slices)
    return TrainingContext(config, log, sliced, LogIndex(log, settings), threads)


def open_training_context(config: Config, log: Log) -> TrainingContext:
    """A log with its slices and counters, and the threads that its stages use: as many as configured, or one a core.

    Raises TrainingError where a slice would have nothing to rank, InputError where a feature cannot be made of the log.
    """
    check_features(config, log, RESERVED_COLUMNS)
    threads = config.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    return make_context(config, log, threads=threads)
