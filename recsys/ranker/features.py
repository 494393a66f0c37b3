"""Which features a ranker reads: the built-in catalogue for a data set's columns, then those of the user's file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from features.arrays import Int32
from features.definitions.builtin import catalogue
from features.definitions.column_names import column_names
from features.definitions.custom_file import CustomFeatures
from features.definitions.event_measures import Feature
from features.definitions.settings import FeatureSettings
from features.log import Catalog, Log
from features.tables.items import CATEGORY, CatalogColumns, looks_categorical
from recsys.config import Config
from recsys.encoder.text import Template

_ALWAYS_READ = ("title", "description")


def feature_set(
    vocabularies: Mapping[str, tuple[str, ...]],
    settings: FeatureSettings,
    custom: CustomFeatures | None = None,
    *,
    reserved: Collection[str] = (),
) -> tuple[Feature, ...]:
    """The catalogue's features (see `features.definitions.builtin`), then the custom ones.

    vocabularies: values with a code by categorical column. reserved: names that columns beside features have. Raises
    InputError where a name is given twice.
    """
    built_in = catalogue(
        categories=vocabularies, numbers=settings.numbers, vectors=settings.vectors, smoothing=settings.smoothing
    )
    if custom is None:
        return built_in
    custom.check_names({*column_names(built_in), *reserved})
    return (*built_in, *custom.features)


def catalog_columns(
    settings: FeatureSettings, categories: Sequence[str] | None, template: str, custom: CustomFeatures | None
) -> CatalogColumns:
    """The item columns that features and the text template read.

    categories: categorical columns beside those of custom features, None for every one whose values repeat.
    """
    more, numbers, vectors = (custom.categories(), custom.numbers(), custom.vectors()) if custom else ({}, {}, {})
    return CatalogColumns(
        categories=None if categories is None else tuple(categories),
        numbers=tuple(dict.fromkeys((*settings.numbers, *numbers))),
        vectors=tuple(dict.fromkeys((*settings.vectors, *vectors))),
        texts=tuple(name for name in Template.parse(template).columns if name not in _ALWAYS_READ),
        extra_categories=tuple(more),
        requested_by={**numbers, **vectors, **more},
    )


def check_features(config: Config, log: Log, reserved: Collection[str]) -> tuple[Feature, ...]:
    """The features that a training on a log would have, without vocabularies: what can be wrong with them is found
    before anything is trained. reserved: as in `feature_set`. Raises InputError.
    """
    custom = config.features.custom
    if custom is not None:
        custom.check_events(log.events.types)
    categories = sorted(catalogue_categories(log.catalog, config.features.categories, custom))
    return feature_set(dict.fromkeys(categories, ()), config.features, custom, reserved=reserved)


def catalogue_categories(
    catalog: Catalog, named: Sequence[str] | None, custom: CustomFeatures | None
) -> frozenset[str]:
    """Categorical columns that the catalogue has features of: those it would have without custom features.

    named: named in the configuration, or None for every column whose values repeat.
    """
    only_custom = frozenset(custom.categories() if custom else ()) - {*(named or ()), CATEGORY}
    return frozenset(
        name
        for name, column in catalog.categories.items()
        if name not in only_custom
        or (named is None and looks_categorical(len(column.values), int(np.count_nonzero(column.codes.lengths()))))
    )


def category_vocabularies(catalog: Catalog, candidates: Int32, *, most: int) -> dict[str, tuple[str, ...]]:
    """Of each categorical column the values of the items in `candidates`, most frequent first, at most `most` of them.

    candidates: (n,) item codes, an item as often as it was a candidate of the lists that train.
    """
    n_impressions = np.bincount(candidates[candidates >= 0], minlength=len(catalog))
    vocabularies = {}
    for name, column in catalog.categories.items():
        weight = np.repeat(np.append(n_impressions, 0), column.codes.lengths())
        frequency = np.bincount(column.codes.codes, weights=weight, minlength=len(column.values))
        order = np.lexsort((np.arange(len(frequency)), -frequency))[:most]
        vocabularies[name] = tuple(column.values[i] for i in order if frequency[i] > 0)
    return vocabularies
