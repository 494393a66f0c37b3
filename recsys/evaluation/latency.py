"""The time to rank one list, measured for several rankers on lists of one size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from features.arrays import Float64, offsets_of
from features.log import Requests

CANDIDATES = 100
LISTS = 30

Rank = Callable[[Requests], object]


def median_milliseconds(rankers: Sequence[tuple[Rank, Requests]]) -> tuple[float, ...]:
    """Median wall-clock time of each ranker for one request of its own requests, in milliseconds.

    rankers: with as many requests each, ranked one at a time and in turn, so that other load on the machine affects
    all of them. The first request of each, which may build what is kept, is not counted.
    """
    n = min(len(requests) for _, requests in rankers)
    spent: Float64 = np.full((n, len(rankers)), np.nan)
    for i in range(n):
        for j, (rank, requests) in enumerate(rankers):
            request = requests.take(np.array([i]))
            if i == 0:
                rank(request)
            started = time.perf_counter()
            rank(request)
            spent[i, j] = (time.perf_counter() - started) * 1000
    return tuple(float(value) for value in np.median(spent, axis=0))


def latency_requests(requests: Requests, *, n_requests: int = LISTS, n_candidates: int = CANDIDATES) -> Requests:
    """The last requests, each filled up with the candidates of others until it has `n_candidates` distinct ones.

    A log with fewer distinct candidates gives shorter lists. Queries are kept. At most `n_requests` requests come back.
    """
    chosen = np.arange(max(0, len(requests) - n_requests), len(requests))
    pool = requests.item[::-1]
    distinct = pool[np.sort(np.unique(pool, return_index=True)[1])]
    items = []
    for i in chosen:
        candidates = requests.item[requests.offsets[i] : requests.offsets[i + 1]]
        others = distinct[~np.isin(distinct, candidates)]
        items.append(np.concatenate([candidates, others])[:n_candidates])
    offsets = offsets_of([len(codes) for codes in items])
    query = None if requests.query is None else requests.query[chosen]
    item = np.concatenate([np.zeros(0, np.int32), *items]).astype(np.int32)
    return Requests(requests.user[chosen], requests.time[chosen], offsets, item, query)
