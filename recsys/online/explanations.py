"""Why an item of an answer has its score: its columns of the largest effect, every group of columns, and the items of
the user's history that are nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from features.arrays import Float32, Float64, Int32
from features.online.reader import OnlineReader
from recsys.online.model import OnlineMatrix
from recsys.online.nearest_history import NearItem, nearest_history
from recsys.ranker.ranker import Ranker
from recsys.ranker.shap import largest_effects


def explain(
    ranker: Ranker, groups: Sequence[str], values: Float32, matrix: OnlineMatrix, reader: OnlineReader, items: Int32
) -> list[dict[str, Any]]:
    """`explanation`, `groups` and `because` of each item, as the contract's JSON.

    groups: of each of the ranker's columns. values: (n, n_columns) its rows of the items. items: (n,) their codes in
    the reader's catalog.
    """
    effects = ranker.contributions(values, threads=1)
    neighbours = None if matrix.tables is None else matrix.tables.built.neighbours
    near = nearest_history(matrix.vectors, neighbours, reader.histories.items.row(0).tolist(), items)
    return [
        {"explanation": columns, "groups": of_groups, "because": _because(nearest, reader)}
        for columns, of_groups, nearest in zip(
            largest_effects(ranker.columns, values, effects),
            group_effects(groups, effects),
            near,
            strict=True,
        )
    ]


def group_effects(groups: Sequence[str], effects: Float64) -> list[list[dict[str, Any]]]:
    """For each row what every group of columns adds to its score, the largest effect first, of equal ones by name.

    groups: (n_columns,) the group of each column. effects: (n_rows, n_columns).
    """
    names, of_column = np.unique(np.array(groups, object).astype(str), return_inverse=True)
    sums = np.zeros((len(effects), len(names)))
    for column, group in enumerate(of_column.tolist()):
        sums[:, group] += effects[:, column]
    return [
        [{"group": str(names[i]), "contribution": float(of_row[i])} for i in np.argsort(-np.abs(of_row), kind="stable")]
        for of_row in sums
    ]


def _because(nearest: Sequence[NearItem], reader: OnlineReader) -> list[dict[str, Any]]:
    return [
        {"item_id": str(reader.catalog.ids[near.code]), "similarity": near.similarity, "by": near.by}
        for near in nearest
    ]
