"""The AUC of many columns in each list, all at once: how often a clicked candidate beats an unclicked one of its list.

A missing value beats nothing and is beaten by nothing: a pair with one counts half, as a tie does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.log import Float32, Float64, Int64

_CELLS = 1 << 22


def list_aucs(matrix: Float32, label: npt.NDArray[np.integer], offsets: Int64) -> Float64:
    """AUC of every column in every list, (n, n_columns); NaN for a list without both a clicked and an unclicked row.

    matrix: (n_rows, n_columns), NaN is missing. label: (n_rows,), above 0 is clicked. offsets: (n + 1,), list i is rows
    offsets[i]:offsets[i + 1].

    >>> list_aucs(np.float32([[3, 1], [2, 1]]), np.array([1, 0]), np.array([0, 2])).tolist()
    [[1.0, 0.5]]
    """
    n_lists, n_columns = len(offsets) - 1, matrix.shape[1]
    sums, pairs = np.zeros((n_lists, n_columns)), np.zeros(n_lists)
    clicked = np.flatnonzero(label > 0)
    owner = np.searchsorted(offsets, clicked, side="right") - 1
    width = int(np.diff(offsets).max(initial=1))
    step = max(1, _CELLS // (width * max(1, n_columns)))
    for first in range(0, len(clicked), step):
        part = slice(first, first + step)
        winner, loser = _pairs(clicked[part], owner[part], label, offsets)
        wins = (matrix[winner] > matrix[loser]).astype(np.float32) - (matrix[winner] < matrix[loser])
        starts = np.flatnonzero(np.diff(winner, prepend=-1) != 0)
        if len(starts):
            lists = np.searchsorted(offsets, winner[starts], side="right") - 1
            np.add.at(sums, lists, np.add.reduceat(wins, starts, axis=0, dtype=np.float64))
            np.add.at(pairs, lists, np.diff(starts, append=len(winner)))
    counted = pairs > 0
    aucs = np.full((n_lists, n_columns), np.nan)
    aucs[counted] = 0.5 + 0.5 * sums[counted] / pairs[counted, None]
    return aucs


def _pairs(clicked: Int64, owner: Int64, label: npt.NDArray[np.integer], offsets: Int64) -> tuple[Int64, Int64]:
    """Rows of each (clicked, unclicked) pair of one list, ordered by the clicked row."""
    lengths = offsets[owner + 1] - offsets[owner]
    winner = np.repeat(clicked, lengths)
    within = np.arange(len(winner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    loser = np.repeat(offsets[owner], lengths) + within
    unclicked = label[loser] == 0
    return winner[unclicked], loser[unclicked]
