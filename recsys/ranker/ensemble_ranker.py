"""A ranker for little data: the trees' score and those of simple methods, added up.

Trees that are trained on few impressions can be worse than popularity or shared words. Their errors differ, so that the
sum is better than either in most cases; docs/choosing.md gives the figures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from features.arrays import Float32, Float64, Int64
from recsys.errors import ModelError
from recsys.ranker.lightgbm_ranker import RANKER_FILE, RankingDataset, TreeRanker, read_booster, select_columns
from recsys.ranker.linear_ranker import LinearRanker, read_weights
from recsys.ranker.ranker import check_columns

ENSEMBLE_FILE = "ensemble.json"


@dataclass(frozen=True)
class EnsembleRanker:
    """trees: their scores are multiplied by `scale`, which brings them to a spread of 1 within an impression. simple:
    a weighted sum of z-scores. A `Ranker`."""

    trees: TreeRanker
    simple: LinearRanker
    scale: float

    @classmethod
    def of(
        cls, trees: TreeRanker, simple: LinearRanker, data: RankingDataset, names: tuple[str, ...], *, threads: int
    ) -> EnsembleRanker:
        """An ensemble whose scale is that of the trees' scores on some rows. names: of the rows' columns."""
        scores = trees.scores(select_columns(data.matrix, names, trees.columns), threads=threads)
        spread = _spread_within_lists(scores, data.offsets)
        return cls(trees, simple, 1.0 / spread if spread > 0 else 0.0)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it reads, those of the trees first."""
        return (*self.trees.columns, *(name for name in self.simple.columns if name not in self.trees.columns))

    @property
    def n_trees(self) -> int:
        """Of the booster."""
        return self.trees.n_trees

    def scores(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """As `Ranker.scores`."""
        check_columns(matrix, self.columns)
        return self.trees.scores(self._of_trees(matrix), threads=threads) * self.scale + self.simple.scores(
            select_columns(matrix, self.columns, self.simple.columns)
        )

    def contributions(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """As `Ranker.contributions`: the trees' TreeSHAP values and each value times its weight."""
        values = np.zeros(matrix.shape)
        values[:, : len(self.trees.columns)] = self.trees.contributions(self._of_trees(matrix), threads=threads)
        values *= self.scale
        of_simple = self.simple.contributions(select_columns(matrix, self.columns, self.simple.columns))
        for i, name in enumerate(self.simple.columns):
            values[:, self.columns.index(name)] += of_simple[:, i]
        return values

    def with_trees(self, trees: TreeRanker) -> EnsembleRanker:
        """The same with other trees of as many columns."""
        return replace(self, trees=trees)

    def categorical_splits(self) -> frozenset[int]:
        """As `Ranker.categorical_splits`."""
        return self.trees.categorical_splits()

    def gains(self) -> dict[str, float]:
        """Of the trees alone: total gain of the splits on each column, largest first."""
        return self.trees.gains()

    def save(self, folder: Path) -> None:
        """Write the booster as LightGBM's text, and the rest as JSON."""
        self.trees.save(folder)
        content = {"scale": self.scale, "weights": dict(self.simple.weights)}
        (folder / ENSEMBLE_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _of_trees(self, matrix: Float32) -> Float32:
        return select_columns(matrix, self.columns, self.trees.columns)


def load_ensemble_ranker(folder: Path, columns: tuple[str, ...]) -> EnsembleRanker:
    """Read a ranker that `EnsembleRanker.save` wrote. Raises ModelError where its columns do not fit."""
    path = folder / ENSEMBLE_FILE
    simple = LinearRanker(read_weights(path))
    try:
        scale = float(json.loads(path.read_text("utf-8"))["scale"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{str(path)!r} holds no scale: {error!r}; train the version again") from error
    extra = [name for name in simple.columns if name not in columns]
    if extra:
        raise ModelError(f"{str(path)!r} reads the columns {extra} too, expected some of {columns}")
    booster = read_booster(folder / RANKER_FILE)
    return EnsembleRanker(TreeRanker(booster, columns[: booster.num_feature()]), simple, scale)


def _spread_within_lists(scores: Float64, offsets: Int64) -> float:
    """Root of the mean squared distance of scores from the mean of their list; lists are not empty."""
    lengths = np.diff(offsets)
    means = np.add.reduceat(scores, offsets[:-1]) / lengths
    return float(np.sqrt(np.mean((scores - np.repeat(means, lengths)) ** 2)))
