"""The best items of each list: the highest scores, equal scores by item code, which is the order of their ids.

Two compiled loops share one heap. `scan_products` keeps the nearest items of each query while blocks of the catalog go
by. `best_of_each` adds up what a source found for each user, leaves out what is not allowed, and sorts the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import Bool, CsrLists, Float32, Float64, Int32, Int64, offsets_of
from features.compiled import compiled


@dataclass(frozen=True)
class ScoredLists:
    """Items with a score for each of n users. offsets: (n + 1,). item: (offsets[-1],) codes. score: likewise, higher is
    better."""

    offsets: Int64
    item: Int32
    score: Float64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> Int64:
        """Items of each list, (n,)."""
        return np.diff(self.offsets)


def best_of_each(found: ScoredLists, *, most: int, allowed: Bool, banned: CsrLists, add: bool = False) -> ScoredLists:
    """The `most` best items of each list, best first, each once.

    found: in any order, -1 for no item; one that comes several times counts with its highest score or, to add, with
    their sum in that order. allowed: (n_items,) items that any list may hold. banned: items that one list may not, a
    row a list.
    """
    lengths = np.minimum(found.lengths(), most)
    offsets = offsets_of(lengths)
    item, score = np.empty(offsets[-1], np.int32), np.empty(offsets[-1])
    kept = np.zeros(len(found), np.int64)
    _select(
        (found.offsets, found.item, found.score),
        (banned.offsets, banned.codes),
        allowed,
        add,
        offsets,
        item,
        score,
        kept,
    )
    if (kept < lengths).any():
        place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        is_kept = place < np.repeat(kept, lengths)
        item, score, offsets = item[is_kept], score[is_kept], offsets_of(kept)
    return ScoredLists(offsets, item, score)


@compiled
def scan_products(
    queries: Float32,
    block: Float32,
    first: int,
    products: Float32,
    slack: float,
    searched: Bool,
    left_out: tuple[Int64, Int32],
    score: Float64,
    item: Int32,
    size: Int64,
) -> None:
    """Let the items of a block, whose codes begin at `first`, into the nearest items of each query.

    products: (n_queries, n_block) in float32, none of which is wrong by more than `slack`: only an item that may belong
    to the nearest is multiplied again, in float64, where products of grid vectors are exact in any order. searched:
    (n_items,) the others are left out, and so are those of a query's row in `left_out`, offsets and ascending codes.
    score, item: (n_queries, most) heaps of the nearest so far, worst first, of which `size` entries are filled.
    """
    most = score.shape[1]
    for row in range(len(queries)):
        n = size[row]
        lowest = score[row, 0] - slack if n == most else -np.inf
        for column in range(len(block)):
            if products[row, column] < lowest:
                continue
            code = first + column
            if not searched[code] or _holds(left_out[1], left_out[0][row], left_out[0][row + 1], code):
                continue
            n = _offer(score[row], item[row], n, _product(queries[row], block[column]), code)
            if n == most:
                lowest = score[row, 0] - slack
        size[row] = n


@compiled
def _product(first: Float32, second: Float32) -> float:
    """In float64: four sums side by side, which is faster than one, and as exact."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = len(first) // 4 * 4
    for k in range(0, whole, 4):
        a += np.float64(first[k]) * np.float64(second[k])
        b += np.float64(first[k + 1]) * np.float64(second[k + 1])
        c += np.float64(first[k + 2]) * np.float64(second[k + 2])
        d += np.float64(first[k + 3]) * np.float64(second[k + 3])
    for k in range(whole, len(first)):
        a += np.float64(first[k]) * np.float64(second[k])
    return (a + b) + (c + d)


@compiled
def _holds(codes: Int32, low: int, end: int, code: int) -> bool:
    """Whether `code` is among codes[low:end], which ascend."""
    high = end
    while low < high:
        middle = (low + high) // 2
        if codes[middle] < code:
            low = middle + 1
        else:
            high = middle
    return bool(low < end and codes[low] == code)


@compiled
def sort_each(score: Float64, item: Int32, size: Int64) -> None:
    """Sort heaps of `scan_products`, best first."""
    for row in range(len(size)):
        _sort_best_first(score[row], item[row], size[row])


@compiled
def _select(
    found: tuple[Int64, Int32, Float64],
    banned: tuple[Int64, Int32],
    allowed: Bool,
    add: bool,
    offsets: Int64,
    item: Int32,
    score: Float64,
    kept: Int64,
) -> None:
    """`best_of_each`. offsets, item, score: room for each list's best. kept: (n,) how many there are."""
    state = np.zeros(len(allowed), np.int8)  # 1: may not be in this list, 2: is in it
    total = np.empty(len(allowed))
    longest = 0
    for row in range(len(kept)):
        longest = max(longest, offsets[row + 1] - offsets[row], found[0][row + 1] - found[0][row])
    touched = np.empty(longest, np.int64)
    best_score, best_item = np.empty(longest), np.empty(longest, np.int32)
    for row in range(len(kept)):
        for entry in range(banned[0][row], banned[0][row + 1]):
            state[banned[1][entry]] = 1
        n = 0
        for entry in range(found[0][row], found[0][row + 1]):
            code, value = found[1][entry], found[2][entry]
            if code < 0:
                continue
            if state[code] == 2:
                total[code] = total[code] + value if add else max(total[code], value)
            elif state[code] == 0 and allowed[code]:
                state[code], total[code], touched[n] = 2, value, code
                n += 1
        most, size = offsets[row + 1] - offsets[row], 0
        for entry in range(n):
            code = touched[entry]
            size = _offer(best_score[:most], best_item[:most], size, total[code], code)
            state[code] = 0
        _sort_best_first(best_score, best_item, size)
        for entry in range(size):
            item[offsets[row] + entry], score[offsets[row] + entry] = best_item[entry], best_score[entry]
        kept[row] = size
        for entry in range(banned[0][row], banned[0][row + 1]):
            state[banned[1][entry]] = 0


@compiled
def _is_worse(score: float, item: int, other_score: float, other_item: int) -> bool:
    return score < other_score or (score == other_score and item > other_item)


@compiled
def _offer(score: Float64, item: Int32, size: int, new_score: float, new_item: int) -> int:
    """Let an item into a heap of at most `len(score)` entries whose first is the worst; how many it has then."""
    if size < len(score):
        place = size
        while place > 0:
            parent = (place - 1) // 2
            if not _is_worse(new_score, new_item, score[parent], item[parent]):
                break
            score[place], item[place] = score[parent], item[parent]
            place = parent
        score[place], item[place] = new_score, new_item
        return size + 1
    if size > 0 and _is_worse(score[0], item[0], new_score, new_item):
        score[0], item[0] = new_score, new_item
        _sift_down(score, item, size)
    return size


@compiled
def _sift_down(score: Float64, item: Int32, size: int) -> None:
    """Move the first entry of a heap down to its place."""
    moved_score, moved_item, place = score[0], item[0], 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _is_worse(score[child + 1], item[child + 1], score[child], item[child]):
            child += 1
        if not _is_worse(score[child], item[child], moved_score, moved_item):
            break
        score[place], item[place] = score[child], item[child]
        place = child
    score[place], item[place] = moved_score, moved_item


@compiled
def _sort_best_first(score: Float64, item: Int32, size: int) -> None:
    for end in range(size - 1, 0, -1):
        score[0], score[end] = score[end], score[0]
        item[0], item[end] = item[end], item[0]
        _sift_down(score, item, end)
