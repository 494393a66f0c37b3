"""How tables are read: as a configuration wants it for training, or as a trained unit was, for everything after."""

from __future__ import annotations

from features.tables import ReadOptions
from recsys.config import Config
from recsys.encoder.text import Template
from recsys.stages import SECOND
from recsys.unit import Settings

_ALWAYS_READ = ("title", "description")


def read_options(config: Config) -> ReadOptions:
    """How a configuration wants tables to be read."""
    return ReadOptions(
        timezone=config.data.timezone,
        positive_event_types=config.data.positive_event_types,
        click_window=round(config.data.click_window_minutes * 60 * SECOND),
        categories=config.features.categories,
        numbers=config.features.numbers,
        vectors=config.features.vectors,
        texts=_template_columns(config.encoder.template),
    )


def settings_options(settings: Settings) -> ReadOptions:
    """Tables read as the training of a unit read them."""
    return ReadOptions(
        timezone=settings.timezone,
        positive_event_types=settings.positive_event_types,
        click_window=settings.click_window,
        categories=tuple(settings.categories),
        numbers=settings.numbers,
        vectors=settings.vectors,
        texts=_template_columns(settings.template),
    )


def _template_columns(template: str) -> tuple[str, ...]:
    """Item columns that the text template names beside those that are read always."""
    return tuple(name for name in Template.parse(template).columns if name not in _ALWAYS_READ)
