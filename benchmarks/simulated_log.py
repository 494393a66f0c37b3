"""A large log made in memory: no text, skewed popularity and activity, for benchmarks of features.

Items and users are drawn by Zipf's law, items of a few hundred categories, a tenth of them in two. Nothing in it can be
learnt; only its size and its skew matter.
"""

from __future__ import annotations

import numpy as np

from features.log import Catalog, Categorical, Events, Impressions, Int32, Int64, Log, Ragged, Requests
from features.reads import DAY

LIST_SIZE = 20
DAYS = 90
COLUMN = "section"
_START = 1_700_000_000_000_000
_N_VALUES = 300
_ITEM_SKEW, _USER_SKEW = 1.0, 0.7


def simulated_log(*, events: int, lists: int, users: int, items: int, seed: int) -> Log:
    """`events` clicks and `lists` shown lists of LIST_SIZE candidates over the same DAYS days."""
    rng = np.random.default_rng(seed)
    user, item = _zipf(rng, users, events, _USER_SKEW), _zipf(rng, items, events, _ITEM_SKEW)
    time = np.sort(rng.integers(_START, _START + DAYS * DAY, events))
    clicks = Events(
        user, item, time, np.zeros(events, np.int8), ("click",), np.ones(events, bool), np.ones(events, bool)
    )
    requests = _lists(rng, lists, users, items)
    nothing = np.zeros(requests.n_rows, np.int8)
    shown = Impressions(
        requests,
        np.arange(lists).astype(object),
        np.zeros(lists, bool),
        nothing,
        np.zeros(requests.n_rows, np.int32),
    )
    return Log(_catalog(rng, items), np.arange(users).astype(object), clicks, shown)


def _lists(rng: np.random.Generator, lists: int, users: int, items: int) -> Requests:
    """Lists of distinct items: a draw by popularity, whose repeats in a list move on to the next free code."""
    item = np.sort(_zipf(rng, items, lists * LIST_SIZE, _ITEM_SKEW).reshape(lists, LIST_SIZE), axis=1)
    steps = np.arange(LIST_SIZE, dtype=np.int32)
    item = np.maximum.accumulate(item - steps, axis=1) + steps
    item = rng.permuted(item % items, axis=1)
    time = np.sort(rng.integers(_START, _START + DAYS * DAY, lists))
    offsets = np.arange(lists + 1, dtype=np.int64) * LIST_SIZE
    return Requests(_zipf(rng, users, lists, _USER_SKEW), time, offsets, item.ravel())


def _catalog(rng: np.random.Generator, items: int) -> Catalog:
    text = np.full(items + 1, "", dtype=object)
    published: Int64 = _START - 30 * DAY + rng.integers(0, 60 * DAY, items + 1)
    lengths = np.append(1 + (rng.random(items) < 0.1), 0)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    codes = _zipf(rng, _N_VALUES, int(offsets[-1]), _ITEM_SKEW)
    second = np.flatnonzero(np.diff(offsets) == 2) + 0
    codes[offsets[second] + 1] = (codes[offsets[second]] + 1) % _N_VALUES
    values = tuple(f"section {n:03}" for n in range(_N_VALUES))
    return Catalog(
        np.arange(items).astype(object),
        text,
        text,
        published,
        categories={COLUMN: Categorical(values, Ragged(offsets, codes))},
    )


def _zipf(rng: np.random.Generator, n: int, size: int, skew: float) -> Int32:
    """`size` codes below n, the code at place p of a random order with a probability of 1 / (p + 10) ** skew."""
    cumulative = np.cumsum(1.0 / (np.arange(n) + 10.0) ** skew)
    found = np.searchsorted(cumulative / cumulative[-1], rng.random(size), side="right")
    return rng.permutation(n).astype(np.int32)[np.minimum(found, n - 1)]
