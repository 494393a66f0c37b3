"""From features to the matrix a ranker reads: one column each, and the place of those that ask for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.chunks import row_chunks
from features.definitions.aggregates import Reader
from features.definitions.event_measures import Feature
from features.log import Float32
from features.matrix.within_list import PERCENTILE, Z_SCORE, places

_BLOCK_ROWS = 4096
"""Rows whose places are found together, few enough to stay in a core's cache."""


def column_names(features: Sequence[Feature]) -> tuple[str, ...]:
    """Names of the matrix's columns: the features in their order, then the places in the same order."""
    raw = [feature.name for feature in features]
    twice = sorted({name for name in raw if raw.count(name) > 1})
    if twice:
        raise ValueError(f"expected features of distinct names, got more than one of {twice}")
    placed = [place_names(feature.name) for feature in features if feature.place]
    return (*raw, *(name for pair in placed for name in pair))


def shown_names(features: Sequence[Feature]) -> dict[str, str]:
    """The columns that people see under another name than their own: item_brand_2 of a column Brand as item_Brand."""
    shown: dict[str, str] = {}
    for feature in features:
        if feature.shown:
            own = (feature.name, *(place_names(feature.name) if feature.place else ()))
            shown |= {name: feature.shown + name.removeprefix(feature.name) for name in own}
    return shown


def place_names(name: str) -> tuple[str, str]:
    """Names of a column's percentile and z-score."""
    return f"{name}_{PERCENTILE}", f"{name}_{Z_SCORE}"


def feature_matrix(
    features: Sequence[Feature], reader: Reader, out: Float32 | None = None
) -> tuple[tuple[str, ...], Float32]:
    """Column names, and the values of every candidate row, (n_rows, n_columns) float32; NaN is missing.

    A row's values depend on its own request alone: not on other requests of the batch, nor on the candidates' order.
    out: where to write the values, else a new array.
    """
    names, offsets = column_names(features), reader.requests.offsets
    columns = np.empty((len(features), reader.requests.n_rows), np.float32)
    for i, feature in enumerate(features):
        columns[i] = feature.measure.compute(reader)
    matrix = np.empty((columns.shape[1], len(names)), np.float32) if out is None else out
    placed = [i for i, feature in enumerate(features) if feature.place]
    for first, end in row_chunks(offsets, _BLOCK_ROWS):
        rows = slice(offsets[first], offsets[end])
        percentile, z_score = places(columns[placed, rows], offsets[first : end + 1] - offsets[first])
        matrix[rows, : len(features)] = columns[:, rows].T
        matrix[rows, len(features) :: 2], matrix[rows, len(features) + 1 :: 2] = percentile.T, z_score.T
    return names, matrix
