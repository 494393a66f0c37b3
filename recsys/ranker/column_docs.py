"""Documentation of each column of the ranker's matrix: a feature has its own, those of text columns are here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from math import inf, isinf
from typing import Any

from features.definitions.column_names import within_list_names
from features.definitions.event_measures import REQUEST_TIME, Feature
from recsys.collaborative.column_names import (
    ALIGNED_COLUMN,
    AUDIENCE_COLUMN,
    CO_CLICK_COLUMNS,
    COLLABORATIVE_COLUMNS,
    FACTOR_COLUMN,
    SEQUENCE_COLUMN,
)
from recsys.encoder.scoring import TEXT_COLUMNS
from recsys.ranker.column_names import LEXICAL_COLUMN, TEXT_SCORE


@dataclass(frozen=True)
class ColumnDoc:
    """One column. low, high: range of its values. known: since when. missing: when it is NaN. places: the names of its
    percentile and z-score among the candidates, where they are columns too. categorical: values are codes. monotone: 1
    or -1 where the score may only rise or fall with it. shown: the name that people see, where it is another. group:
    what explanations add its contribution to.
    """

    name: str
    meaning: str
    unit: str
    low: float
    high: float
    known: str
    missing: str
    group: str
    places: tuple[str, ...] = ()
    categorical: bool = False
    monotone: int = 0
    shown: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a range without an end has None there."""
        ends = {name: None if isinf(end) else end for name, end in (("low", self.low), ("high", self.high))}
        return asdict(self) | ends | {"shown": self.shown or self.name}

    @property
    def range(self) -> str:
        """The range in words."""
        if isinf(self.low) and isinf(self.high):
            return "any number"
        if isinf(self.high):
            return f"{self.low:g} or more"
        return f"{self.low:g} to {self.high:g}"


TEXT, WORDS, COLLABORATIVE = "text", "words", "collaborative"
"""Groups of the columns of fitted models; those of features are in `features.definitions.builtin`."""


def _cosine(
    name: str, meaning: str, missing: str, group: str, *, low: float = -1.0, places: tuple[str, ...] = ()
) -> ColumnDoc:
    return ColumnDoc(name, meaning, "cosine", low, 1.0, REQUEST_TIME, missing, group, places)


TEXT_DOCS = (
    _cosine(
        LEXICAL_COLUMN,
        "TF-IDF cosine of the item's text with the mean of the history's texts.",
        "the history or the item has no known term",
        WORDS,
        low=0.0,
        places=within_list_names(LEXICAL_COLUMN),
    ),
    ColumnDoc(
        TEXT_SCORE,
        "The encoder's score of the item for the user, from the texts of the history.",
        "score",
        -inf,
        inf,
        REQUEST_TIME,
        "the item has no text",
        TEXT,
        within_list_names(TEXT_SCORE),
    ),
    *(
        _cosine(
            name,
            f"Cosine of the item's text vector with {history_vector}.",
            "the item has no text, or no item of the history has",
            TEXT,
        )
        for name, history_vector in zip(
            TEXT_COLUMNS[1:],
            ("that of the latest clicked item", "the nearest one of the history", "the mean of the history's"),
            strict=True,
        )
    ),
)
"""The columns that read text, in the order of the matrix."""

COLLABORATIVE_DOCS = (
    *(
        _cosine(
            name,
            f"{statistic} similarity of the item to the history's items, by who clicked both.",
            "the history is empty",
            COLLABORATIVE,
            low=0.0,
        )
        for name, statistic in zip(CO_CLICK_COLUMNS, ("Mean", "Best", "Latest"), strict=True)
    ),
    _cosine(
        FACTOR_COLUMN,
        "Cosine of the item's factors with the mean of the history's, in a truncated SVD of past clicks.",
        "the item, or every item of the history, is not in the tables",
        COLLABORATIVE,
    ),
    ColumnDoc(
        SEQUENCE_COLUMN,
        "Similarity to the history's items by how near to each other users clicked both, added up, the latest first.",
        "similarity",
        0.0,
        inf,
        REQUEST_TIME,
        "the history is empty",
        COLLABORATIVE,
    ),
    _cosine(
        AUDIENCE_COLUMN,
        "Cosine of the history's mean text vector with the mean text vector of the item's past clickers.",
        "the item has no audience yet, or no item of the history has a text",
        COLLABORATIVE,
    ),
    _cosine(
        ALIGNED_COLUMN,
        "Cosine of the item's factors with the mean of the history's, predicted from text as far as clicks are few.",
        "the item, or every item of the history, has neither clicks nor a text",
        COLLABORATIVE,
    ),
)
"""The collaborative columns, in the order of the matrix."""


def column_docs(features: Sequence[Feature], collaborative: Collection[str]) -> tuple[ColumnDoc, ...]:
    """Every feature, then every text column, then the collaborative ones of these names."""
    tables = (doc for doc in COLLABORATIVE_DOCS if doc.name in collaborative)
    return (*(_of_feature(feature) for feature in features), *TEXT_DOCS, *tables)


def column_groups(features: Sequence[Feature], columns: Sequence[str]) -> tuple[str, ...]:
    """The group of each column of a matrix, (n_columns,): a percentile and a z-score have that of their column."""
    docs = column_docs(features, COLLABORATIVE_COLUMNS)
    groups = {name: doc.group for doc in docs for name in (doc.name, *doc.places)}
    return tuple(groups[name] for name in columns)


def _of_feature(feature: Feature) -> ColumnDoc:
    measure = feature.measure
    return ColumnDoc(
        feature.name,
        feature.doc,
        measure.unit,
        measure.low,
        measure.high,
        measure.available_from,
        measure.missing,
        feature.group,
        within_list_names(feature.name) if feature.within_list else (),
        measure.categorical,
        feature.monotone,
        feature.display_name,
    )
