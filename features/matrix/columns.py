"""From features to the matrix that a ranker reads: a column each, and within-list columns of those that have them.

What does not depend on requests is prepared once, in the plan; a request is then a few calls whatever the number of
features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from features.arrays import Float32
from features.definitions.aggregates import FeatureReader
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature, FeatureFunction, FormulaMeasure
from features.definitions.formulas import Formulas
from features.log import chunk_bounds
from features.matrix.within_list import percentile_and_zscore

_BLOCK_ROWS = 4096
"""Rows that are computed together, few enough to stay in a core's cache."""


def display_names(features: Sequence[Feature]) -> dict[str, str]:
    """Display names of the columns that have one beside their own: item_brand_2 of a column Brand is item_Brand."""
    return {
        name: feature.display_name + name.removeprefix(feature.name)
        for feature in features
        if feature.display_name
        for name in column_names((feature,))
    }


class FeaturePlan:
    """How the columns of some features are computed. names: of the columns, the within-list ones last."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.names = column_names(features)
        measures = [feature.measure for feature in features]
        formulas = {i: measure.formula for i, measure in enumerate(measures) if is_formula(measure)}
        self._formulas = Formulas(list(formulas.values()))
        self._others = [(i, measure) for i, measure in enumerate(measures) if i not in formulas]
        order = [*formulas, *(i for i, _ in self._others)]
        self._row = np.argsort(order)  # of each feature among the computed columns
        self._with_twins = self._row[[i for i, feature in enumerate(features) if feature.within_list]]

    def matrix(self, reader: FeatureReader) -> Float32:
        """The values of every candidate row, (n_rows, n_columns) float32; NaN is missing.

        A row's values depend on its own request alone, not on other requests of the batch or the candidates' order.
        """
        offsets, row_time = reader.requests.offsets, reader.requests.row_time()
        n_features, n_formulas = len(self._row), len(self._formulas)
        others = np.empty((len(self._others), reader.requests.n_rows), np.float32)
        for column, (_, measure) in zip(others, self._others, strict=True):
            column[:] = measure.compute(reader)
        matrix = np.empty((reader.requests.n_rows, len(self.names)), np.float32)
        for first, end in chunk_bounds(offsets, _BLOCK_ROWS):
            rows = slice(int(offsets[first]), int(offsets[end]))
            columns = np.empty((n_features, rows.stop - rows.start), np.float32)
            self._formulas.fill(reader, row_time, rows, columns[:n_formulas])
            columns[n_formulas:] = others[:, rows]
            of_chunk = offsets[first : end + 1] - offsets[first]
            percentile, z_score = percentile_and_zscore(columns[self._with_twins], of_chunk)
            matrix[rows, :n_features] = columns[self._row].T
            matrix[rows, n_features::2], matrix[rows, n_features + 1 :: 2] = percentile.T, z_score.T
        return matrix


def is_formula(measure: FeatureFunction) -> TypeGuard[FormulaMeasure]:
    """Whether a measure is its formula; a subclass may compute something else."""
    return isinstance(measure, FormulaMeasure) and type(measure).compute is FormulaMeasure.compute


def feature_matrix(features: Sequence[Feature], reader: FeatureReader) -> tuple[tuple[str, ...], Float32]:
    """Column names and the matrix of some features."""
    plan = FeaturePlan(features)
    return plan.names, plan.matrix(reader)
