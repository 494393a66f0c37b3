"""The online state against the offline matrix, on random small logs: any order, repeats, delays, kills."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrivals import Event, ShownList
from features.catalogue import catalogue, reads_of
from features.definitions import CountOf, Feature
from features.errors import StoreError, TimeOrderError
from features.item_records import Item
from features.log import NO_TIME, Catalog, Float32, Log
from features.matrix import feature_matrix
from features.offline import LogIndex, log_matrix
from features.online import OnlineState
from features.online_reader import OnlineReader
from features.reads import CLICK, IMPRESSION, ITEM, USER, USER_ITEM, Count, Read, days, hours
from features.store import LmdbStore
from features.store_settings import StoreSettings
from small_logs import MINUTE, Happening, Shown, happenings, lists, make_log, make_requests, undated

EVERYTHING = (
    *catalogue(categories={"brand": ("acme", "cord")}, numbers=("price",), vectors=("image",)),
    Feature("user_item_impressions", "Shown.", CountOf(Count(IMPRESSION, USER_ITEM, days(1)))),
    Feature("user_brand_impressions", "Shown.", CountOf(Count(IMPRESSION, ("user", "brand"), hours(1)))),
    Feature("brand_impressions", "Shown.", CountOf(Count(IMPRESSION, ("brand",), hours(1)))),
    Feature("item_views", "Views.", CountOf(Count("view", ITEM, hours(1)))),
    Feature("user_likes", "Likes.", CountOf(Count("like", USER))),
)


def settings_for(
    features: Sequence[Feature] = EVERYTHING, delay: int = 0, reads: tuple[Read, ...] = ()
) -> StoreSettings:
    return StoreSettings(
        reads=(*reads_of(features), *reads),
        event_delay=delay,
        categories=("brand",),
        numbers=("price",),
        vectors=(("image", 5),),
    )


@contextmanager
def fresh_state(wanted: StoreSettings) -> Iterator[OnlineState]:
    with tempfile.TemporaryDirectory() as folder:
        store = LmdbStore(Path(folder))
        try:
            yield OnlineState.open(store, wanted)
        finally:
            store.close()


def items_of(catalog: Catalog) -> list[Item]:
    brand = catalog.categories["brand"]
    return [
        Item(
            str(item_id),
            "title",
            published_at=int(catalog.published_at[code]),
            categories={"brand": tuple(brand.values[value] for value in brand.codes.row(code))},
            numbers={"price": float(catalog.numbers["price"][code])},
            vectors={} if np.isnan(catalog.vectors["image"][code]).any() else {"image": catalog.vectors["image"][code]},
        )
        for code, item_id in enumerate(catalog.ids)
    ]


def name_of(user: int) -> str | None:
    return None if user < 0 else f"u{user}"


def item_name(item: int) -> str:
    return chr(ord("a") + item)


def event_of(one: Happening, event_id: str | None = None) -> Event:
    return Event(name_of(one.user), item_name(one.item), one.minute * MINUTE, one.type, event_id=event_id)


def list_of(one: Shown, list_id: str) -> ShownList:
    items = tuple(map(item_name, one.items))
    return ShownList(name_of(one.user), items, one.minute * MINUTE, list_id, sampled=one.sampled)


def once_each(events: list[Happening]) -> list[Happening]:
    """As the tables are read: a known user's repeats count once."""
    strangers = [one for one in events if one.user < 0]
    return [*dict.fromkeys(one for one in events if one.user >= 0), *strangers]


def online_matrix(state: OnlineState, shown: Sequence[Shown], features: Sequence[Feature] = EVERYTHING) -> Float32:
    parts = []
    for one in shown:
        candidates = [item_name(item) for item in one.items]
        reader = OnlineReader(state, name_of(one.user), one.minute * MINUTE, candidates, now=0)
        parts.append(feature_matrix(features, reader)[1])
    return np.concatenate(parts)


def offline_matrix(log: Log, shown: Sequence[Shown], delay: int = 0) -> Float32:
    index, requests = LogIndex(log), make_requests(list(shown))
    history = index.histories(requests, delay=delay)
    return log_matrix(EVERYTHING, index, requests, history, delay=delay)[1]


@settings(max_examples=40, deadline=None)
@given(happenings, undated, lists, st.sampled_from((0, 0, 5 * MINUTE, hours(2), days(2))))
def test_replay_in_time_order_equals_the_offline_matrix_to_the_last_bit(
    events: list[Happening], old: list[Happening], shown: list[Shown], delay: int
) -> None:
    events, shown = once_each(events + old), sorted(shown, key=lambda one: one.minute)
    log = make_log(events, shown)
    with fresh_state(settings_for(delay=delay)) as state:
        state.add_items(items_of(log.catalog))
        state.add_events([event_of(one) for one in events if one.minute < 0])
        ranked = []
        minutes = sorted({one.minute for one in (*events, *shown) if one.minute >= 0})
        for minute in minutes:
            now_shown = [(place, one) for place, one in enumerate(shown) if one.minute == minute]
            if now_shown:
                ranked.append(online_matrix(state, [one for _, one in now_shown]))
            assert state.add_events([event_of(one) for one in events if one.minute == minute]) == []
            assert state.add_impressions([list_of(one, f"i{place}") for place, one in now_shown]) == []
    assert np.concatenate(ranked).tobytes() == offline_matrix(log, shown, delay).tobytes()


@settings(max_examples=40, deadline=None)
@given(happenings, undated, lists, lists, st.sampled_from((0, 5 * MINUTE, days(2))), st.randoms(use_true_random=False))
def test_the_state_does_not_depend_on_order_repeats_or_when_items_are_described(
    events: list[Happening],
    old: list[Happening],
    shown: list[Shown],
    asked: list[Shown],
    delay: int,
    random: object,
) -> None:
    events = once_each(events + old)
    end = max([one.minute for one in (*events, *shown)])
    asked = [Shown(one.user, end + one.minute, one.items) for one in asked]
    log = make_log(events, shown)
    arrivals: list[object] = [event_of(one) for one in events]
    arrivals += [event_of(one) for one in events if one.user >= 0]
    ordered = sorted(shown, key=lambda one: one.minute)
    arrivals += [list_of(one, f"i{place}") for place, one in enumerate(ordered)] * 2
    described = items_of(log.catalog)
    arrivals += described
    arrivals += [Item(item.item_id, categories={"brand": ("bolt", "other")}) for item in described[::2]]
    random.shuffle(arrivals)  # type: ignore[attr-defined]
    with fresh_state(settings_for(delay=delay)) as state:
        for arrival in arrivals:
            if isinstance(arrival, Event):
                state.add_events([arrival])
            elif isinstance(arrival, ShownList):
                state.add_impressions([arrival])
            elif isinstance(arrival, Item):
                state.add_items([arrival])
        state.add_items(described)
        found = online_matrix(state, asked)
    assert found.tobytes() == offline_matrix(log, asked, delay).tobytes()
