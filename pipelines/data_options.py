"""How tables are read: by a configuration for training, or by the settings of a trained ranking model afterwards.

Imports nothing that trains or serves, so that commands on tables start quickly.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from features.errors import InputError
from features.tables.encodings import FileOptions
from features.tables.load import ReadOptions
from features.tables.observed import clock, doubt_of_time
from features.tables.table_reader import DEFAULT_FILES
from features.tables.timestamps import EXPECTED, parse_time
from recsys.config import Config
from recsys.ranker.features import catalog_columns

if TYPE_CHECKING:
    from recsys.ranker.model import Settings

log = logging.getLogger(__name__)


def read_options(config: Config) -> ReadOptions:
    """How a configuration wants tables to be read. Raises InputError where its features file cannot be used."""
    features = config.features
    columns = catalog_columns(features, features.categories, config.encoder.template, features.custom)
    return ReadOptions(config.data, columns, config.data.files)


def read_options_of_model(settings: Settings, files: FileOptions = DEFAULT_FILES) -> ReadOptions:
    """Tables read as the training of a model read them. files: encoding of their text, largest share of rejects."""
    return ReadOptions(settings.data, settings.item_columns, files)


def moment_in(value: int | str | None, timezone: str, name: str) -> int | None:
    """Microseconds of a time that a person gives: as text, which without a zone is in `timezone`; None where none is.

    name: what the time is of, for the error. Raises InputError where the text is no time.
    """
    if value is None or isinstance(value, int):
        return value
    timestamp = parse_time(value, timezone)
    if timestamp is None:
        raise InputError(f"{name}: expected {EXPECTED}, got {value!r}")
    if doubt := doubt_of_time(timestamp, clock()):
        log.warning("warning: %s %r: %s; is its unit meant?", name, value, doubt)
    return timestamp
