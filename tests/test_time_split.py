"""Slices by time: shares, and moments that are never split."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.log import Impressions, Requests
from recsys.config import SlicesConfig
from recsys.errors import TrainingError
from recsys.training.time_split import chunk_starts, slice_after, slice_impressions


def impressions_at(times: list[int], *, clicked: bool = True) -> Impressions:
    """Lists of two items at each time, the first one clicked."""
    n = len(times)
    requests = Requests(
        np.zeros(n, np.int32),
        np.array(sorted(times), np.int64),
        np.arange(n + 1) * 2,
        np.tile([0, 1], n).astype(np.int32),
    )
    label = np.tile([int(clicked), 0], n).astype(np.int8)
    return Impressions(
        requests, np.arange(n).astype(str).astype(object), np.zeros(n, bool), label, np.zeros(2 * n, np.int32)
    )


def test_slices_are_the_configured_shares_of_the_impressions() -> None:
    sliced = slice_impressions(impressions_at(list(range(100))), SlicesConfig())
    assert sliced.counts() == {"encoder": 25, "ranker": 50, "valid": 10, "test": 15}


def test_a_moment_that_straddles_a_cut_goes_whole_to_the_nearer_side() -> None:
    times = [0] * 23 + [1] * 5 + list(range(2, 74))
    sliced = slice_impressions(impressions_at(times), SlicesConfig())
    assert sliced.counts()["encoder"] == 23


def test_parts_of_a_slice_are_alike_and_divide_no_moment() -> None:
    everything = impressions_at(list(range(100)))
    assert chunk_starts(everything, np.arange(20, 60), 4).tolist() == [0, 10, 20, 30]
    times = [0] * 5 + [1] * 10 + [2] * 5
    assert chunk_starts(impressions_at(times), np.arange(20), 4).tolist() == [0, 5, 15]


def test_lists_after_a_moment_are_cut_by_the_shares_of_the_later_slices() -> None:
    sliced = slice_after(
        impressions_at(list(range(100))), 70, SlicesConfig(encoder=0.5, ranker=0.25, valid=0.1, test=0.15)
    )
    assert sliced.counts() == {"encoder": 70, "ranker": 15, "valid": 6, "test": 9}


@given(st.lists(st.integers(0, 60), min_size=40, max_size=200))
def test_no_moment_lies_in_two_slices_and_no_impression_is_lost(times: list[int]) -> None:
    impressions = impressions_at(times)
    try:
        sliced = slice_impressions(impressions, SlicesConfig())
    except TrainingError:
        return
    parts = [sliced.encoder, sliced.ranker, sliced.valid, sliced.test]
    assert list(np.concatenate(parts)) == list(range(len(times)))
    for older, newer in itertools.pairwise(parts):
        assert impressions.requests.time[older].max() < impressions.requests.time[newer].min()


def test_one_impression_only_is_an_error_that_says_how_many_there_are() -> None:
    with pytest.raises(TrainingError, match=r"'encoder'.*1 impressions at 1 distinct times"):
        slice_impressions(impressions_at([5]), SlicesConfig())


def test_lists_without_a_click_cannot_fill_a_slice() -> None:
    with pytest.raises(TrainingError, match="both a clicked and an unclicked item"):
        slice_impressions(impressions_at(list(range(100)), clicked=False), SlicesConfig())
