"""A value's percentile and z-score among the candidates of its request, at any length of the list.

Both are functions of the set of values alone: candidates in another order, or other requests beside this one, change
no bit. Values are sorted before anything is added up.
"""

from __future__ import annotations

import numpy as np

from features.arrays import Bool, Float32, Float64, Int64

_INDEX_BITS = np.int64(2**29 - 1)
_BLOCK = 32_768


def percentile_and_zscore(columns: Float32, offsets: Int64) -> tuple[Float32, Float32]:
    """Percentile and z-score of each value among its segment columns[:, offsets[i]:offsets[i + 1]].

    columns: (n_columns, n_rows); so are both results. Percentile: share of the segment's values below, plus half the
    share of equal ones, itself included: 0 to 1. z-score: distance to the mean in standard deviations of the segment.
    A list of one and a constant list have 0.5 and 0. A NaN stays NaN and is not counted. Values must be finite or NaN.
    """
    values = np.ascontiguousarray(columns).ravel()
    percentile, z_score = np.full(values.shape, np.nan, np.float32), np.full(values.shape, np.nan, np.float32)
    starts = (np.arange(len(columns))[:, None] * columns.shape[1] + offsets[:-1]).ravel()
    lengths = np.tile(np.diff(offsets), len(columns))
    widths = _rounded_up(lengths)
    for width in np.unique(widths[lengths > 0]).tolist():
        segments = np.flatnonzero(widths == width)
        step = max(1, _BLOCK // width)
        for first in range(0, len(segments), step):
            chunk = segments[first : first + step]
            _fill_block(values, starts[chunk], lengths[chunk], width, percentile, z_score)
    return percentile.reshape(columns.shape), z_score.reshape(columns.shape)


def _rounded_up(lengths: Int64) -> Int64:
    """Lengths rounded up so that few distinct ones are left, by a quarter at most.

    The width of a row sets the order in which its values are added up, so it comes from whole numbers alone.
    """
    bits = np.frexp(np.maximum(lengths, 1) - 1.0)[1].astype(np.int64)  # ceil(log2(length)), exactly
    step = 1 << np.maximum(bits - 3, 0)
    return np.asarray(-(-lengths // step) * step)


def _fill_block(
    values: Float32, starts: Int64, lengths: Int64, width: int, percentile: Float32, z_score: Float32
) -> None:
    """Fill both outputs for segments that are at most `width` long, side by side in a padded matrix."""
    block = values.take(starts[:, None] + np.arange(width), mode="clip")
    missing: Bool = np.isnan(block)
    if (lengths < width).any():
        missing |= np.arange(width) >= lengths[:, None]
    ordered, index = _sort(block, missing)
    index += starts[:, None]
    n_missing = np.count_nonzero(missing, axis=1)
    n = width - n_missing
    if not n_missing.any():
        percentile[index] = _percentiles(ordered, n)
        z_score[index] = _z_scores(ordered, None, n)
        return
    valid = np.arange(width) < n[:, None]
    ordered[~valid] = 0.0
    index = index[valid]
    percentile[index] = _percentiles(ordered, n)[valid]
    z_score[index] = _z_scores(ordered, valid, n)[valid]


def _sort(block: Float32, missing: Bool) -> tuple[Float64, Int64]:
    """Each row's values in ascending order, missing ones last, and the index in its row of each.

    A float32 leaves 29 bits of a double unused. They hold the index, so that one sort of doubles gives both. Adding 0
    turns the negative zero into the positive one.
    """
    doubles = block.astype(np.float64)
    doubles += 0.0
    doubles[missing] = np.nan
    bits = doubles.view(np.int64)
    bits |= np.arange(block.shape[1])
    doubles.sort(axis=1)
    index = bits & _INDEX_BITS
    bits &= ~_INDEX_BITS
    return doubles, index


def _percentiles(ordered: Float64, n: Int64) -> Float64:
    """Mid percentile of sorted rows whose first n[i] values count; a run of ties shares its middle."""
    width = ordered.shape[1]
    new = np.ones(ordered.shape, bool)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:])
    short = n < width
    new[short, n[short]] = True
    runs = np.flatnonzero(new)
    sizes = np.diff(runs, append=new.size)
    row = runs // width
    middles = (2 * (runs - row * width) + sizes) / (2.0 * np.maximum(n, 1))[row]
    return np.repeat(middles, sizes).reshape(ordered.shape)


def _z_scores(ordered: Float64, valid: Bool | None, n: Int64) -> Float64:
    """z-scores of sorted rows, of which those that are `valid` count, or all; sums run in ascending order."""
    count = np.maximum(n, 1)[:, None]
    centred: Float64 = ordered - np.sum(ordered, axis=1, keepdims=True) / count
    if valid is not None:
        centred[~valid] = 0.0
    deviation = np.sqrt(np.sum(centred * centred, axis=1, keepdims=True) / count)
    flat = (ordered[:, :1] == np.take_along_axis(ordered, count - 1, axis=1)) | (deviation == 0)
    deviation[flat] = 1.0
    centred /= deviation
    centred[flat[:, 0]] = 0.0
    return centred
