"""Small made-up logs for tests of counting, and hypothesis strategies for random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from features.arrays import NO_TIME, CsrLists
from features.log import Catalog, Categorical, Events, Impressions, Log, Requests
from features.online.reader import OnlineReader
from features.online.state import OnlineState

MINUTE = 60_000_000
TYPES = ("click", "history", "like", "view")


@dataclass(frozen=True)
class Happening:
    """One event: codes, minutes, and its type."""

    user: int
    item: int
    minute: int
    type: str = "click"

    @property
    def positive(self) -> bool:
        return self.type != "view"


@dataclass(frozen=True)
class Shown:
    """One list: who, when, which items, and whether it was made up."""

    user: int
    minute: int
    items: tuple[int, ...]
    sampled: bool = False


def ragged(rows: list[list[int]]) -> CsrLists:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return CsrLists(offsets, np.array([code for row in rows for code in row], np.int32))


def make_catalog(n_items: int) -> Catalog:
    """Items a, b, c… with brands (two for the second, none for the third), a price and a vector that some lack."""
    rng = np.random.default_rng(7)
    ids = np.array([chr(ord("a") + i) for i in range(n_items)], dtype=object)
    brands = [[0], [0, 1], [], [1], [2], [1]]
    published = np.array([i * MINUTE if i % 3 else NO_TIME for i in range(n_items)] + [NO_TIME], np.int64)
    price = np.append(np.round(rng.normal(10, 3, n_items), 2), np.nan)
    image = np.vstack([rng.normal(size=(n_items, 5)), np.full(5, np.nan)]).astype(np.float32)
    image[1] = np.nan
    text = np.array(["title"] * n_items + [""], dtype=object)
    return Catalog(
        ids,
        text,
        text,
        published,
        categories={
            "brand": Categorical(("acme", "bolt", "cord"), ragged([brands[i % 6] for i in range(n_items)] + [[]])),
        },
        numbers={"price": price},
        vectors={"image": image},
    )


def make_requests(shown: list[Shown]) -> Requests:
    lists = ragged([list(one.items) for one in shown])
    users = np.array([one.user for one in shown], np.int32)
    times = np.array([one.minute * MINUTE for one in shown], np.int64)
    return Requests(users, times, lists.offsets, lists.codes)


def make_log(happenings: list[Happening], shown: list[Shown], *, n_users: int = 3, n_items: int = 6) -> Log:
    happenings = sorted(happenings, key=lambda one: (one.minute, one.item))
    shown = sorted(shown, key=lambda one: one.minute)
    events = Events(
        np.array([one.user for one in happenings], np.int32),
        np.array([one.item for one in happenings], np.int32),
        np.array([one.minute * MINUTE for one in happenings], np.int64),
        np.array([TYPES.index(one.type) for one in happenings], np.int8),
        TYPES,
        np.array([one.positive for one in happenings], bool),
        np.array([one.type != "history" for one in happenings], bool),
    )
    requests = make_requests(shown)
    impressions = Impressions(
        requests,
        np.array([f"i{n}" for n in range(len(shown))], dtype=object),
        np.array([one.sampled for one in shown], bool),
        np.zeros(requests.n_rows, np.int8),
        np.zeros(requests.n_rows, np.int32),
    )
    users = np.array([f"u{n}" for n in range(n_users)], dtype=object)
    return Log(make_catalog(n_items), users, events, impressions, pd.DataFrame(index=users))


minutes = st.integers(0, 400) | st.integers(0, 40 * 1440)
happenings = st.lists(
    st.builds(
        Happening, st.integers(-1, 2), st.integers(0, 5), minutes, st.sampled_from(("click", "click", "view", "like"))
    ),
    max_size=60,
)
undated = st.lists(
    st.builds(Happening, st.integers(0, 2), st.integers(0, 5), st.integers(-9, -1), st.just("history")), max_size=8
)
lists = st.lists(
    st.builds(
        Shown,
        st.integers(-1, 2),
        minutes,
        st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True).map(tuple),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def read_online(
    state: OnlineState, user: str | None, time: int | None, candidates: Sequence[str], **further: Any
) -> OnlineReader:
    """A reader of one request from a snapshot of its own."""
    with state.snapshot() as view:
        return OnlineReader(view, user, time, candidates, **further)
