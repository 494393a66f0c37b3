"""How tables are read: as a configuration wants it for training, or as a trained unit was, for everything after.

Imports nothing that trains or serves, so that a command that only looks at tables starts at once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from features.errors import InputError
from features.tables.encodings import FileOptions
from features.tables.items import CatalogColumns
from features.tables.load import ReadOptions
from features.tables.observed import clock, doubt_of_time
from features.tables.table_reader import DEFAULT_FILES
from features.tables.timestamps import EXPECTED, moment_of
from recsys.config import Config
from recsys.encoder.text import Template
from recsys.ranker.features import own_features

if TYPE_CHECKING:
    from recsys.ranker.model import Settings

log = logging.getLogger(__name__)
_ALWAYS_READ = ("title", "description")


def read_options(config: Config) -> ReadOptions:
    """How a configuration wants tables to be read. Raises InputError where its features file cannot be used."""
    own = own_features(config)
    more, numbers, vectors = (own.categories(), own.numbers(), own.vectors()) if own else ({}, {}, {})
    return ReadOptions(
        config.data,
        CatalogColumns(
            categories=config.features.categories,
            numbers=tuple(dict.fromkeys((*config.features.numbers, *numbers))),
            vectors=tuple(dict.fromkeys((*config.features.vectors, *vectors))),
            texts=_template_columns(config.encoder.template),
            more_categories=tuple(more),
            requested_by={**numbers, **vectors, **more},
        ),
        config.data.files,
    )


def read_options_of_model(settings: Settings, files: FileOptions = DEFAULT_FILES) -> ReadOptions:
    """Tables read as the training of a unit read them. files: encoding of their text, and how much may be rejected."""
    texts = _template_columns(settings.template)
    columns = CatalogColumns(settings.item_categories, settings.item_numbers, settings.item_vectors, texts)
    return ReadOptions(settings.data, columns, files)


def _template_columns(template: str) -> tuple[str, ...]:
    """Item columns that the text template names beside those that are read always."""
    return tuple(name for name in Template.parse(template).columns if name not in _ALWAYS_READ)


def moment_in(given: int | str | None, timezone: str, name: str) -> int | None:
    """Microseconds of a time that a person gives: as text, which without a zone is in `timezone`; None where none is.

    name: what the time is of, for the error. Raises InputError where the text is no time.
    """
    if given is None or isinstance(given, int):
        return given
    found = moment_of(given, timezone)
    if found is None:
        raise InputError(f"{name}: expected {EXPECTED}, got {given!r}")
    if doubt := doubt_of_time(found, clock()):
        log.warning("warning: %s %r: %s; is its unit meant?", name, given, doubt)
    return found
