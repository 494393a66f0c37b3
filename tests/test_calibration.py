"""Scores as probabilities: fitted on the older lists, looked up on the newer ones."""

from __future__ import annotations

import numpy as np
import pytest

from features.log import Impressions, Requests
from recsys.metrics.calibration import calibrate


def lists_of(label: np.ndarray, *, time: np.ndarray | None = None, user: np.ndarray | None = None) -> Impressions:
    """(n, size) labels as n lists at times 0, 1, …"""
    n, size = label.shape
    at = np.arange(n) if time is None else time
    who = np.arange(n) if user is None else user
    offsets = np.arange(0, n * size + 1, size, dtype=np.int64)
    items = np.tile(np.arange(size, dtype=np.int32), n)
    requests = Requests(who.astype(np.int32), at.astype(np.int64), offsets, items)
    ids = np.array([str(i) for i in range(n)], object)
    return Impressions(requests, ids, np.zeros(n, bool), label.ravel().astype(np.int8), np.zeros(n * size, np.int32))


def random_clicks(n: int, rate: np.ndarray, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, len(rate))) < rate).astype(np.int8)


RATE = np.array([0.05, 0.1, 0.2, 0.5])


def test_a_rate_that_holds_is_predicted_whatever_the_unit_of_the_score() -> None:
    label = random_clicks(4000, RATE)
    found = calibrate(np.tile([-7.0, 1.0, 2.0, 900.0], 4000), lists_of(label), resamples=100, seed=0)
    assert found is not None
    assert [one.predicted for one in found.bins] == pytest.approx(label[:2000].mean(axis=0), abs=1e-9)
    assert [one.clicked.mean for one in found.bins] == pytest.approx(label[2000:].mean(axis=0), abs=1e-9)
    assert [one.n_rows for one in found.bins] == [2000] * 4
    assert found.error == pytest.approx(np.abs(label[:2000].mean(axis=0) - label[2000:].mean(axis=0)).mean(), abs=1e-9)
    assert found.error < 0.02


def test_the_older_half_fits_by_time_and_not_by_order() -> None:
    label = np.vstack([random_clicks(200, RATE), random_clicks(200, RATE / 5, seed=1)])
    scores = np.tile([0.0, 1.0, 2.0, 3.0], 400)
    found = calibrate(scores, lists_of(label, time=np.arange(400)[::-1]), resamples=100, seed=0)
    assert found is not None
    assert found.base_rate == pytest.approx(label[:200].mean(), abs=1e-12)  # the first rows are the newest
    assert found.bins[-1].predicted < found.bins[-1].clicked.low  # learnt from a time with fewer clicks


def test_scores_that_say_nothing_are_one_bin_at_the_base_rate() -> None:
    label = random_clicks(400, RATE)
    found = calibrate(np.zeros(1600), lists_of(label), resamples=100, seed=0)
    assert found is not None and len(found.bins) == 1
    assert found.bins[0].predicted == pytest.approx(label[:200].mean(), abs=1e-12)


def test_rows_without_a_score_are_left_out_and_sizes_are_told() -> None:
    scores = np.tile([0.0, 1.0, np.nan, 3.0], 40)
    found = calibrate(scores, lists_of(random_clicks(40, RATE), user=np.arange(40) // 2), resamples=100, seed=0)
    assert found is not None
    assert (found.n_fitted, found.n_lists, found.n_users, found.n_rows, found.sampled) == (20, 20, 10, 60, 0)


def test_lists_of_one_user_widen_the_interval() -> None:
    label = np.repeat(random_clicks(50, np.full(4, 0.4)), 8, axis=0)  # eight lists of a user are the same
    scores = np.zeros(label.size)
    alone = calibrate(scores, lists_of(label), resamples=400, seed=0)
    together = calibrate(scores, lists_of(label, user=np.arange(400) // 8), resamples=400, seed=0)
    assert alone is not None and together is not None
    width = [one.bins[0].clicked.high - one.bins[0].clicked.low for one in (alone, together)]
    assert width[1] > 2 * width[0]


def test_without_a_click_in_one_half_there_is_nothing_to_tell() -> None:
    label = random_clicks(40, RATE)
    label[20:] = 0
    assert calibrate(np.arange(160.0), lists_of(label), resamples=100, seed=0) is None
