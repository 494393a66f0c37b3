"""What ranks: a function of the matrix's columns, whose score of a row depends on that row alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from features.arrays import Float32, Float64
from recsys.errors import ModelError


class Ranker(Protocol):
    """Scores candidate rows by their columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it reads, in order."""

    @property
    def n_trees(self) -> int:
        """Trees of a boosted ranker; 0 for another."""

    def scores(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """Scores of candidate rows, (n_rows,), higher is better; a row's score depends on that row alone.

        matrix: (n_rows, n_columns) in the order of `columns`. threads: 0 is one for each core. Raises ModelError for
        another number of columns.
        """

    def contributions(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """What each column adds to each row's score, (n_rows, n_columns), beside the expected score."""

    def categorical_splits(self) -> frozenset[int]:
        """Positions of the columns that are read as categories, whose codes have no order."""

    def gains(self) -> dict[str, float]:
        """How much each column adds to the ranking, largest first; in a unit of the ranker's own."""

    def save(self, folder: Path) -> None:
        """Write the ranker's files."""


def check_columns(matrix: Float32, columns: Sequence[str]) -> None:
    """Raise ModelError where a matrix does not have as many columns as a ranker reads."""
    if matrix.shape[1:] != (len(columns),):
        raise ModelError(f"the ranker reads {len(columns)} columns, got a matrix of shape {matrix.shape}")
