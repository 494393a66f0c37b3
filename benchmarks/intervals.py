"""`python -m benchmarks.intervals`: how often intervals hold the truth, and what they cost. Part of `quality`.

Repetitions are simulated: users who differ as much as their lists do, some with one list, some with nine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.report import Result, command
from features.arrays import Float64, Int64
from recsys.metrics.bootstrap import mean_interval, mean_intervals

REPETITIONS, USERS, RESAMPLES = 1000, 200, 1000
LISTS, READERS, COLUMNS = 5000, 1341, 44
NAIVE_RESAMPLES = 20

Drawn = tuple[Float64, Int64]
Draw = Callable[[np.random.Generator], Drawn]


def measure(quick: bool) -> list[Result]:
    """Coverage of the 95% intervals over 1,000 simulated repetitions, and the time of a bootstrap."""
    return [
        _coverage("interval_coverage", _differences, 0.0),
        _coverage("interval_coverage_skewed", _first_ranks, _first_ranks_truth()),
        _speed(),
    ]


def _differences(random: np.random.Generator) -> Drawn:
    """Paired differences: a user's own level and a list's noise, both normal; the truth is 0."""
    users = np.repeat(np.arange(USERS), random.integers(1, 10, USERS))
    return random.normal(size=USERS)[users] + random.normal(size=len(users)), users


def _first_ranks(random: np.random.Generator) -> Drawn:
    """1 / rank of a click, geometric with the user's own chance; who clicks higher up has more lists."""
    chance = random.beta(1.5, 6.0, USERS)
    users = np.repeat(np.arange(USERS), 1 + random.binomial(8, chance))
    return 1.0 / random.geometric(np.maximum(chance[users], 1e-3)), users


def _first_ranks_truth() -> float:
    """Mean over lists of as many users as 1,000,000 lists need."""
    random, total, n = np.random.default_rng(1), 0.0, 0
    while n < 1_000_000:
        values, _ = _first_ranks(random)
        total, n = total + values.sum(), n + len(values)
    return total / n


def _coverage(name: str, draw: Draw, truth: float) -> Result:
    covered = 0
    for repetition in range(REPETITIONS):
        values, users = draw(np.random.default_rng([2, repetition]))
        found = mean_interval(values, users, resamples=RESAMPLES, seed=repetition)
        covered += found.low <= truth <= found.high
    share = float(covered / REPETITIONS)
    half = 1.96 * float(np.sqrt(share * (1 - share) / REPETITIONS))
    unit = f"of {REPETITIONS:,} repetitions, {USERS} users"
    return Result(name, share, unit, 0.95, share / 0.95, share - half, share + half)


def _speed() -> Result:
    """Seconds of a bootstrap of all columns, against drawing the lists of each drawn user one resample at a time."""
    random = np.random.default_rng(3)
    users = np.concatenate([np.arange(READERS), random.integers(0, READERS, LISTS - READERS)])
    values = random.random((LISTS, COLUMNS))
    mean_intervals(values, users, resamples=10, seed=0)
    started = time.perf_counter()
    mean_intervals(values, users, resamples=RESAMPLES, seed=0)
    spent = time.perf_counter() - started
    rows = [np.flatnonzero(users == user) for user in range(READERS)]
    started = time.perf_counter()
    for _ in range(NAIVE_RESAMPLES):
        values[np.concatenate([rows[user] for user in random.integers(0, READERS, READERS)])].mean(axis=0)
    naive = (time.perf_counter() - started) * RESAMPLES / NAIVE_RESAMPLES
    unit = f"s, {LISTS:,} lists of {READERS:,} users, {COLUMNS} columns; naive beside"
    return Result("bootstrap_seconds", spent, unit, naive, spent / naive)


if __name__ == "__main__":
    command(measure)
