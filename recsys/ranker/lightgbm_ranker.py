"""The LightGBM re-ranker: lambdarank over impressions, trained on one matrix, saved as text.

Reads float32 matrices whose columns are named and in a fixed order; a missing value is NaN; categorical columns hold
codes of a stored vocabulary. Method: LambdaMART, Burges 2010, MSR-TR-2010-82, as LightGBM implements it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import lightgbm
import numpy as np

from features.arrays import Bool, Float32, Float64, Int8, Int64, offsets_of
from features.tables.impressions import LONGEST_LIST
from recsys.config import RankerConfig
from recsys.errors import ModelError, TrainingError
from recsys.ranker.ranker import check_columns
from recsys.ranker.tree_engine import TreeEngine
from recsys.ranker.tree_shap import TreeShap

RANKER_FILE = "ranker.txt"
EVALUATED_AT = 10
SMALL_TREES, SMALL_LEAVES, SMALL_LEAF_SHARE, SMALL_LAMBDA = 60, 7, 0.02, 20.0
_SAME_NAMES = {"learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction", "bagging_fraction", "lambda_l2"}
"""Settings that LightGBM has under the same names."""


@dataclass(frozen=True)
class RankingDataset:
    """Candidate rows of n impressions. matrix: (n_rows, n_columns) float32. label: (n_rows,) graded. offsets: (n + 1,).

    Raises ValueError where labels or offsets do not fit the rows.
    """

    matrix: Float32
    label: Int8
    offsets: Int64

    def __post_init__(self) -> None:
        rows, ends = len(self.matrix), self.offsets
        if len(self.label) != rows or ends[0] != 0 or ends[-1] != rows or (np.diff(ends) < 0).any():
            raise ValueError(
                f"expected as many labels as rows and offsets that rise from 0 to their number, got {rows} rows, "
                f"{len(self.label)} labels and offsets from {ends[0]} to {ends[-1]}"
            )

    def select(self, names: Sequence[str], chosen: Sequence[str]) -> RankingDataset:
        """The same rows with some of the columns. names: of all columns. chosen: of those to take, in their order."""
        return RankingDataset(select_columns(self.matrix, names, chosen), self.label, self.offsets)

    def largest_label(self) -> Int8:
        """The largest label of each impression, (n,); 0 for an empty one."""
        padded = np.append(self.label, np.int8(0))
        largest = np.maximum.reduceat(padded, self.offsets[:-1]) if len(self.offsets) > 1 else padded[:0]
        return np.where(np.diff(self.offsets) > 0, largest, 0).astype(np.int8)


def select_columns(matrix: Float32, names: Sequence[str], chosen: Sequence[str]) -> Float32:
    """Some columns of a matrix by name, (n_rows, n_chosen); the matrix itself where these are all of its columns."""
    if tuple(chosen) == tuple(names):
        return matrix
    return np.ascontiguousarray(matrix[:, _positions(tuple(names), tuple(chosen))])


@lru_cache(maxsize=64)
def _positions(names: tuple[str, ...], chosen: tuple[str, ...]) -> Int64:
    position = {name: i for i, name in enumerate(names)}
    return np.array([position[name] for name in chosen], np.int64)


def varies(matrix: Float32) -> Bool:
    """Whether a column has rows that differ, missing being a value too, (n_columns,): no tree splits on the others."""
    differ = np.zeros(matrix.shape[1], np.bool_)
    for position, column in enumerate(matrix.T if len(matrix) else ()):
        differ[position] = not np.isnan(column).all() if np.isnan(column[0]) else (column != column[0]).any()
    return differ


def shorten(data: RankingDataset, most: int = LONGEST_LIST) -> RankingDataset:
    """The impressions with at most `most` rows each, in their order: of a longer one the rows of the largest labels, as
    far as they go, and of the other rows as many as fit, at even distances over the impression.
    """
    lengths = np.diff(data.offsets)
    if not (lengths > most).any():
        return data
    selected = np.ones(len(data.label), np.bool_)
    for position in np.flatnonzero(lengths > most):
        rows = slice(data.offsets[position], data.offsets[position + 1])
        selected[rows] = _rows_to_keep(data.label[rows], most)
    offsets = offsets_of(selected)[data.offsets]
    return RankingDataset(np.ascontiguousarray(data.matrix[selected]), data.label[selected], offsets)


def _rows_to_keep(label: Int8, most: int) -> Bool:
    """(n,) True for `most` rows of one impression: see `shorten`."""
    selected = np.zeros(len(label), np.bool_)
    clicked = np.flatnonzero(label > 0)
    best = clicked[np.argsort(-label[clicked].astype(np.int64), kind="stable")][: most - 1]
    selected[best] = True
    unclicked = np.flatnonzero(label == 0)
    n_left = most - len(best)
    even = np.arange(n_left) * len(unclicked) // n_left
    selected[unclicked[even] if len(unclicked) > n_left else unclicked] = True
    return selected


@dataclass(frozen=True)
class MatrixColumn:
    """A column of the ranker's matrix. monotone: 1 or -1 where the score may only rise or fall with it, else 0."""

    name: str
    categorical: bool = False
    monotone: int = 0


@dataclass(frozen=True)
class TreeRanker:
    """A trained booster and the columns that it reads, in order; a `Ranker`."""

    booster: lightgbm.Booster
    columns: tuple[str, ...]

    @property
    def n_trees(self) -> int:
        """Of the booster."""
        return int(self.booster.num_trees())

    @cached_property
    def engine(self) -> TreeEngine:
        """What evaluates the trees."""
        return TreeEngine(self.booster)

    def scores(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """As `Ranker.scores`."""
        check_columns(matrix, self.columns)
        if not len(matrix):
            return np.zeros(0)
        return self.engine.scores(matrix, threads=threads)

    @cached_property
    def explainer(self) -> TreeShap:
        """What computes contributions."""
        return TreeShap(self.booster)

    def contributions(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """As `Ranker.contributions`: TreeSHAP values, those of LightGBM's `pred_contrib`."""
        check_columns(matrix, self.columns)
        return self.explainer.contributions(matrix, threads=threads)

    def categorical_splits(self) -> frozenset[int]:
        """Positions of the columns that a categorical split reads; others contribute nothing as categories."""
        splits = self.booster.trees_to_dataframe()
        names = set(splits.loc[splits["decision_type"] == "==", "split_feature"])
        return frozenset(i for i, name in enumerate(self.booster.feature_name()) if name in names)

    def gains(self) -> dict[str, float]:
        """Total gain of the splits on each column, largest first."""
        gains = self.booster.feature_importance("gain")
        return dict(sorted(zip(self.columns, gains.tolist(), strict=True), key=lambda pair: -pair[1]))

    def save(self, folder: Path) -> None:
        """Write the booster as LightGBM's text."""
        (folder / RANKER_FILE).write_text(self.booster.model_to_string(), encoding="utf-8")


def load_tree_ranker(path: Path, columns: Sequence[str]) -> TreeRanker:
    """Read a ranker that `TreeRanker.save` wrote. Raises ModelError where the text or its columns do not fit."""
    booster = read_booster(path)
    if booster.num_feature() != len(columns):
        raise ModelError(f"{str(path)!r} reads {booster.num_feature()} columns, expected {len(columns)}")
    return TreeRanker(booster, tuple(columns))


def read_booster(path: Path) -> lightgbm.Booster:
    """A booster from its text. Raises ModelError where it is not one."""
    try:
        return lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
        raise ModelError(f"{str(path)!r} is not a LightGBM model in text form: {error}") from error


def is_small(settings: RankerConfig, n_lists: int) -> bool:
    """Whether so few training lists get the trees of `for_small_data`."""
    return n_lists < settings.small_data_lists


def for_small_data(settings: RankerConfig, n_rows: int) -> RankerConfig:
    """Settings for few training lists: 60 trees of 7 leaves, each leaf with 2% of the rows or more, shrunk more."""
    return settings.model_copy(
        update={
            "num_leaves": min(settings.num_leaves, SMALL_LEAVES),
            "min_data_in_leaf": max(settings.min_data_in_leaf, round(SMALL_LEAF_SHARE * n_rows)),
            "lambda_l2": max(settings.lambda_l2, SMALL_LAMBDA),
            "max_trees": min(settings.max_trees, SMALL_TREES),
        }
    )


def train_ranker(
    train: RankingDataset,
    valid: RankingDataset,
    columns: Sequence[MatrixColumn],
    settings: RankerConfig,
    *,
    seed: int,
    threads: int = 0,
    on_iteration: Callable[[int, float], None] | None = None,
) -> TreeRanker:
    """Train on `train`, stop when nDCG@10 on `valid` has not risen for a while, keep the best number of trees, but no
    fewer than `RankerConfig.min_trees`.

    With few training lists (`RankerConfig.small_data_lists`) valid does not decide on the number of trees. Every
    impression has a clicked and an unclicked item; long ones are shortened. on_iteration: called with the
    iteration and valid's nDCG@10.
    Raises TrainingError where the scores on valid are constant: such a ranker ranks nothing.
    """
    train, valid = shorten(train), shorten(valid)
    stops = not is_small(settings, len(train.offsets) - 1)
    if not stops:
        settings = for_small_data(settings, len(train.label))
    data = _lightgbm_data(train, columns, weight=_row_weights(train, settings))
    callbacks = [lightgbm.early_stopping(settings.early_stopping_rounds, verbose=False)] if stops else []
    if on_iteration is not None:
        callbacks.insert(0, lambda state: on_iteration(state.iteration, state.evaluation_result_list[0][2]))
    largest_label = int(max(train.label.max(initial=0), valid.label.max(initial=0)))
    booster = lightgbm.train(
        _parameters(settings, columns, largest_label, seed, threads),
        data,
        num_boost_round=settings.max_trees,
        valid_sets=[_lightgbm_data(valid, columns, reference=data)],
        valid_names=["valid"],
        callbacks=callbacks,
        keep_training_booster=True,  # with the trees after the best one
    )
    trained = booster.current_iteration()
    kept = min(max(booster.best_iteration, settings.min_trees), trained) if stops else trained
    best = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=kept))
    ranker = TreeRanker(best, tuple(column.name for column in columns))
    scores = ranker.scores(valid.matrix, threads=threads)
    if np.ptp(scores) == 0:
        raise TrainingError(
            f"the ranker gives all {len(scores)} valid rows the same score after {len(train.offsets) - 1} training "
            f"lists; give more impressions, or lower ranker.min_data_in_leaf (it is {settings.min_data_in_leaf})"
        )
    return ranker


def retrain_ranker(
    slices: Sequence[RankingDataset],
    columns: Sequence[MatrixColumn],
    settings: RankerConfig,
    *,
    trees: int,
    seed: int,
    threads: int = 0,
) -> TreeRanker:
    """Train on all impressions of some slices, oldest first, with a given number of trees. The first slice is the one
    that the number was found on, and decides whether the data is small."""
    lengths = np.concatenate([np.diff(data.offsets) for data in slices])
    whole = shorten(
        RankingDataset(
            np.concatenate([data.matrix for data in slices]),
            np.concatenate([data.label for data in slices]),
            offsets_of(lengths),
        )
    )
    if is_small(settings, len(slices[0].offsets) - 1):
        settings = for_small_data(settings, len(whole.label))
    parameters = _parameters(settings, columns, int(whole.label.max(initial=0)), seed, threads)
    data = _lightgbm_data(whole, columns, weight=_row_weights(whole, settings))
    booster = lightgbm.train(parameters, data, num_boost_round=trees)
    return TreeRanker(booster, tuple(column.name for column in columns))


def _lightgbm_data(
    data: RankingDataset,
    columns: Sequence[MatrixColumn],
    *,
    weight: Float64 | None = None,
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    """The rows as LightGBM takes them. reference: the training's, whose bins those of valid are."""
    return lightgbm.Dataset(
        data.matrix,
        label=data.label,
        group=np.diff(data.offsets),
        weight=weight,
        categorical_feature=[position for position, column in enumerate(columns) if column.categorical],
        reference=reference,
        params={"verbosity": -1},
    )


def _row_weights(data: RankingDataset, settings: RankerConfig) -> Float64 | None:
    """The weight of each row, (n_rows,), by the largest label of its impression; None where all are equal."""
    if not settings.list_weights:
        return None
    of_label = np.ones(max(settings.list_weights) + 1 + int(data.label.max(initial=0)))
    for label, weight in settings.list_weights.items():
        of_label[label] = weight
    return np.repeat(of_label[data.largest_label()], np.diff(data.offsets))


def _parameters(
    settings: RankerConfig, columns: Sequence[MatrixColumn], largest_label: int, seed: int, threads: int
) -> dict[str, object]:
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [EVALUATED_AT],
        "label_gain": [2**label - 1 for label in range(largest_label + 1)],
        "lambdarank_truncation_level": settings.truncation_level,
        "bagging_freq": 1,
        **settings.model_dump(include=_SAME_NAMES),
        "monotone_constraints": [column.monotone for column in columns],
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
