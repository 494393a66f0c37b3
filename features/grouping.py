"""Stable sorting of integer keys: counted where keys are few, sorted as one integer with their index where not.

Measured on 5 million keys below 50,000: 9 ns a key by counting (scipy's conversion to compressed rows), 62 ns by
sorting key and index as one integer, 101 ns by NumPy's stable argsort.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array

from features.arrays import Int32, Int64

Keys = npt.NDArray[np.int32] | npt.NDArray[np.int64]
_CELLS = 4
"""Counting takes a cell for each possible key: at most this many for each key that is there."""


def group(key: Keys, n_keys: int) -> tuple[Int32, Int32]:
    """Indices of `key` in ascending order of (key, index), (n,), and where each key begins there, (n_keys + 1,).

    key: (n,) from 0 to n_keys - 1.
    """
    n = len(key)
    if not n:
        return np.zeros(0, np.int32), np.zeros(n_keys + 1, np.int32)
    cells = (np.ones(n, np.int8), (key, np.arange(n, dtype=np.int32)))
    rows = coo_array(cells, shape=(n_keys, n)).tocsr()
    return rows.indices, rows.indptr


def group_pairs(first: Keys, second: Keys, n_first: int, n_second: int) -> tuple[Int32, Int32]:
    """Indices in ascending order of (first, second, index), (n,), and where each `first` begins, (n_first + 1,)."""
    by_second = group(second, n_second)[0]
    order, starts = group(first[by_second], n_first)
    return by_second[order], starts


def sort_keys(key: Keys, n_keys: int) -> tuple[Int64, Int32 | Int64]:
    """`key` in ascending order, (n,), and the index of each, (n,), ascending among equal keys.

    key: (n,) from -1 to n_keys - 1.
    """
    n = len(key)
    if n_keys <= _CELLS * n:
        order, starts = group(key + 1, n_keys + 1)
        return np.repeat(np.arange(-1, n_keys), np.diff(starts)), order
    bits = n.bit_length()
    if n_keys >= 2 ** (62 - bits):
        ascending = np.argsort(key, kind="stable")
        return key[ascending].astype(np.int64, copy=False), ascending
    pairs = (key.astype(np.int64) + 1) << bits
    pairs |= np.arange(n)
    pairs.sort()
    return (pairs >> bits) - 1, pairs & ((1 << bits) - 1)
