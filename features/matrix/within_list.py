"""A value's percentile and z-score among the candidates of its request, at any length of the list.

Both are functions of the set of values alone: candidates in another order, or other requests beside this one, change
no bit. Values are sorted before anything is added up.
"""

from __future__ import annotations

import numpy as np

from features.arrays import Float32, Int32, Int64
from features.compiled import compiled


def percentile_and_zscore(columns: Float32, offsets: Int64) -> tuple[Float32, Float32]:
    """Percentile and z-score of each value among its segment columns[:, offsets[i]:offsets[i + 1]].

    columns: (n_columns, n_rows); so are both results. Percentile: share of the segment's values below, plus half the
    share of equal ones, itself included: 0 to 1. z-score: distance to the mean in standard deviations of the segment.
    A list of one and a constant list have 0.5 and 0. A NaN stays NaN and is not counted. Values must be finite or NaN.
    """
    values = np.ascontiguousarray(columns, np.float32) + np.float32(0)  # no negative zero: it sorts below the other
    percentile, z_score = np.full(values.shape, np.nan, np.float32), np.full(values.shape, np.nan, np.float32)
    _fill(values, values.view(np.int32), offsets, percentile, z_score)
    return percentile, z_score


@compiled
def _fill(values: Float32, bits: Int32, offsets: Int64, percentile: Float32, z_score: Float32) -> None:
    """Fill both outputs. bits: the values as whole numbers; with the lower bits of negative ones turned they sort as
    the values do. A sort key holds them above a row's position, so that one sort gives both."""
    longest = 0
    for segment in range(len(offsets) - 1):
        longest = max(longest, offsets[segment + 1] - offsets[segment])
    keys, ordered = np.empty(longest, np.int64), np.empty(longest)
    for column in range(len(values)):
        for segment in range(len(offsets) - 1):
            first, n = offsets[segment], 0
            for row in range(first, offsets[segment + 1]):
                if not np.isnan(values[column, row]):
                    whole = np.int64(bits[column, row])
                    keys[n] = ((whole ^ ((whole >> 31) & 0x7FFFFFFF)) << 32) | (row - first)
                    n += 1
            keys[:n].sort()
            total = 0.0
            for place in range(n):
                ordered[place] = values[column, first + (keys[place] & 0xFFFFFFFF)]
                total += ordered[place]
            if n == 0:
                continue
            mean, squares = total / n, 0.0
            for place in range(n):
                squares += (ordered[place] - mean) * (ordered[place] - mean)
            deviation = np.sqrt(squares / n)
            is_flat = ordered[0] == ordered[n - 1] or deviation == 0.0
            start = 0
            while start < n:
                end = start + 1
                while end < n and ordered[end] == ordered[start]:
                    end += 1
                for place in range(start, end):
                    row = first + (keys[place] & 0xFFFFFFFF)
                    percentile[column, row] = (start + end) / (2.0 * n)
                    z_score[column, row] = 0.0 if is_flat else (ordered[place] - mean) / deviation
                start = end
