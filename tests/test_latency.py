"""Lists filled up to one size, and times taken in turn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from features.log import Requests
from recsys.evaluation import latency
from recsys.evaluation.latency import latency_requests, median_milliseconds

REQUESTS = Requests(
    np.array([7, 8, 9], np.int32),
    np.arange(3),
    np.array([0, 2, 4, 7]),
    np.array([1, 2, 3, 1, 4, 5, 2], np.int32),
)


def test_lists_are_filled_up_with_the_newest_of_other_lists() -> None:
    found = latency_requests(REQUESTS, n_requests=2, n_candidates=4)
    # the pool from the end: 2, 5, 4, 1, 3
    assert list(found.user) == [8, 9]
    assert [list(found.item[found.offsets[i] : found.offsets[i + 1]]) for i in range(2)] == [[3, 1, 2, 5], [4, 5, 2, 1]]


def test_long_lists_are_cut_and_few_items_give_short_ones() -> None:
    assert list(latency_requests(REQUESTS, n_requests=9, n_candidates=2).lengths()) == [2, 2, 2]
    assert list(latency_requests(REQUESTS, n_requests=9, n_candidates=100).lengths()) == [5, 5, 5]


def test_each_ranker_gets_every_list_and_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    clock = SimpleNamespace(now=5.0)
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def fast(request: Requests) -> None:
        clock.now += 0.25

    def slow(request: Requests) -> None:
        seen.append(int(request.user[0]))
        clock.now += {7: 8.0, 8: 2.0, 9: 4.0}[seen[-1]]

    assert median_milliseconds([(fast, REQUESTS), (slow, REQUESTS)]) == (250.0, 4000.0)
    assert seen == [7, 7, 8, 9]  # the first twice: once to warm up
