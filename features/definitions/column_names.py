"""Names of the columns that features make."""

from __future__ import annotations

from collections.abc import Sequence

from features.definitions.event_measures import Feature

PERCENTILE = "percentile"
Z_SCORE = "zscore"


def column_names(features: Sequence[Feature]) -> tuple[str, ...]:
    """Names of the matrix's columns: the features in their order, then their within-list columns in the same
    order."""
    raw = [feature.name for feature in features]
    if len(set(raw)) < len(raw):
        twice = sorted({name for name in raw if raw.count(name) > 1})
        raise ValueError(f"expected features of distinct names, got more than one of {twice}")
    pairs = [within_list_names(feature.name) for feature in features if feature.within_list]
    return (*raw, *(name for pair in pairs for name in pair))


def within_list_names(name: str) -> tuple[str, str]:
    """Names of a column's percentile and z-score."""
    return f"{name}_{PERCENTILE}", f"{name}_{Z_SCORE}"
