"""A LightGBM booster's trees as flat arrays, read from its text, for compiled loops over nodes.

A tree's nodes stand in pre-order, so that every node comes after its parent; positions are counted within the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.arrays import Bool, Float64, Int8, Int32, Int64, offsets_of

Words = npt.NDArray[np.uint32]
_REFUSED = ("average_output", "is_linear=1")
"""Lines of boosters whose score is no plain sum of leaf values."""
_LEAF = (-1, 0.0, 0, (0, 0))


@dataclass(frozen=True)
class FlatTrees:
    """offsets: (n_trees + 1,) of the nodes of each tree. distinct: (n_trees,) most distinct columns on a path.

    The rest has an entry for each node: parent, -1 for a root. is_left: whether it is its parent's left child. column:
    that its split reads, -1 for a leaf. threshold, decision: of the split, as LightGBM writes them. words: (n_nodes, 2)
    start and end in `bitsets` of the categories that go left. above: the nearest node on the way to the root whose
    parent's split reads the same column as this one's, or this node's position itself where there is none. cover: share
    of the training rows that stays on the way to the node by the splits on the parent's column, 0 to 1. value: of a
    leaf, 0 for others. bitsets: (n,) uint32.
    """

    offsets: Int64
    distinct: Int64
    parent: Int32
    is_left: Bool
    column: Int32
    threshold: Float64
    decision: Int8
    words: Int32
    above: Int32
    cover: Float64
    value: Float64
    bitsets: Words


def read_trees(text: str) -> FlatTrees:
    """The trees of a booster's text. Raises ValueError, KeyError or IndexError where they are not what this module
    knows."""
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    if any(f"\n{line}" in text for line in _REFUSED) or "\nnum_tree_per_iteration=1\n" not in head:
        raise ValueError("expected one tree an iteration, leaves with one value each, and no average over trees")
    trees = [_SplitTree(dict(_fields(block))) for block in blocks if "\nnum_leaves=1\n" not in block]
    n_words = offsets_of([len(tree.bitset) for tree in trees])[:-1]
    nodes = [tree.nodes(first) for tree, first in zip(trees, n_words.tolist(), strict=True)]
    entries = list(zip(*(node for of_tree in nodes for node in of_tree), strict=True)) or [()] * 10
    _n_columns, parent, is_left, column, threshold, decision, words, above, cover, value = entries
    return FlatTrees(
        offsets=offsets_of([len(of_tree) for of_tree in nodes]),
        distinct=np.array([max(node.n_columns for node in of_tree) for of_tree in nodes], np.int64),
        parent=np.array(parent, np.int32),
        is_left=np.array(is_left, np.bool_),
        column=np.array(column, np.int32),
        threshold=np.array(threshold, np.float64),
        decision=np.array(decision, np.int8),
        words=np.array(words, np.int32).reshape(-1, 2),
        above=np.array(above, np.int32),
        cover=np.array(cover, np.float64),
        value=np.array(value, np.float64),
        bitsets=np.concatenate([np.zeros(0, np.uint32), *(tree.bitset for tree in trees)]),
    )


def _fields(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        name, found, value = line.partition("=")
        if found:
            yield name, value


class _Node(NamedTuple):
    """The number of distinct columns on the way, then the fields of `FlatTrees`."""

    n_columns: int
    parent: int
    is_left: bool
    column: int
    threshold: float
    decision: int
    words: tuple[int, int]
    above: int
    cover: float
    value: float


class _SplitTree:
    """One tree of the text, which has a split: one of a single leaf adds to the expected score alone."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._left, self._right = _ints(fields["left_child"]), _ints(fields["right_child"])
        self._column, self._decision = _ints(fields["split_feature"]), _ints(fields["decision_type"])
        self._threshold, self._value = _floats(fields["threshold"]), _floats(fields["leaf_value"])
        self._n_rows, self._n_leaf_rows = _ints(fields["internal_count"]), _ints(fields["leaf_count"])
        self._bounds = _ints(fields.get("cat_boundaries", ""))
        self.bitset = np.array(_ints(fields.get("cat_threshold", "")), np.uint32)

    def nodes(self, first_word: int) -> list[_Node]:
        """The nodes in pre-order. first_word: where this tree's bitset begins."""
        nodes, numbers = list[_Node](), list[int]()
        waiting = [(0, -1, False)]
        while waiting:
            number, parent, is_left = waiting.pop()
            above, cover, n_columns = len(nodes), 1.0, 0
            if parent >= 0:
                above = _above(nodes, parent)
                before = 1.0 if above == len(nodes) else nodes[above].cover
                cover = before * (self._rows_of(number) / self._rows_of(numbers[parent]))
                n_columns = nodes[parent].n_columns + (above == len(nodes))
            split = _LEAF if number < 0 else self._split(number, first_word)
            value = self._value[~number] if number < 0 else 0.0
            if number >= 0:
                waiting += [(self._right[number], len(nodes), False), (self._left[number], len(nodes), True)]
            numbers.append(number)
            nodes.append(_Node(n_columns, parent, is_left, *split, above, cover, value))
        return nodes

    def _split(self, number: int, first_word: int) -> tuple[int, float, int, tuple[int, int]]:
        """column, threshold, decision and words of an inner node."""
        threshold, decision, words = self._threshold[number], self._decision[number], (0, 0)
        if decision & 1:
            start, end = self._bounds[int(threshold) : int(threshold) + 2]
            words = first_word + start, first_word + end
        return self._column[number], threshold, decision, words

    def _rows_of(self, number: int) -> int:
        return self._n_leaf_rows[~number] if number < 0 else self._n_rows[number]


def _above(nodes: Sequence[_Node], parent: int) -> int:
    """`FlatTrees.above` of a node that is about to be added."""
    node = parent
    while nodes[node].parent >= 0:
        if nodes[nodes[node].parent].column == nodes[parent].column:
            return node
        node = nodes[node].parent
    return len(nodes)


def _ints(values: str) -> list[int]:
    return [int(value) for value in values.split()]


def _floats(values: str) -> list[float]:
    return [float(value) for value in values.split()]
