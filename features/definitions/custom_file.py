"""A features file: a few lines of Python that end in a tuple FEATURES, in the words of `features.definitions.custom`.

Its source travels with the model: loading a version executes the lines that it was trained with, so that batch and
online compute exactly those features. Reads the file; writes nothing.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from features.definitions.aggregates import CLICK, DATED_CLICK, IMPRESSION, category_of
from features.definitions.attribute_measures import ItemCategory, ItemNumber, VectorSimilarity
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature, FeatureFunction
from features.errors import InputError

_TUPLE = "FEATURES"
_MEASURES = tuple(FeatureFunction.__subclasses__())
"""Measures that a file may use: both readers compute them alike, from past events alone."""


@dataclass(frozen=True)
class CustomFeatures:
    """The features of a file. file: its name, for messages. source: its text."""

    file: str
    source: str
    features: tuple[Feature, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def categories(self) -> Mapping[str, str]:
        """Categorical item columns that the features name, to the words for what names each."""
        return self._named(_categories_of)

    def numbers(self) -> Mapping[str, str]:
        """Numeric item columns that the features name, as `categories`."""
        return self._named(lambda measure: [measure.column] if isinstance(measure, ItemNumber) else [])

    def vectors(self) -> Mapping[str, str]:
        """Vector columns of the items that the features name, as `categories`."""
        return self._named(lambda measure: [measure.column] if isinstance(measure, VectorSimilarity) else [])

    def _named(self, columns_of: Callable[[FeatureFunction], Iterable[str]]) -> dict[str, str]:
        """The columns of all features, each with the words for the first that names it."""
        return {
            column: _in_words(feature, self.file)
            for feature in reversed(self.features)
            for column in columns_of(feature.measure)
        }

    def check_names(self, taken: Collection[str]) -> None:
        """Raise InputError where a column of these features has a name that another one has."""
        for feature in self.features:
            clash = sorted(set(column_names((feature,))) & set(taken))
            if clash:
                raise InputError(
                    f"{_in_words(feature, self.file)}: the catalogue has a column {clash[0]!r} already; give the "
                    "feature another name"
                )

    def check_events(self, types: Collection[str]) -> None:
        """Raise InputError where a feature counts events of a type that is in no table. types: those of the log."""
        countable = {CLICK, DATED_CLICK, IMPRESSION, *types}
        for feature in self.features:
            for read in feature.measure.reads():
                if read.event_type not in countable:
                    raise InputError(
                        f"{_in_words(feature, self.file)}: expected an event type of the tables or one of "
                        f"{[CLICK, DATED_CLICK, IMPRESSION]}, got {read.event_type!r}; the tables have {sorted(types)}"
                    )


def read_custom_features(path: Path) -> CustomFeatures:
    """The features of a file. Raises InputError, which names the file and the line or the feature, where it cannot be
    read or executed, or holds anything but features in the words of `features.definitions.custom`.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"features file {str(path)!r} cannot be read: {error}") from error
    return load_custom_features(source, str(path))


@lru_cache(maxsize=16)
def load_custom_features(source: str, file: str) -> CustomFeatures:
    """The features that a file's source makes; as `read_custom_features`. This executes the source."""
    module: dict[str, object] = {"__name__": "features_file"}
    try:
        exec(compile(source, file, "exec"), module)
    except Exception as error:
        raise InputError(f"features file {file!r}{_line(error, file)}: {type(error).__name__}: {error}") from error
    features = module.get(_TUPLE)
    if not isinstance(features, tuple) or not features:
        raise InputError(f"features file {file!r}: expected a tuple {_TUPLE} of at least one feature, got {features!r}")
    _check(features, file)
    return CustomFeatures(file, source, features)


def _check(features: tuple[object, ...], file: str) -> None:
    names: set[str] = set()
    for index, feature in enumerate(features):
        if not isinstance(feature, Feature):
            raise InputError(f"features file {file!r}: expected {_TUPLE}[{index}] to be a Feature, got {feature!r}")
        if not isinstance(feature.measure, _MEASURES):
            raise InputError(
                f"{_in_words(feature, file)}: expected a measure of features.definitions.custom, got "
                f"{feature.measure!r}"
            )
        columns = set(column_names((feature,)))
        if columns & names:
            raise InputError(
                f"{_in_words(feature, file)}: expected distinct names, got more than one of {sorted(columns & names)}"
            )
        names |= columns


def _in_words(feature: Feature, file: str) -> str:
    return f"feature {feature.name!r} of {file!r}"


def _categories_of(measure: FeatureFunction) -> list[str]:
    columns = [category_of(read.key) for read in measure.reads()]
    columns.append(measure.column if isinstance(measure, ItemCategory) else None)
    return [column for column in columns if column is not None]


def _line(error: Exception, file: str) -> str:
    """Which line of the file an error came from."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""
