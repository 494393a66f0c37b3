"""The LightGBM re-ranker: lambdarank over lists, trained on one matrix, saved as text.

Reads float32 matrices whose columns are named and in a fixed order; a missing value is NaN; categorical columns hold
codes of a stored vocabulary. Method: LambdaMART, Burges 2010, MSR-TR-2010-82, as LightGBM implements it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt

from features.arrays import Float32, Float64, Int8, Int64
from features.tables.impressions import LONGEST_LIST
from recsys.config import RankerConfig as RankerSettings
from recsys.errors import ModelError, TrainingError

EVALUATED_AT = 10


@dataclass(frozen=True)
class RankingDataset:
    """Candidate rows of n lists. matrix: (n_rows, n_columns) float32. label: (n_rows,) graded. offsets: (n + 1,).

    Raises ValueError where the rows of the lists do not add up; rows in another order are for `lists_of_rows`.
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

    def largest_label(self) -> Int8:
        """The largest label of each list, (n,); 0 for an empty one."""
        padded = np.append(self.label, np.int8(0))
        largest = np.maximum.reduceat(padded, self.offsets[:-1]) if len(self.offsets) > 1 else padded[:0]
        return np.where(np.diff(self.offsets) > 0, largest, 0).astype(np.int8)


def lists_of_rows(matrix: Float32, label: Int8, list_ids: npt.NDArray[np.generic]) -> RankingDataset:
    """Rows in any order put together by the list they belong to, so that nothing is trained on half a list.

    list_ids: (n_rows,) of any sortable kind. Lists come in order of their ids, rows of a list in the order given.
    """
    order = np.argsort(list_ids, kind="stable")
    sorted_ids = list_ids[order]
    starts = np.flatnonzero(np.append(True, sorted_ids[1:] != sorted_ids[:-1])) if len(order) else np.zeros(0, np.int64)
    return RankingDataset(
        np.ascontiguousarray(matrix[order]), label[order], np.append(starts, len(order)).astype(np.int64)
    )


def shortened(lists: RankingDataset, most: int = LONGEST_LIST) -> RankingDataset:
    """The lists with at most `most` rows each, in their order: of a longer one its rows of the largest labels, as far
    as they go, and of its other rows as many as fit, at even distances over the list.
    """
    lengths = np.diff(lists.offsets)
    if not (lengths > most).any():
        return lists
    kept = np.ones(len(lists.label), np.bool_)
    for place in np.flatnonzero(lengths > most):
        start, end = int(lists.offsets[place]), int(lists.offsets[place + 1])
        kept[start:end] = _most_telling(lists.label[start:end], most)
    ends = np.append(0, np.cumsum(kept))[lists.offsets].astype(np.int64)
    return RankingDataset(np.ascontiguousarray(lists.matrix[kept]), lists.label[kept], ends)


def _most_telling(label: Int8, most: int) -> npt.NDArray[np.bool_]:
    """(n,) True for `most` rows of a list: see `shortened`."""
    kept = np.zeros(len(label), np.bool_)
    clicked = np.flatnonzero(label > 0)
    best = clicked[np.argsort(-label[clicked].astype(np.int64), kind="stable")][: most - 1]
    kept[best] = True
    others = np.flatnonzero(label == 0)
    left = most - len(best)
    kept[others[np.arange(left) * len(others) // left] if len(others) > left else others] = True
    return kept


@dataclass(frozen=True)
class MatrixColumn:
    """A column of the ranker's matrix. monotone: 1 or -1 where the score may only rise or fall with it, else 0."""

    name: str
    categorical: bool = False
    monotone: int = 0


@dataclass(frozen=True)
class Ranker:
    """A trained booster and the columns that it reads, in order."""

    booster: lightgbm.Booster
    columns: tuple[str, ...]

    def scores(self, matrix: Float32, *, threads: int = 0) -> Float64:
        """Scores of candidate rows, (n_rows,), higher is better; a row's score depends on that row alone.

        matrix: (n_rows, n_columns) in the order of `columns`. threads: 0 is one for each core.
        """
        if matrix.shape[1:] != (len(self.columns),):
            raise ModelError(f"the ranker reads {len(self.columns)} columns, got a matrix of shape {matrix.shape}")
        if not len(matrix):
            return np.zeros(0)
        scores: Float64 = self.booster.predict(matrix, num_threads=threads)
        return scores

    def gains(self) -> dict[str, float]:
        """Total gain of the splits on each column, largest first."""
        gains = self.booster.feature_importance("gain")
        return dict(sorted(zip(self.columns, gains.tolist(), strict=True), key=lambda pair: -pair[1]))

    def save(self, path: Path) -> None:
        """Write the booster as LightGBM's text."""
        path.write_text(self.booster.model_to_string(), encoding="utf-8")


def load_ranker(path: Path, columns: Sequence[str]) -> Ranker:
    """Read a ranker that `Ranker.save` wrote. Raises ModelError where the text or its columns do not fit."""
    try:
        booster = lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
        raise ModelError(f"{str(path)!r} is not a LightGBM model in text form: {error}") from error
    if booster.num_feature() != len(columns):
        raise ModelError(f"{str(path)!r} reads {booster.num_feature()} columns, expected {len(columns)}")
    return Ranker(booster, tuple(columns))


def train_ranker(
    train: RankingDataset,
    valid: RankingDataset,
    columns: Sequence[MatrixColumn],
    settings: RankerSettings,
    *,
    seed: int,
    threads: int = 0,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Ranker:
    """Train on `train`, stop when nDCG@10 on `valid` has not risen for a while, keep the best number of trees.

    Every list has a clicked and an unclicked item; long ones are `shortened`. on_iteration: called with the iteration
    and valid's nDCG@10.
    Raises TrainingError where the scores on valid are constant: such a ranker ranks nothing.
    """
    train, valid = shortened(train), shortened(valid)
    categorical = [position for position, column in enumerate(columns) if column.categorical]
    datasets: list[lightgbm.Dataset] = []
    for lists in (train, valid):
        datasets.append(
            lightgbm.Dataset(
                lists.matrix,
                label=lists.label,
                group=np.diff(lists.offsets),
                weight=None if lists is valid else _row_weights(lists, settings),
                categorical_feature=categorical,
                reference=datasets[0] if datasets else None,
                params={"verbosity": -1},
            )
        )

    def report(state: lightgbm.callback.CallbackEnv) -> None:
        if on_iteration is not None:
            on_iteration(state.iteration, state.evaluation_result_list[0][2])

    booster = lightgbm.train(
        _parameters(settings, columns, _largest_label(train, valid), seed, threads),
        datasets[0],
        num_boost_round=settings.max_trees,
        valid_sets=[datasets[1]],
        valid_names=["valid"],
        callbacks=[report, lightgbm.early_stopping(settings.early_stopping_rounds, verbose=False)],
    )
    best = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))
    ranker = Ranker(best, tuple(column.name for column in columns))
    scores = ranker.scores(valid.matrix, threads=threads)
    if np.ptp(scores) == 0:
        raise TrainingError(
            f"the ranker gives all {len(scores)} valid rows the same score after {len(train.offsets) - 1} training "
            f"lists; give more impressions, or lower ranker.min_data_in_leaf (it is {settings.min_data_in_leaf})"
        )
    return ranker


def retrain_ranker(
    lists: Sequence[RankingDataset],
    columns: Sequence[MatrixColumn],
    settings: RankerSettings,
    *,
    trees: int,
    seed: int,
    threads: int = 0,
) -> Ranker:
    """Train on all of some lists, oldest first, with a number of trees that is known already."""
    lists = [shortened(one) for one in lists]
    matrix = np.concatenate([one.matrix for one in lists])
    label = np.concatenate([one.label for one in lists])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(one.offsets) for one in lists]))])
    whole = RankingDataset(matrix, label, offsets)
    data = lightgbm.Dataset(
        matrix,
        label=label,
        group=np.diff(offsets),
        weight=_row_weights(whole, settings),
        categorical_feature=[position for position, column in enumerate(columns) if column.categorical],
        params={"verbosity": -1},
    )
    parameters = _parameters(settings, columns, int(label.max(initial=0)), seed, threads)
    booster = lightgbm.train(parameters, data, num_boost_round=trees)
    return Ranker(booster, tuple(column.name for column in columns))


def _row_weights(lists: RankingDataset, settings: RankerSettings) -> Float64 | None:
    """What each row of a list counts, (n_rows,); None where all count alike."""
    if not settings.list_weights:
        return None
    of_label = np.ones(int(max(settings.list_weights, default=0)) + 1 + int(lists.label.max(initial=0)))
    for label, weight in settings.list_weights.items():
        of_label[label] = weight
    return np.repeat(of_label[lists.largest_label()], np.diff(lists.offsets))


def _largest_label(train: RankingDataset, valid: RankingDataset) -> int:
    return int(max(train.label.max(initial=0), valid.label.max(initial=0)))


def _parameters(
    settings: RankerSettings, columns: Sequence[MatrixColumn], largest_label: int, seed: int, threads: int
) -> dict[str, object]:
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [EVALUATED_AT],
        "label_gain": [2**label - 1 for label in range(largest_label + 1)],
        "lambdarank_truncation_level": settings.truncation_level,
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_data_in_leaf,
        "feature_fraction": settings.feature_fraction,
        "bagging_fraction": settings.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": settings.lambda_l2,
        "monotone_constraints": [column.monotone for column in columns],
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
