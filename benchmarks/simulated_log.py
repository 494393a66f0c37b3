"""A large log made in memory: no text, skewed popularity and activity, for benchmarks of features.

Items and users are drawn by Zipf's law; items stand in a few hundred sections, a tenth of them in two. There is nothing
to learn in it: only its size and its skew matter.
"""

from __future__ import annotations

import numpy as np

from features.arrays import CsrLists, Int32
from features.clock import DAY
from features.log import Catalog, Categorical, Events, Impressions, Log, Requests

COLUMN = "section"
LIST_SIZE = 20
DAYS = 90
_START = 1_700_000_000_000_000
_N_SECTIONS = 300
_ITEM_SKEW, _USER_SKEW, _SECTION_SKEW = 1.0, 0.7, 1.0


def simulated_log(*, events: int, lists: int, users: int, items: int, seed: int) -> Log:
    """`events` clicks, and `lists` shown lists of LIST_SIZE candidates, both over the same DAYS days."""
    rng = np.random.default_rng(seed)
    clicks = Events(
        _zipf(rng, users, events, _USER_SKEW),
        _zipf(rng, items, events, _ITEM_SKEW),
        _times(rng, events),
        np.zeros(events, np.int8),
        ("click",),
        np.ones(events, bool),
        np.ones(events, bool),
    )
    requests = _lists(rng, lists, users, items)
    rows = requests.n_rows
    shown = Impressions(
        requests, _names(lists), np.zeros(lists, bool), np.zeros(rows, np.int8), np.zeros(rows, np.int32)
    )
    return Log(_catalog(rng, items), _names(users), clicks, shown)


def _lists(rng: np.random.Generator, lists: int, users: int, items: int) -> Requests:
    """Lists of distinct items: drawn by popularity, a second one of the same item moves on to the next free code."""
    item = np.sort(_zipf(rng, items, lists * LIST_SIZE, _ITEM_SKEW).reshape(lists, LIST_SIZE), axis=1)
    steps = np.arange(LIST_SIZE, dtype=np.int32)
    item = np.maximum.accumulate(item - steps, axis=1) + steps
    item = rng.permuted(item % items, axis=1)
    offsets = np.arange(lists + 1, dtype=np.int64) * LIST_SIZE
    return Requests(_zipf(rng, users, lists, _USER_SKEW), _times(rng, lists), offsets, item.ravel())


def _catalog(rng: np.random.Generator, items: int) -> Catalog:
    """Items of one section or two, published up to 30 days before the log begins or in its first 30 days."""
    two = rng.random(items) < 0.1
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.append(1 + two, 0))])
    codes = _zipf(rng, _N_SECTIONS, int(offsets[-1]), _SECTION_SKEW)
    first = offsets[:-2][two]
    codes[first + 1] = (codes[first] + 1) % _N_SECTIONS
    values = tuple(f"section {n:03}" for n in range(_N_SECTIONS))
    text = np.full(items + 1, "", dtype=object)
    published = rng.integers(_START - 30 * DAY, _START + 30 * DAY, items + 1)
    return Catalog(
        _names(items), text, text, published, categories={COLUMN: Categorical(values, CsrLists(offsets, codes))}
    )


def _times(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.sort(rng.integers(_START, _START + DAYS * DAY, size))


def _names(n: int) -> np.ndarray:
    return np.array([f"{i:08}" for i in range(n)], dtype=object)


def _zipf(rng: np.random.Generator, n: int, size: int, skew: float) -> Int32:
    """`size` codes below n, the code at place p of a random order with a weight of 1 / (p + 10) ** skew."""
    cumulative = np.cumsum(1.0 / (np.arange(n) + 10.0) ** skew)
    found = np.searchsorted(cumulative / cumulative[-1], rng.random(size), side="right")
    return rng.permutation(n).astype(np.int32)[np.minimum(found, n - 1)]
