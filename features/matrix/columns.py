"""From features to the matrix a ranker reads: one column each, and the within-list columns of those that have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Float32
from features.definitions.aggregates import FeatureReader
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from features.log import chunk_bounds
from features.matrix.within_list import percentile_and_zscore

_BLOCK_ROWS = 4096
"""Rows whose within-list values are computed together, few enough to stay in a core's cache."""


def display_names(features: Sequence[Feature]) -> dict[str, str]:
    """Display names of the columns that have one beside their own: item_brand_2 of a column Brand is item_Brand."""
    return {
        name: feature.display_name + name.removeprefix(feature.name)
        for feature in features
        if feature.display_name
        for name in column_names((feature,))
    }


def feature_matrix(features: Sequence[Feature], reader: FeatureReader) -> tuple[tuple[str, ...], Float32]:
    """Column names, and the values of every candidate row, (n_rows, n_columns) float32; NaN is missing.

    A row's values depend on its own request alone: not on other requests of the batch, nor on the candidates' order.
    """
    names, offsets = column_names(features), reader.requests.offsets
    columns = np.empty((len(features), reader.requests.n_rows), np.float32)
    for i, feature in enumerate(features):
        columns[i] = feature.measure.compute(reader)
    matrix = np.empty((columns.shape[1], len(names)), np.float32)
    with_twins = [i for i, feature in enumerate(features) if feature.within_list]
    for first, end in chunk_bounds(offsets, _BLOCK_ROWS):
        rows = slice(offsets[first], offsets[end])
        of_chunk = offsets[first : end + 1] - offsets[first]
        percentile, z_score = percentile_and_zscore(columns[with_twins, rows], of_chunk)
        matrix[rows, : len(features)] = columns[:, rows].T
        matrix[rows, len(features) :: 2], matrix[rows, len(features) + 1 :: 2] = percentile.T, z_score.T
    return names, matrix
