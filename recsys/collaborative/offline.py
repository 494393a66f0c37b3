"""Collaborative snapshots of a log, built on first use: the offline side."""

from __future__ import annotations

from functools import lru_cache, partial
from threading import Lock

import numpy as np

from features.arrays import CsrLists, Float32, Int64
from features.offline.reader import LogIndex
from recsys.collaborative.snapshot import CollaborativeSnapshot, TableSettings, build_tables

_CACHED = 4


class OfflineSnapshots:
    """`TableSource` over a log. text_vectors: (n_items + 1, d), as `ItemRepresentations.vectors`. Caches the snapshots
    that were read last.
    """

    def __init__(self, index: LogIndex, text_vectors: Float32, settings: TableSettings) -> None:
        self.settings = settings
        self._build = lru_cache(maxsize=_CACHED)(partial(_build_snapshot, index, text_vectors, settings))
        self._building = Lock()

    def build_times(self, times: Int64) -> Int64:
        """When the snapshot of each time was built, (n,)."""
        return self.settings.build_times(times)

    def snapshot(self, as_of: int) -> CollaborativeSnapshot:
        """The snapshot of the clicks strictly before a build time, by the log's item codes."""
        with self._building:
            return self._build(as_of)


def _build_snapshot(
    index: LogIndex, text_vectors: Float32, settings: TableSettings, as_of: int
) -> CollaborativeSnapshot:
    clicked = index.clicked_before(as_of, length=settings.user_items)
    items, codes = np.unique(clicked.codes, return_inverse=True)
    compact = build_tables(CsrLists(clicked.offsets, codes.astype(np.int32)), text_vectors[items], settings)
    return compact.to_global_codes(items.astype(np.int32), len(text_vectors))
