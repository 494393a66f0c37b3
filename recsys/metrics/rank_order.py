"""The order of an answer: by score, the highest first; equal scores by item id."""

from __future__ import annotations

import numpy as np

from features.arrays import Float64, Int64


def ordered(scores: Float64, tie: Int64, offsets: Int64) -> tuple[Int64, Int64]:
    """Rows in the order of the answer and their ranks, (n_rows,) each, lists one after the other.

    tie: (n_rows,) the place of each row's item id in sorted ids. offsets: (n + 1,) of the lists. Ranks are from 1.
    """
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    rows = np.lexsort((tie, -scores, owner)).astype(np.int64)
    ranks = np.arange(len(rows), dtype=np.int64) - np.repeat(offsets[:-1], np.diff(offsets)) + 1
    return rows, ranks
