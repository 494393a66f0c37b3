"""Candidates of users as of a time: all sources over a log, filtered and merged, block by block of users.

Nothing at or after the time is read: no event, no impression, no item that is published later. The result is the same
with any number of users in a block and any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from features.arrays import CsrLists, Float32, Int32
from features.clock import oldest_read
from features.history import clicked_before
from features.log import Catalog, Categorical, Requests
from features.offline.reader import LogIndex
from features.tables.items import CATEGORY
from recsys.candidates.best_items import ScoredLists, best_of_each
from recsys.candidates.by_category import category_source
from recsys.candidates.co_click import CoClickSource, neighbours_of_clicks
from recsys.candidates.filters import Filters
from recsys.candidates.item_ages import newness, popularity
from recsys.candidates.merge import MergedLists, merge
from recsys.candidates.nearest import ItemSearch, NearestSource, nearest_of_items
from recsys.candidates.source import CandidateSource, UserBlock, last_of_each
from recsys.collaborative.settings import CollaborativeSettings


@dataclass(frozen=True)
class CandidateSettings:
    """most: candidates of each user, and the length of each source's list. last_items: latest clicked items of a user
    whose nearest items are found. near_each: nearest items of each of them. collaborative: of the co-click neighbours.
    block_users: how many users are found candidates for at a time; it changes no result."""

    most: int = 500
    last_items: int = 10
    near_each: int = 100
    collaborative: CollaborativeSettings = field(default_factory=CollaborativeSettings)
    block_users: int = 256


@dataclass(frozen=True)
class CandidateBlock:
    """The candidates of users from number `first` on. by_source: the list of each source."""

    first: int
    merged: MergedLists
    by_source: Sequence[ScoredLists]


@dataclass(frozen=True)
class CandidateGenerator:
    """Finds candidates for n users. history: their clicked items, oldest first, a row a user; filters.banned has a row
    for each of them too."""

    sources: tuple[CandidateSource, ...]
    history: CsrLists
    filters: Filters
    settings: CandidateSettings
    n_items: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources, in the order of their turns."""
        return tuple(source.name for source in self.sources)

    def blocks(self, first: int, end: int, *, threads: int = 1) -> Iterator[CandidateBlock]:
        """The candidates of users number `first` to `end`, in order; each of the threads works on a block of them."""
        step = self.settings.block_users
        starts = range(first, end, step)
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(lambda start: self._block(start, min(start + step, end)), starts)

    def _block(self, first: int, end: int) -> CandidateBlock:
        numbers, most = np.arange(first, end), self.settings.most
        users = UserBlock(self.history.take(numbers), self.filters.banned.take(numbers))
        lists = [
            best_of_each(
                source.find(users, most=most),
                most=most,
                allowed=self.filters.allowed,
                banned=users.banned,
                add=source.adds,
            )
            for source in self.sources
        ]
        return CandidateBlock(first, merge(lists, most=most, n_items=self.n_items), lists)


def make_generator(
    index: LogIndex,
    users: Int32,
    vectors: Float32,
    filters: Filters,
    at: int,
    settings: CandidateSettings,
    *,
    threads: int = 1,
) -> CandidateGenerator:
    """The sources over a log as of `at`, microseconds, for some users.

    index: of the log, whose settings say when events become known and how long a history is. users: (n,) their codes in
    the log, -1 for unknown ones, who have no history. vectors: (n_items + 1, d), NaN rows without text; of width 0
    where there is no encoder, which leaves the nearest items out.
    """
    log, horizon = index.log, index.horizon
    as_of, n_items = at - index.settings.data.event_delay, len(log.catalog)
    settings = replace(settings, most=min(settings.most, n_items))
    category = _category(log.catalog)
    requests = Requests(users, np.full(len(users), at), np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32))
    history = index.histories(requests).items
    table = settings.collaborative
    clicked = clicked_before(index.clicks(), as_of, length=table.user_items, horizon=horizon)
    neighbours = neighbours_of_clicks(clicked, n_items, shrinkage=table.shrinkage, most=table.neighbours)
    sources: list[CandidateSource] = [CoClickSource(neighbours)]
    if vectors.shape[1]:
        search = ItemSearch(vectors[:-1], filters.allowed)
        last = np.unique(last_of_each(history, settings.last_items).codes).astype(np.int64)
        near = nearest_of_items(search, last, most=settings.near_each, threads=threads)
        sources.insert(0, NearestSource(search, near, settings.last_items))
    popular = np.where(filters.allowed, popularity(log, as_of, horizon=horizon), 0.0)
    new = np.where(filters.allowed, newness(log, at, as_of=as_of, since=oldest_read(as_of, horizon)), 0.0)
    sources += [category_source("popular", popular, category), category_source("new", new, category)]
    return CandidateGenerator(tuple(sources), history, filters, settings, n_items)


def _category(catalog: Catalog) -> Categorical | None:
    """The categories of the column `category`, where the items table has it."""
    return catalog.categories.get(CATEGORY)
