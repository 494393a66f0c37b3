"""A log ready for the stages of a training: sliced, counted, with as many threads as configured."""

from __future__ import annotations

import os

import torch

from features.log import Log
from recsys.config import Config
from recsys.ranker.column_names import model_columns
from recsys.ranker.features import check_features
from recsys.training.context import TrainingContext, make_context


def open_training_context(config: Config, log: Log) -> TrainingContext:
    """A log with its slices and counters, and the threads that its stages use: as many as configured, or one a core.

    Raises TrainingError where a slice would have nothing to rank, InputError where a feature cannot be made of the log.
    """
    check_features(config, log, model_columns(collaborative=True))
    threads = config.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    return make_context(config, log, threads=threads)
