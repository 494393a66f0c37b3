"""Exact TreeSHAP values of a LightGBM booster: the numbers of its `pred_contrib`, at a fraction of the time.

The Shapley value of column i is the integral over t from 0 to 1 of the derivative by i of E(t), the expected score
where every column is known with probability t, independently (Owen, Multilinear extensions of games, Management
Science 18, 1972). On a tree E(t) is a sum over leaves of products with one factor for each column on the leaf's path:
t + (1 - t) c where the row takes the path at that column's splits, and (1 - t) c where it does not, with c the share
of the training rows that does (path-dependent expectations, Lundberg et al., Nature Machine Intelligence 2, 2020). It
is a polynomial of degree d, the number of columns on the path: Gauss-Legendre quadrature with d / 2 points is exact.
One pass down the tree and one pass up give the integrals of all columns: O(nodes * d) for each row.
"""

from __future__ import annotations

import logging
from functools import lru_cache

import lightgbm
import numpy as np

from features.arrays import Bool, Float32, Float64, Int8, Int32, Int64
from features.compiled import compiled
from recsys.ranker.flat_trees import FlatTrees, Words, read_trees
from recsys.ranker.tree_engine import rows_at_thresholds

log = logging.getLogger(__name__)

TOLERANCE = 1e-6
"""Largest difference from LightGBM's values."""
_CHECKED_ROWS = 8
_BLOCK, _LANES = 32, 16
"""Rows that go through a tree together; their number is a multiple of the second, so that loops have no rest."""
_ZERO = float(np.float32(1e-35))
"""LightGBM takes values of this size or less for 0."""


class TreeShap:
    """Contributions of one booster's columns. is_fast: whether they are computed here; else LightGBM computes them."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster
        self._trees = _checked_trees(booster)

    @property
    def is_fast(self) -> bool:
        """Whether the values are computed here."""
        return self._trees is not None

    def contributions(self, matrix: Float32, *, threads: int) -> Float64:
        """The TreeSHAP value of each column for each row, (n_rows, n_columns), within `TOLERANCE` of LightGBM's.
        threads: of LightGBM, where it computes them; 0 for all cores."""
        if self._trees is None or not len(matrix):
            return _pred_contrib(self._booster, matrix, threads)
        return tree_shap(self._trees, matrix)


def tree_shap(trees: FlatTrees, matrix: Float32 | Float64) -> Float64:
    """The TreeSHAP values, (n_rows, n_columns). matrix: (n_rows, n_columns); NaN is missing."""
    n_rows, n_columns = matrix.shape
    size = min(-(-n_rows // _LANES) * _LANES, _BLOCK)
    blocks = np.zeros((-(-n_rows // size), size, n_columns))
    blocks.reshape(-1, n_columns)[:n_rows] = matrix
    blocks[np.abs(blocks) <= _ZERO] = 0.0
    blocks = np.ascontiguousarray(blocks.transpose(0, 2, 1))
    found = np.zeros(blocks.shape)
    _add_all(
        (trees.offsets, trees.distinct),
        (trees.parent, trees.is_left, trees.above, trees.cover, trees.value),
        (trees.column, trees.threshold, trees.decision, trees.words, trees.bitsets),
        _quadrature(int(trees.distinct.max(initial=1) + 1) // 2),
        blocks,
        found,
    )
    return np.ascontiguousarray(found.transpose(0, 2, 1).reshape(-1, n_columns)[:n_rows])


@lru_cache
def _quadrature(most: int) -> tuple[Float64, Float64]:
    """Points and weights of Gauss-Legendre quadrature from 0 to 1, with 1 point, with 2, and so on to `most`."""
    rules = [np.polynomial.legendre.leggauss(n) for n in range(1, most + 1)]
    points, weights = (np.concatenate(part) for part in zip(*rules, strict=True))
    return (1 + points) / 2, weights / 2


def _checked_trees(booster: lightgbm.Booster) -> FlatTrees | None:
    """A booster's trees; None where this module does not know them, or its values differ from LightGBM's."""
    text = booster.model_to_string()
    try:
        trees = read_trees(text)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        log.warning("LightGBM explains the scores: its trees are not what is expected: %r", error)
        return None
    rows = rows_at_thresholds(text, booster.num_feature())[:_CHECKED_ROWS]
    expected = _pred_contrib(booster, rows, 1)
    difference = np.abs(tree_shap(trees, rows) - expected).max(initial=0.0)
    if not difference <= TOLERANCE:
        log.warning("LightGBM explains the scores: contributions computed here differ by %g", difference)
        return None
    return trees


def _pred_contrib(booster: lightgbm.Booster, matrix: Float32 | Float64, threads: int) -> Float64:
    if not len(matrix):
        return np.zeros(matrix.shape)
    return np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=threads))[:, :-1]


@compiled
def _add_all(
    trees: tuple[Int64, Int64],
    nodes: tuple[Int32, Bool, Int32, Float64, Float64],
    splits: tuple[Int32, Float64, Int8, Int32, Words],
    rule: tuple[Float64, Float64],
    values: Float64,
    found: Float64,
) -> None:
    """Add every tree's TreeSHAP values to `found`. trees, nodes, splits: fields of `FlatTrees`. rule: points and
    weights of the quadrature with 1 point, with 2, and so on. values, found: (n_blocks, n_columns, _BLOCK) of rows."""
    offsets, distinct = trees
    most = 0
    for tree in range(len(distinct)):
        most = max(most, (offsets[tree + 1] - offsets[tree]) * ((distinct[tree] + 1) // 2))
    factors, product = np.empty((most, 5)), np.empty((most, values.shape[2]))
    taken = np.empty((most, values.shape[2]))
    for tree in range(len(distinct)):
        first, end = offsets[tree], offsets[tree + 1]
        n_points = (distinct[tree] + 1) // 2
        from_point = n_points * (n_points - 1) // 2
        points = rule[0][from_point : from_point + n_points]
        weights = rule[1][from_point : from_point + n_points]
        _fill_factors(first, end, nodes, points, weights, factors)
        for block in range(len(values)):
            _follow(first, end, nodes, splits, values[block], taken)
            _descend(first, end, nodes, n_points, factors, taken, product)
            _ascend(first, end, nodes, splits[0], n_points, factors, taken, product, found[block])


@compiled
def _fill_factors(
    first: int,
    end: int,
    nodes: tuple[Int32, Bool, Int32, Float64, Float64],
    points: Float64,
    weights: Float64,
    factors: Float64,
) -> None:
    """What `_descend` and `_ascend` multiply by, for each node and point: see there."""
    _parent, _is_left, above, cover, _value = nodes
    for node in range(1, end - first):
        c, c_last = cover[first + node], 1.0
        if above[first + node] != node:
            c_last = cover[first + above[first + node]]
        off = c / c_last if c_last > 0 else 0.0
        for k in range(len(points)):
            t, u = points[k], 1.0 - points[k]
            by_last, now = 1.0 / (t + u * c_last), t + u * c
            by_now = weights[k] / (u * now)
            of = factors[node * len(points) + k]
            of[0], of[1], of[2] = off, u * c * by_last - off, t * by_last
            of[3], of[4] = -(by_now * now + weights[k] * (1.0 - c_last) * by_last), by_now


@compiled
def _follow(
    first: int,
    end: int,
    nodes: tuple[Int32, Bool, Int32, Float64, Float64],
    splits: tuple[Int32, Float64, Int8, Int32, Words],
    values: Float64,
    taken: Float64,
) -> None:
    """1 where a row takes the way to a node at every split on its parent's column, else 0, in `taken`; decisions as
    LightGBM's `Tree::Decision`."""
    parent, is_left, above, _cover, _value = nodes
    column, threshold, decision, words, bitsets = splits
    n_rows = taken.shape[1]
    for node in range(1, end - first):
        split = first + parent[first + node]
        value, at, kind = values[column[split]], threshold[split], decision[split]
        default_left, missing, left = (kind & 2) != 0, (kind >> 2) & 3, is_left[first + node]
        way, before = taken[node], taken[above[first + node]]
        if above[first + node] == node:
            for row in range(n_rows):
                way[row] = 1.0
        if kind & 1:
            start, n_bits = words[split, 0], 32 * (words[split, 1] - words[split, 0])
            for row in range(n_rows):
                goes_left = False
                if -1.0 < value[row] < n_bits:
                    category = int(value[row])
                    goes_left = ((bitsets[start + category // 32] >> (category % 32)) & 1) != 0
                way[row] = before[row] if goes_left == left else 0.0
        else:
            nan_left = default_left if missing > 0 else at >= 0.0
            zero_left = default_left if missing == 1 else at >= 0.0
            for row in range(n_rows):
                v = value[row]
                goes_left = (zero_left if v == 0.0 else v <= at) if v == v else nan_left
                way[row] = before[row] if goes_left == left else 0.0


@compiled
def _descend(
    first: int,
    end: int,
    nodes: tuple[Int32, Bool, Int32, Float64, Float64],
    n_points: int,
    factors: Float64,
    taken: Float64,
    product: Float64,
) -> None:
    """Fill `product`: of the factors on the way to each node, at each point, for each row."""
    parent, _is_left, above, _cover, _value = nodes
    n_rows = taken.shape[1]
    product[:n_points] = 1.0
    for node in range(1, end - first):
        last, from_here, from_parent = above[first + node], node * n_points, parent[first + node] * n_points
        way, before = taken[node], taken[last]
        for k in range(n_points):
            off, on_before, on = factors[from_here + k, 0], factors[from_here + k, 1], factors[from_here + k, 2]
            here, of_parent = product[from_here + k], product[from_parent + k]
            if last == node:
                off += on_before
                for row in range(n_rows):
                    here[row] = of_parent[row] * (off + on * way[row])
            else:
                for row in range(n_rows):
                    here[row] = of_parent[row] * (off + on_before * before[row] + on * way[row])


@compiled
def _ascend(
    first: int,
    end: int,
    nodes: tuple[Int32, Bool, Int32, Float64, Float64],
    column: Int32,
    n_points: int,
    factors: Float64,
    taken: Float64,
    product: Float64,
    found: Float64,
) -> None:
    """Add the integrals to `found`. product: as `_descend` leaves it; becomes the sum over the leaves below of the
    product times the leaf's value."""
    parent, is_left, above, _cover, leaf_value = nodes
    n_rows = taken.shape[1]
    for node in range(end - first - 1, 0, -1):
        position = first + node
        last, from_here, from_parent = above[position], node * n_points, parent[position] * n_points
        total, way, before = found[column[first + parent[position]]], taken[node], taken[last]
        value = leaf_value[position] if column[position] < 0 else 1.0
        for k in range(n_points):
            on_before, on = factors[from_here + k, 3], factors[from_here + k, 4]
            here, sums = product[from_here + k], product[from_parent + k]
            if column[position] < 0:
                for row in range(n_rows):
                    here[row] *= value
            if last == node:
                for row in range(n_rows):
                    total[row] += here[row] * (on_before + on * way[row])
            else:
                for row in range(n_rows):
                    total[row] += here[row] * (on_before * before[row] + on * way[row])
            if is_left[position]:
                for row in range(n_rows):
                    sums[row] += here[row]
            else:
                for row in range(n_rows):
                    sums[row] = here[row]
