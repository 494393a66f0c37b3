"""A ranker without training: a weighted sum of columns of the matrix, such as popularity alone.

Its columns are z-scores within the list, so that columns of different units add up; a missing value counts 0, the mean
of the list: a candidate that a column does not know is put neither first nor last by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import Float32, Float64
from recsys.errors import ModelError
from recsys.ranker.ranker import check_columns

WEIGHTS_FILE = "weights.json"


@dataclass(frozen=True)
class LinearRanker:
    """weights: by column, in the order of its matrix; a `Ranker`."""

    weights: Mapping[str, float]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it reads, in order."""
        return tuple(self.weights)

    @property
    def n_trees(self) -> int:
        """0."""
        return 0

    def scores(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """As `Ranker.scores`. Columns are added in their order: the same bits on every machine."""
        check_columns(matrix, self.columns)
        values, scores = self.contributions(matrix), np.zeros(len(matrix))
        for i in range(len(self.columns)):
            scores += values[:, i]
        return scores

    def contributions(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """As `Ranker.contributions`: each value times its weight."""
        values: Float64 = np.nan_to_num(matrix.astype(np.float64))
        values *= np.array(list(self.weights.values()))
        return values

    def categorical_splits(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def gains(self) -> dict[str, float]:
        """Size of each column's weight, largest first."""
        sizes = {name: abs(weight) for name, weight in self.weights.items()}
        return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))

    def save(self, folder: Path) -> None:
        """Write the weights as JSON."""
        (folder / WEIGHTS_FILE).write_text(
            json.dumps({"weights": dict(self.weights)}, indent=1) + "\n", encoding="utf-8"
        )


def load_linear_ranker(path: Path, columns: Sequence[str]) -> LinearRanker:
    """Read a ranker that `LinearRanker.save` wrote. Raises ModelError where its columns do not fit."""
    weights = read_weights(path)
    if tuple(weights) != tuple(columns):
        raise ModelError(f"{str(path)!r} reads the columns {tuple(weights)}, expected {tuple(columns)}")
    return LinearRanker(weights)


def read_weights(path: Path) -> dict[str, float]:
    """`weights` of a JSON file. Raises ModelError where it has none."""
    try:
        return {str(name): float(weight) for name, weight in json.loads(path.read_text("utf-8"))["weights"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{str(path)!r} holds no weights of columns: {error!r}; train the version again") from error
