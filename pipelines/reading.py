"""How tables are read: as a configuration wants it for training, or as a trained unit was, for everything after."""

from __future__ import annotations

import os

import torch

from features.log import Log
from features.offline import LogIndex
from features.tables import ReadOptions
from recsys.config import Config
from recsys.encoder.text import Template
from recsys.feature_set import check_features, own_features
from recsys.slicing import slice_impressions
from recsys.stages import SECOND, Chain
from recsys.unit import Settings, fitted_columns

_ALWAYS_READ = ("title", "description")


def read_options(config: Config) -> ReadOptions:
    """How a configuration wants tables to be read. Raises InputError where its features file cannot be used."""
    own = own_features(config)
    more, numbers, vectors = (own.categories(), own.numbers(), own.vectors()) if own else ({}, {}, {})
    return ReadOptions(
        timezone=config.data.timezone,
        positive_event_types=config.data.positive_event_types,
        click_window=round(config.data.click_window_minutes * 60 * SECOND),
        categories=config.features.categories,
        numbers=tuple(dict.fromkeys((*config.features.numbers, *numbers))),
        vectors=tuple(dict.fromkeys((*config.features.vectors, *vectors))),
        texts=_template_columns(config.encoder.template),
        more_categories=tuple(more),
        named_by={**numbers, **vectors, **more},
    )


def open_chain(config: Config, log: Log) -> Chain:
    """A log with its slices and counters, and the threads that its stages use: as many as configured, or one a core.

    Raises TrainingError where a slice would have nothing to rank, InputError where a feature cannot be made of the log.
    """
    check_features(config, log, fitted_columns(collaborative=True))
    threads = config.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    return Chain(config, log, slice_impressions(log.impressions, config.slices), LogIndex(log), threads)


def settings_options(settings: Settings) -> ReadOptions:
    """Tables read as the training of a unit read them."""
    return ReadOptions(
        timezone=settings.timezone,
        positive_event_types=settings.positive_event_types,
        click_window=settings.click_window,
        categories=settings.item_categories,
        numbers=settings.item_numbers,
        vectors=settings.item_vectors,
        texts=_template_columns(settings.template),
    )


def _template_columns(template: str) -> tuple[str, ...]:
    """Item columns that the text template names beside those that are read always."""
    return tuple(name for name in Template.parse(template).columns if name not in _ALWAYS_READ)
