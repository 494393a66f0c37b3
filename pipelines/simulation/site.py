"""The model behind a simulated news site: its items, its readers, and how much each reader would like each item.

Everything here is arrays over codes and hours since the log began; `pipelines.simulation.tables` turns it into tables.
The model, with its formulas, is written beside the data as `truth/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import Float64, Int32

HOURS = 28 * 24
"""Length of the impression log, hours."""
SHELF_HOURS = 10 * 24
"""An item leaves the site this many hours after it was published; the oldest are that old when the log begins."""

BASE, TASTE, QUALITY, FRESHNESS = -5.8, 8.4, 0.5, 2.4
"""Logit of interest: BASE + TASTE affinity + QUALITY quality + FRESHNESS exp(-age / FRESH_HOURS) + clickiness."""
FRESH_HOURS = 36.0
NEIGHBOUR = 0.2
"""Share of a taste that carries over to the other topics of the same category."""

TASTES = 3
"""Topics that a reader follows at any time."""
NEAR = 0.5
"""Share of a reader's further topics that are of the first one's category."""
WEAKEST_TASTE = 0.92
"""Strengths of tastes lie between this and 1."""
SWITCH_PROBABILITY = 0.05
"""How likely each of them gives way to another at some moment of the log."""
RAMP_HOURS = 48.0
"""How long the change takes."""

TOPIC_SPREAD = 0.5
"""Standard deviation of the logarithm of a topic's share."""
CLICKINESS_SPREAD = 0.3
ACTIVITY_SPREAD = 1.4
"""Standard deviation of the logarithm of a reader's visits."""

TAKES_PART, LIKES, WRONG_LIKES = 0.85, 4, 0.05
"""Share of readers who mark items they like when they sign up, how many for each taste, and how many fall elsewhere."""
SIGN_UP_HOURS = 96.0
"""Sign-ups are spread over so many hours before the log; what is marked was published before that."""


@dataclass(frozen=True)
class SimulatedItems:
    """n items. published: (n,) hours since the log began, sorted. topic: (n,) codes. quality: (n,) standard normal."""

    published: Float64
    topic: Int32
    quality: Float64


@dataclass(frozen=True)
class Users:
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


def topic_shares(n_topics: int, rng: np.random.Generator) -> Float64:
    """(n_topics,) shares of what is written and liked; they sum to 1."""
    raw = np.exp(rng.normal(0.0, TOPIC_SPREAD, n_topics))
    return np.asarray(raw / raw.sum())


def make_items(n: int, share: Float64, rng: np.random.Generator) -> SimulatedItems:
    """Items that arrive evenly from one shelf life before the log until its end, on topics by their `share`."""
    arrival = (np.arange(n) + rng.random(n)) / n
    topic = rng.choice(len(share), n, p=share).astype(np.int32)
    return SimulatedItems(arrival * (HOURS + SHELF_HOURS) - SHELF_HOURS, topic, rng.standard_normal(n))


def make_readers(n: int, share: Float64, category_of: Int32, rng: np.random.Generator) -> Users:
    """Readers who like a few topics each, by their `share`; NEAR of them close to each first one.

    topics of a category stand together: category_of (n_topics,) is sorted, with as many for each.
    """
    n_topics = len(share)
    activity = np.exp(rng.normal(0.0, ACTIVITY_SPREAD, n))
    topic = rng.choice(n_topics, (n, 2 * TASTES), p=share)
    near = (rng.random((n, 2 * TASTES)) < NEAR) & (np.arange(2 * TASTES) > 0)
    size = n_topics // (int(category_of.max()) + 1)
    neighbour = category_of[topic[:, :1]] * size + rng.integers(0, size, (n, 2 * TASTES))
    topic = np.where(near, neighbour, topic)
    weight = rng.uniform(WEAKEST_TASTE, 1.0, (n, 2 * TASTES))
    moment = rng.uniform(0.1 * HOURS, 0.9 * HOURS, (n, TASTES))
    moment[rng.random((n, TASTES)) >= SWITCH_PROBABILITY] = np.inf
    since = np.concatenate([np.full((n, TASTES), -np.inf), moment], axis=1)
    until = np.concatenate([moment, np.full((n, TASTES), np.inf)], axis=1)
    return Users(
        activity / activity.sum(), rng.normal(0.0, CLICKINESS_SPREAD, n), topic.astype(np.int32), weight, since, until
    )


def sign_up(items: SimulatedItems, readers: Users, rng: np.random.Generator) -> tuple[Int32, Int32, Float64]:
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


def interest_strength(readers: Users, reader: Int32, time: Float64) -> Float64:
    """(n, 2 TASTES) strength of each taste of `reader` at `time`; rises and falls linearly over RAMP_HOURS."""
    rise = np.clip((time[:, None] - readers.since[reader]) / RAMP_HOURS + 0.5, 0.0, 1.0)
    fall = np.clip((readers.until[reader] - time[:, None]) / RAMP_HOURS + 0.5, 0.0, 1.0)
    return np.asarray(readers.weight[reader] * rise * fall * (reader >= 0)[:, None])


def interest(
    items: SimulatedItems, readers: Users, category_of: Int32, *, reader: Int32, time: Float64, item: Int32
) -> Float64:
    """P(click | looked at) of `item` (n, width) for `reader` (n,) at `time` (n,), same shape as `item`.

    An unknown reader (-1) has no taste. Affinity is the strongest of the reader's tastes that fit the item: in full
    for its topic, NEIGHBOUR of it for its category.
    """
    strength = interest_strength(readers, reader, time)
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
