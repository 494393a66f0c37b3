"""The model behind a simulated news site: its items, its readers, what it shows, and who clicks.

Everything here is arrays over codes and hours since the log began; `pipelines.simulate` turns it into tables. The
model, with its formulas, is written beside the data as `truth/README.md`; the constants below are all there is to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.log import Float64, Int32, Int64

HOURS = 28 * 24
"""Length of the impression log, hours."""
SHELF_HOURS = 10 * 24
"""An item leaves the site this many hours after it was published; the oldest are that old when the log begins."""

BASE, TASTE, QUALITY, FRESHNESS = -3.0, 4.8, 0.5, 1.2
"""Logit of interest: BASE + TASTE affinity + QUALITY quality + FRESHNESS exp(-age / FRESH_HOURS) + clickiness."""
FRESH_HOURS = 30.0
NEIGHBOUR = 0.3
"""Share of a taste that carries over to the other topics of the same category."""
POSITION_POWER = 0.35
"""A reader looks at position p with probability p ** -POSITION_POWER."""

NEAR = 0.33
TASTES = 4
"""Topics that a reader follows at any time."""
WEAKEST_TASTE = 0.8
SWITCH_PROBABILITY = 0.3
"""How likely each of them gives way to another at some moment of the log."""
RAMP_HOURS = 48.0
"""How long the change takes."""

TOPIC_SPREAD = 0.8
"""Standard deviation of the logarithm of a topic's share."""
ACTIVITY_SPREAD = 1.3
"""Standard deviation of the logarithm of a reader's visits."""

LIST_LENGTHS = (12, 28)
"""Shortest and longest shown list."""
TAKES_PART, LIKES, WRONG_LIKES = 0.85, 3, 0.05
"""Share of readers who mark items they like when they sign up, how many for each taste, and how many fall elsewhere."""
SIGN_UP_HOURS = 96.0
"""Sign-ups are spread over so many hours before the log; what is marked was published before that."""
SECTION_VISITS = 0.5
"""Share of visits that open the section of one of the reader's tastes; the others open the front page."""
POPULAR, RECENT = 0.40, 0.30
"""Shares of the slots that the site fills with what is clicked now and with what is new; the rest is any item."""
RECENT_HOURS = 18.0
POPULAR_HALF_LIFE = 24.0
_DRAWS = 72
_MEMORY = 1 << 22


@dataclass(frozen=True)
class Items:
    """n items. published: (n,) hours since the log began, sorted. topic: (n,) codes. quality: (n,) standard normal."""

    published: Float64
    topic: Int32
    quality: Float64


@dataclass(frozen=True)
class Readers:
    """n readers, each with several tastes of which TASTES count at any time.

    activity: (n,) shares of the visits, sum 1. clickiness: (n,) added to the logit of interest.
    topic: (n, 2 TASTES) codes. weight: (n, 2 TASTES) strength of each taste, ratio 0-1. since, until: (n, 2 TASTES)
    hours, -inf and inf where the taste has no such end.
    """

    activity: Float64
    clickiness: Float64
    topic: Int32
    weight: Float64
    since: Float64
    until: Float64


@dataclass(frozen=True)
class Shown:
    """n shown lists. time: (n,) hours. reader: (n,) codes, -1 for nobody known. item: (n, width) codes, -1 beyond the
    list's end; columns are positions. interest, examination: (n, width) probabilities. clicked: (n, width)."""

    time: Float64
    reader: Int32
    item: Int32
    interest: Float64
    examination: Float64
    clicked: npt.NDArray[np.bool_]


def topic_shares(n_topics: int, rng: np.random.Generator) -> Float64:
    """(n_topics,) shares of what is written and liked; they sum to 1."""
    raw = np.exp(rng.normal(0.0, TOPIC_SPREAD, n_topics))
    return np.asarray(raw / raw.sum())


def make_items(n: int, share: Float64, rng: np.random.Generator) -> Items:
    """Items that arrive evenly from one shelf life before the log until its end, on topics by their `share`."""
    arrival = (np.arange(n) + rng.random(n)) / n
    topic = rng.choice(len(share), n, p=share).astype(np.int32)
    return Items(arrival * (HOURS + SHELF_HOURS) - SHELF_HOURS, topic, rng.standard_normal(n))


def make_readers(n: int, share: Float64, category_of: Int32, rng: np.random.Generator) -> Readers:
    """Readers who like a few topics each, by their `share`; a third of them near each reader's first.

    topics of a category stand together: category_of (n_topics,) is sorted, with as many for each.
    """
    n_topics = len(share)
    activity = np.exp(rng.normal(0.0, ACTIVITY_SPREAD, n))
    topic = rng.choice(n_topics, (n, 2 * TASTES), p=share)
    near = (rng.random((n, 2 * TASTES)) < NEAR) & (np.arange(2 * TASTES) > 0)
    size = n_topics // (int(category_of.max()) + 1)
    neighbour = category_of[topic[:, :1]] * size + rng.integers(0, size, (n, 2 * TASTES))
    topic = np.where(near, neighbour, topic).astype(np.int32)
    weight = rng.uniform(WEAKEST_TASTE, 1.0, (n, 2 * TASTES))
    moment = rng.uniform(0.1 * HOURS, 0.9 * HOURS, (n, TASTES))
    moment[rng.random((n, TASTES)) >= SWITCH_PROBABILITY] = np.inf
    since = np.concatenate([np.full((n, TASTES), -np.inf), moment], axis=1)
    until = np.concatenate([moment, np.full((n, TASTES), np.inf)], axis=1)
    return Readers(activity / activity.sum(), rng.normal(0.0, 0.3, n), topic, weight, since, until)


def sign_up(items: Items, readers: Readers, rng: np.random.Generator) -> tuple[Int32, Int32, Float64]:
    """(reader, item, hours): what readers marked as liked when they signed up, shortly before the log, by time.

    Each reader who takes part marks LIKES items for each taste, of its topic if the site has any at that time; a wrong
    mark falls on any item.
    """
    n = len(readers.activity)
    takes_part = np.flatnonzero(rng.random(n) < TAKES_PART)
    reader = np.repeat(takes_part, TASTES * LIKES).astype(np.int32)
    topic = np.repeat(readers.topic[takes_part, :TASTES].ravel(), LIKES)
    hours = np.repeat(rng.uniform(-SIGN_UP_HOURS, 0.0, len(takes_part)), TASTES * LIKES)
    hours += np.tile(np.arange(TASTES * LIKES), len(takes_part)) / 240.0
    shelf = np.flatnonzero(items.published < -SIGN_UP_HOURS)
    shelf = shelf[np.argsort(items.topic[shelf], kind="stable")]
    low, high = (np.searchsorted(items.topic[shelf], topic, side=side) for side in ("left", "right"))
    wrong = (rng.random(len(topic)) < WRONG_LIKES) | (low == high)
    low, high = np.where(wrong, 0, low), np.where(wrong, len(shelf), high)
    item = shelf[low + (rng.random(len(topic)) * (high - low)).astype(np.int64)].astype(np.int32)
    order = np.argsort(hours, kind="stable")
    return reader[order], item[order], hours[order]


def examination(positions: npt.NDArray[np.integer]) -> Float64:
    """Probability that a reader looks at each position, counted from 1; same shape."""
    return np.asarray(np.asarray(positions, np.float64) ** -POSITION_POWER)


def presence(readers: Readers, reader: Int32, time: Float64) -> Float64:
    """(n, 2 TASTES) strength of each taste of `reader` at `time`; rises and falls linearly over RAMP_HOURS."""
    rise = np.clip((time[:, None] - readers.since[reader]) / RAMP_HOURS + 0.5, 0.0, 1.0)
    fall = np.clip((readers.until[reader] - time[:, None]) / RAMP_HOURS + 0.5, 0.0, 1.0)
    return np.asarray(readers.weight[reader] * rise * fall * (reader >= 0)[:, None])


def interest(
    items: Items, readers: Readers, category_of: Int32, *, reader: Int32, time: Float64, item: Int32
) -> Float64:
    """P(click | looked at) of `item` (n, width) for `reader` (n,) at `time` (n,), same shape as `item`.

    An unknown reader (-1) has no taste. Affinity is the strongest of the reader's tastes that fit the item: in full
    for its topic, NEIGHBOUR of it for its category.
    """
    strength = presence(readers, reader, time)
    topics = readers.topic[reader]
    topic = items.topic[item]
    category = category_of[topic]
    affinity = np.zeros(item.shape)
    for slot in range(strength.shape[1]):
        same = topic == topics[:, slot, None]
        near = category == category_of[topics[:, slot]][:, None]
        np.maximum(affinity, strength[:, slot, None] * np.where(same, 1.0, NEIGHBOUR * near), out=affinity)
    age = np.maximum(time[:, None] - items.published[item], 0.0)
    clickiness = np.where(reader >= 0, readers.clickiness[reader], 0.0)
    logit = BASE + TASTE * affinity + QUALITY * items.quality[item] + FRESHNESS * np.exp(-age / FRESH_HOURS)
    return np.asarray(1.0 / (1.0 + np.exp(-(logit + clickiness[:, None]))))


class Pages:
    """What the site shows: a mix of what is clicked now, what is new and anything else, never what the reader has read.

    The front page draws from all items, a section page from those of one category. The memory of who read what is a
    table of fixed size in which a newer entry may push out an older one.
    """

    def __init__(self, items: Items, category_of: Int32, rng: np.random.Generator) -> None:
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
        edges = np.concatenate([[0.0], self._chances])[ends]
        whole = np.array([0.0, self._chances[-1]])
        sections = np.column_stack([edges[:-1], edges[1:]])
        sections[np.diff(ends) < LIST_LENGTHS[0]] = whole
        self._section = np.vstack([sections, whole])

    def lists(self, reader: Int32, section: Int32) -> Int32:
        """(n, width) item codes by position, -1 beyond each list's end; lists are shorter where little is left.

        section: (n,) categories, -1 for the front page, which also stands in for a section with too few items.
        """
        n = len(reader)
        low, high = self._section[section].T[:, :, None]
        drawn = np.searchsorted(self._chances, low + self._rng.random((n, _DRAWS)) * (high - low), side="right")
        drawn = self._pool[np.minimum(drawn, len(self._pool) - 1)]
        key = self._keys(reader[:, None], drawn)
        kept = ~_repeated(drawn) & (self._read[_slot(key)] != key)
        place = np.cumsum(kept, axis=1) - 1
        kept &= place < self._rng.integers(LIST_LENGTHS[0], LIST_LENGTHS[1] + 1, n)[:, None]
        shown = np.full((n, LIST_LENGTHS[1]), -1, np.int32)
        row, column = np.nonzero(kept)
        shown[row, place[row, column]] = drawn[row, column]
        return shown

    def learn(self, reader: Int32, item: Int32) -> None:
        """Counts clicks, and remembers who read what; both (n,)."""
        self._clicks += np.bincount(item, minlength=len(self._clicks))
        key = self._keys(reader, item)[reader >= 0]
        self._read[_slot(key)] = key

    def _keys(self, reader: npt.NDArray[np.integer], item: npt.NDArray[np.integer]) -> Int64:
        return np.where(reader >= 0, reader.astype(np.int64) * len(self._clicks) + item, -2)


def _repeated(drawn: Int64) -> npt.NDArray[np.bool_]:
    """(n, k) True where a value stands further left in its row."""
    order = np.argsort(drawn, axis=1, kind="stable")
    in_order = np.take_along_axis(drawn, order, axis=1)
    repeated = np.zeros(drawn.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    return repeated


def _slot(key: Int64) -> Int64:
    mixed = key.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(42)).astype(np.int64)


def sections(readers: Readers, category_of: Int32, *, reader: Int32, time: Float64, rng: np.random.Generator) -> Int32:
    """(n,) what each visit opens: the section of one of the reader's tastes, or -1 for the front page."""
    strength = np.cumsum(presence(readers, reader, time), axis=1)
    slot = (strength < rng.random((len(reader), 1)) * strength[:, -1:]).sum(axis=1)
    topic = readers.topic[reader, np.minimum(slot, strength.shape[1] - 1)]
    opens = (rng.random(len(reader)) < SECTION_VISITS) & (reader >= 0)
    return np.where(opens, category_of[topic], -1).astype(np.int32)


def show(
    pages: Pages,
    items: Items,
    readers: Readers,
    category_of: Int32,
    *,
    reader: Int32,
    time: Float64,
    rng: np.random.Generator,
) -> Shown:
    """Lists for `reader` (n,) at `time` (n,), and the clicks on them: each with probability examination x interest."""
    item = pages.lists(reader, sections(readers, category_of, reader=reader, time=time, rng=rng))
    liking = interest(items, readers, category_of, reader=reader, time=time, item=item)
    looking = np.broadcast_to(examination(np.arange(1, item.shape[1] + 1)), item.shape)
    clicked = (rng.random(item.shape) < liking * looking) & (item >= 0)
    return Shown(time, reader, item, liking, looking, clicked)
