"""The pages of a simulated news site: what it shows to each user, what users examine, and what they click.

The site knows items and past clicks, not tastes: a list is the same draw for every reader of a page. Arrays are over
codes and hours since the log began, as in `pipelines.simulation.site`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Bool, Float64, Int32, Int64
from features.tables.negative_sampling import repeated_in_row
from pipelines.simulation.site import SHELF_HOURS, SimulatedItems, Users, interest, interest_strength

POSITION_POWER = 0.25
"""A reader looks at position p with probability p ** -POSITION_POWER."""
LIST_LENGTHS = (12, 28)
"""Shortest and longest shown list, if there is enough to show."""
FEWEST_UNREAD = 5
"""Where fewer unread items are left, those the reader has read are shown again."""
SECTION_VISITS = 0.6
"""Share of visits that open the section of one of the reader's tastes; the others open the front page."""
POPULAR, RECENT = 0.40, 0.30
"""Shares of the slots that the site fills with what is clicked now and with what is new; the rest is any item."""
RECENT_HOURS = 18.0
"""Age at which an item's chance among the new ones has fallen to 1/e."""
POPULAR_HALF_LIFE = 24.0
"""Hours after which a click counts half."""
_DRAWS = 72
_MEMORY = 1 << 22


@dataclass(frozen=True)
class PageViews:
    """n page views, each with its list. time: (n,) hours. reader: (n,) codes, -1 for an unknown user. item: (n, width)
    codes, -1 beyond the list's end; columns are positions. interest, examination: (n, width) probabilities. clicked:
    (n, width)."""

    time: Float64
    reader: Int32
    item: Int32
    interest: Float64
    examination: Float64
    clicked: Bool


def examination(positions: npt.NDArray[np.integer]) -> Float64:
    """Probability that a reader looks at each position, counted from 1; same shape."""
    return np.asarray(np.asarray(positions, np.float64) ** -POSITION_POWER)


class Pages:
    """What the site shows: a mix of what is clicked now, what is new and anything else, less what the reader has read.

    The front page draws from all items, a section page from those of one category. The memory of who read what is a
    table of fixed size in which a newer entry may push out an older one.
    """

    def __init__(self, items: SimulatedItems, category_of: Int32, rng: np.random.Generator) -> None:
        self._items = items
        self._category = category_of[items.topic]
        self._n_sections = int(category_of.max()) + 1
        self._rng = rng
        self._clicks = np.zeros(len(items.published))
        self._read = np.full(_MEMORY, -1, np.int64)
        self._pool = np.zeros(0, np.int64)
        self._chances = np.zeros(0)
        self._section = np.zeros((self._n_sections + 1, 2))

    def refresh(self, hour: float) -> None:
        """Takes up new items, drops old ones and weighs what is clicked now."""
        published = self._items.published
        pool = np.arange(np.searchsorted(published, hour - SHELF_HOURS), np.searchsorted(published, hour))
        self._clicks *= 0.5 ** (1.0 / POPULAR_HALF_LIFE)
        clicks = self._clicks[pool] + 0.2
        recent = np.exp((published[pool] - hour) / RECENT_HOURS) + 1e-12
        chance = POPULAR * clicks / clicks.sum() + RECENT * recent / recent.sum()
        chance += (1.0 - POPULAR - RECENT) / len(pool)
        order = np.argsort(self._category[pool], kind="stable")
        self._pool = pool[order]
        self._chances = np.cumsum(chance[order])
        ends = np.searchsorted(self._category[self._pool], np.arange(self._n_sections + 1))
        bounds = np.concatenate([[0.0], self._chances])[ends]
        whole = np.array([0.0, self._chances[-1]])
        sections = np.column_stack([bounds[:-1], bounds[1:]])
        sections[np.diff(ends) < LIST_LENGTHS[0]] = whole
        self._section = np.vstack([sections, whole])

    def draw_items(self, reader: Int32, section: Int32) -> Int32:
        """(n, width) item codes by position, -1 beyond each list's end; a list is shorter where little is left unread.

        section: (n,) categories, -1 for the front page, which also replaces a section with too few items.
        """
        n = len(reader)
        low, high = self._section[section].T[:, :, None]
        drawn = np.searchsorted(self._chances, low + self._rng.random((n, _DRAWS)) * (high - low), side="right")
        drawn = self._pool[np.minimum(drawn, len(self._pool) - 1)]
        key = self._keys(reader[:, None], drawn)
        distinct = ~repeated_in_row(drawn)
        selected = distinct & (self._read[_slot(key)] != key)
        selected = np.where(selected.sum(axis=1, keepdims=True) < FEWEST_UNREAD, distinct, selected)
        position = np.cumsum(selected, axis=1) - 1
        selected &= position < self._rng.integers(LIST_LENGTHS[0], LIST_LENGTHS[1] + 1, n)[:, None]
        items = np.full((n, LIST_LENGTHS[1]), -1, np.int32)
        row, column = np.nonzero(selected)
        items[row, position[row, column]] = drawn[row, column]
        return items

    def learn(self, reader: Int32, item: Int32) -> None:
        """Counts clicks, and remembers who read what; both (n,)."""
        self._clicks += np.bincount(item, minlength=len(self._clicks))
        key = self._keys(reader, item)[reader >= 0]
        self._read[_slot(key)] = key

    def _keys(self, reader: npt.NDArray[np.integer], item: npt.NDArray[np.integer]) -> Int64:
        return np.where(reader >= 0, reader.astype(np.int64) * len(self._clicks) + item, -2)


def _slot(key: Int64) -> Int64:
    mixed = key.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(42)).astype(np.int64)


def sections(readers: Users, category_of: Int32, *, reader: Int32, time: Float64, rng: np.random.Generator) -> Int32:
    """(n,) what each visit opens: the section of one of the reader's tastes, or -1 for the front page."""
    strength = np.cumsum(interest_strength(readers, reader, time), axis=1)
    slot = (strength < rng.random((len(reader), 1)) * strength[:, -1:]).sum(axis=1)
    topic = readers.topic[reader, np.minimum(slot, strength.shape[1] - 1)]
    opens = (rng.random(len(reader)) < SECTION_VISITS) & (reader >= 0)
    return np.where(opens, category_of[topic], -1).astype(np.int32)


def show(
    pages: Pages,
    items: SimulatedItems,
    readers: Users,
    category_of: Int32,
    *,
    reader: Int32,
    time: Float64,
    rng: np.random.Generator,
) -> PageViews:
    """Lists for `reader` (n,) at `time` (n,), and the clicks on them: each with probability examination x interest."""
    item = pages.draw_items(reader, sections(readers, category_of, reader=reader, time=time, rng=rng))
    liking = interest(items, readers, category_of, reader=reader, time=time, item=item)
    looking = np.broadcast_to(examination(np.arange(1, item.shape[1] + 1)), item.shape)
    clicked = (rng.random(item.shape) < liking * looking) & (item >= 0)
    return PageViews(time, reader, item, liking, looking, clicked)
