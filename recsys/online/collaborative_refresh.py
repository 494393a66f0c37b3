"""Collaborative tables made anew from the online state, when the next making is due."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from features.online.items import local_catalog
from features.online.state import OnlineState
from features.online.user_clicks import clicked_before
from recsys.collaborative.online import OnlineSnapshots
from recsys.collaborative.snapshot import build_tables
from recsys.online.item_texts import ItemTextReader


@dataclass(frozen=True)
class Rebuilt:
    """What was made. edge: the clicks before it are in, microseconds. items, users: how many have any."""

    edge: int
    items: int
    users: int
    seconds: float


class SnapshotRefresher:
    """Makes the tables of one unit in a state's store."""

    def __init__(self, state: OnlineState, tables: OnlineSnapshots, texts: ItemTextReader) -> None:
        self.tables = tables
        self._state = state
        self._texts = texts

    def rebuild(self, moment: int, *, anew: bool = False) -> Rebuilt | None:
        """Make the tables that a request at a moment reads from what the state holds; None where they are there.

        anew: make them again, since clicks from before they were made have come. Raises StoreError where the store
        cannot be read or written.
        """
        state, settings = self._state, self.tables.settings
        edge = int(settings.edges(np.array([moment - state.settings.data.event_delay]))[0])
        if not anew and edge in self.tables.edges():
            return None
        started = time.perf_counter()
        with state.snapshot() as (snapshot, meta):
            counting = state.counting(meta)
            ids, clicked = clicked_before(snapshot, counting, edge, length=settings.user_items)
            items = state.items(snapshot, meta, ids)
        columns = state.settings
        catalog = local_catalog(ids, items, categories=columns.categories, numbers=columns.numbers, vectors={})
        tables = build_tables(clicked, self._texts.vectors(catalog)[:-1], settings)
        self.tables.save(edge, ids, tables)
        return Rebuilt(edge, len(ids), len(clicked), time.perf_counter() - started)
