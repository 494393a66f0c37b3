"""Names of features made from names of item columns, which may be anything: "Brand", "Marque d'origine", "品牌", "age".

A name that lower case letters, digits and underscores can hold stays as it is. Any other becomes such a name, and where
features of another column, or of the catalogue itself, have that name already, a number follows: brand_2. The doc of a
feature has the column as the table spells it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature

Make = Callable[[str], tuple[Feature, ...]]
"""Makes the features of a column. Their names contain the given name in place of the column's."""
_PLAIN = re.compile(r"[a-z][a-z0-9_]*")
_NAMELESS = "column"
_PLACEHOLDER = "name_to_be_replaced"


def safe_name(column: str) -> str:
    """A column's name in lower case letters, digits and underscores, a letter first: not distinct of itself."""
    if _PLAIN.fullmatch(column):
        return column
    ascii_name = unicodedata.normalize("NFKD", column).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", ascii_name).strip("_")
    return name if _PLAIN.fullmatch(name) else f"{_NAMELESS}_{name}".rstrip("_")


def in_words(column: str) -> str:
    """A column in a sentence: quoted where it is not a plain name."""
    return column if _PLAIN.fullmatch(column) else repr(column)


def named_features(columns: Sequence[tuple[str, Make]], taken: Iterable[str]) -> tuple[Feature, ...]:
    """The features of every column, in the order given, under names that differ from each other and from `taken`.

    Plain names come first, then the others by name, so that a further column changes no plain name.
    """
    used = set(taken)
    by_index: dict[int, tuple[Feature, ...]] = {}
    for index in sorted(range(len(columns)), key=lambda index: _rank(columns[index][0])):
        column, make = columns[index]
        features = _first_free(safe_name(column), make, used)
        used |= set(column_names(features))
        by_index[index] = tuple(map(partial(_with_display_name, column), features, make(_PLACEHOLDER)))
    return tuple(feature for index in range(len(columns)) for feature in by_index[index])


def _with_display_name(column: str, feature: Feature, pattern: Feature) -> Feature:
    """The feature with its display name. pattern: the same feature under the placeholder's name."""
    display_name = pattern.name.replace(_PLACEHOLDER, column)
    return feature if display_name == feature.name else replace(feature, display_name=display_name)


def _rank(column: str) -> tuple[bool, str]:
    return safe_name(column) != column, column


def _first_free(name: str, make: Make, used: Collection[str]) -> tuple[Feature, ...]:
    candidates = (make(name if number == 1 else f"{name}_{number}") for number in count(1))
    return next(features for features in candidates if not set(column_names(features)) & set(used))
