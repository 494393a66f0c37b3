"""One list from the lists of several sources: the first of each source, then the second of each, and so on.

Scores of different sources do not compare; ranks do. Every source so gets its share of the list until it has no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import CsrLists, Float64, Int8, Int32, Int64, offsets_of
from features.compiled import compiled
from recsys.candidates.best_items import ScoredLists


@dataclass(frozen=True)
class MergedLists:
    """Candidates of n users, each once, and which sources found them.

    items: a row a user, in the order of the merged list. by_source: (items.offsets[-1] + 1,) where the entries of each
    candidate begin. source: (m,) positions in the sources. rank: (m,) in that source's list, from 1. score: (m,) there.
    """

    items: CsrLists
    by_source: Int64
    source: Int8
    rank: Int32
    score: Float64


def merge(lists: Sequence[ScoredLists], *, most: int, n_items: int) -> MergedLists:
    """At most `most` candidates of each user. lists: of each source for the same users, best first, distinct items."""
    n_users = len(lists[0])
    offsets = np.stack([one.offsets for one in lists])
    base = offsets_of([len(one.item) for one in lists])
    item = np.concatenate([one.item for one in lists])
    score = np.concatenate([one.score for one in lists])
    room = np.minimum(np.diff(offsets, axis=1).sum(axis=0), most)
    merged, kept = np.empty(int(room.sum()), np.int32), np.zeros(n_users, np.int64)
    entries = np.zeros(len(merged), np.int64)
    source, rank = np.empty(len(item), np.int8), np.empty(len(item), np.int32)
    found_score = np.empty(len(item))
    n_rows, n_entries = _interleave(
        offsets, base, item, score, most, n_items, merged, kept, entries, source, rank, found_score
    )
    items = CsrLists(offsets_of(kept), merged[:n_rows].copy())
    return MergedLists(
        items, offsets_of(entries[:n_rows]), source[:n_entries], rank[:n_entries], found_score[:n_entries]
    )


@compiled
def _interleave(
    offsets: Int64,
    base: Int64,
    item: Int32,
    score: Float64,
    most: int,
    n_items: int,
    merged: Int32,
    kept: Int64,
    entries: Int64,
    source: Int8,
    rank: Int32,
    found_score: Float64,
) -> tuple[int, int]:
    """`merge`: the number of candidates and of their entries. merged, entries: room for all candidates. source, rank,
    found_score: room for all entries."""
    n_sources, n_users = offsets.shape[0], offsets.shape[1] - 1
    place = np.zeros((n_sources, n_items), np.int32)  # from 1, of the items in this user's lists
    taken = np.zeros(n_items, np.bool_)
    n_rows, n_entries = 0, 0
    for user in range(n_users):
        longest, first = 0, n_rows
        for number in range(n_sources):
            start, end = base[number] + offsets[number, user], base[number] + offsets[number, user + 1]
            longest = max(longest, end - start)
            for entry in range(start, end):
                place[number, item[entry]] = entry - start + 1
        for position in range(longest):
            for number in range(n_sources):
                entry = base[number] + offsets[number, user] + position
                if entry >= base[number] + offsets[number, user + 1] or n_rows - first == most:
                    continue
                if not taken[item[entry]]:
                    taken[item[entry]] = True
                    merged[n_rows] = item[entry]
                    n_rows += 1
        for row in range(first, n_rows):
            taken[merged[row]] = False
            for number in range(n_sources):
                found = place[number, merged[row]]
                if found > 0:
                    source[n_entries], rank[n_entries] = number, found
                    found_score[n_entries] = score[base[number] + offsets[number, user] + found - 1]
                    n_entries += 1
                    entries[row] += 1
        for number in range(n_sources):
            for entry in range(base[number] + offsets[number, user], base[number] + offsets[number, user + 1]):
                place[number, item[entry]] = 0
        kept[user] = n_rows - first
    return n_rows, n_entries
