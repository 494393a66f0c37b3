"""A features file: a few lines of Python that end in a tuple FEATURES, in the words of `features.definitions.custom`.

Its source travels with the model: whoever loads a version executes the lines that it was trained with, so that batch
and online compute exactly those features. Reads the file; writes nothing.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from features.definitions.aggregates import CLICK, DATED_CLICK, IMPRESSION, category_of
from features.definitions.attribute_measures import ItemCategory, ItemNumber, VectorSimilarity
from features.definitions.column_names import column_names
from features.definitions.custom import MEASURES
from features.definitions.event_measures import Feature
from features.errors import InputError

_TUPLE = "FEATURES"


@dataclass(frozen=True)
class CustomFeatures:
    """The features of a file, and where they came from. file: its name, for messages. source: its text."""

    file: str
    source: str
    features: tuple[Feature, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def categories(self) -> Mapping[str, str]:
        """Categorical item columns that the features name, to the words for what names each."""
        found: dict[str, str] = {}
        for feature in self.features:
            measure = feature.measure
            columns = [category_of(read.by) for read in measure.reads()]
            columns.append(measure.column if isinstance(measure, ItemCategory) else None)
            found |= {column: self._words(feature) for column in columns if column and column not in found}
        return found

    def numbers(self) -> Mapping[str, str]:
        """Numeric item columns that the features name, as `categories`."""
        named = [(one, one.measure.column) for one in self.features if isinstance(one.measure, ItemNumber)]
        return {column: self._words(feature) for feature, column in reversed(named)}

    def vectors(self) -> Mapping[str, str]:
        """Vector columns of the items that the features name, as `categories`."""
        named = [(one, one.measure.column) for one in self.features if isinstance(one.measure, VectorSimilarity)]
        return {column: self._words(feature) for feature, column in reversed(named)}

    def check_names(self, taken: Collection[str]) -> None:
        """Raise InputError where a column of these features has a name that another one has."""
        for feature in self.features:
            clash = sorted(set(column_names((feature,))) & set(taken))
            if clash:
                raise InputError(
                    f"{self._words(feature)}: the catalogue has a column {clash[0]!r} already; give the feature "
                    "another name"
                )

    def check_events(self, types: Collection[str]) -> None:
        """Raise InputError where a feature counts events of a type that is in no table. types: those of the log."""
        known = {CLICK, DATED_CLICK, IMPRESSION, *types}
        for feature in self.features:
            for read in feature.measure.reads():
                if read.what not in known:
                    raise InputError(
                        f"{self._words(feature)}: expected an event type of the tables or one of "
                        f"{[CLICK, DATED_CLICK, IMPRESSION]}, got {read.what!r}; the tables have {sorted(types)}"
                    )

    def _words(self, feature: Feature) -> str:
        return f"feature {feature.name!r} of {self.file!r}"


def read_own(path: Path) -> CustomFeatures:
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
    """The features that a file's source makes; as `read_own`. This executes the source."""
    module: dict[str, object] = {"__name__": "features_file"}
    try:
        exec(compile(source, file, "exec"), module)
    except Exception as error:
        raise InputError(f"features file {file!r}{_line(error, file)}: {type(error).__name__}: {error}") from error
    found = module.get(_TUPLE)
    if not isinstance(found, tuple) or not found:
        raise InputError(f"features file {file!r}: expected a tuple {_TUPLE} of at least one feature, got {found!r}")
    own = CustomFeatures(file, source, found)
    _check(own)
    return own


def _check(own: CustomFeatures) -> None:
    names: set[str] = set()
    for place, feature in enumerate(own.features):
        if not isinstance(feature, Feature):
            raise InputError(f"features file {own.file!r}: expected {_TUPLE}[{place}] to be a Feature, got {feature!r}")
        if not isinstance(feature.measure, MEASURES):
            raise InputError(
                f"feature {feature.name!r} of {own.file!r}: expected a measure of features.definitions.custom, got "
                f"{feature.measure!r}"
            )
        columns = set(column_names((feature,)))
        if columns & names:
            raise InputError(
                f"feature {feature.name!r} of {own.file!r}: expected distinct names, "
                f"got more than one of {sorted(columns & names)}"
            )
        names |= columns


def _line(error: Exception, file: str) -> str:
    """Which line of the file an error came from."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""
