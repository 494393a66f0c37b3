"""Collaborative snapshots of a log, built when a request first asks for them: the offline side."""

from __future__ import annotations

from threading import Lock

import numpy as np

from features.arrays import CsrLists, Float32, Int64
from features.offline.reader import LogIndex
from recsys.collaborative.snapshot import CollaborativeSnapshot, TableSettings, build_tables

_KEPT = 4


class OfflineSnapshots:
    """`TableSource` over a log. text_vectors: (n_items + 1, d), as `ItemRepresentations.vectors`. Keeps the last 4."""

    def __init__(self, index: LogIndex, text_vectors: Float32, settings: TableSettings) -> None:
        self._index = index
        self._vectors = text_vectors
        self._settings = settings
        self._built: dict[int, CollaborativeSnapshot] = {}
        self._building = Lock()

    def build_times(self, times: Int64) -> Int64:
        """When the snapshot of each time was built, (n,)."""
        return self._settings.build_times(times)

    def snapshot(self, as_of: int) -> CollaborativeSnapshot:
        """The snapshot of the clicks strictly before a build time, by the log's item codes."""
        with self._building:
            snapshot = self._built.pop(as_of, None) or self._build(as_of)
            self._built[as_of] = snapshot  # a dict keeps its keys in order: the first is the one read longest ago
            if len(self._built) > _KEPT:
                del self._built[next(iter(self._built))]
            return snapshot

    def _build(self, as_of: int) -> CollaborativeSnapshot:
        clicked = self._index.clicked_before(as_of, length=self._settings.user_items)
        items, codes = np.unique(clicked.codes, return_inverse=True)
        compact = build_tables(CsrLists(clicked.offsets, codes.astype(np.int32)), self._vectors[items], self._settings)
        return compact.to_global_codes(items.astype(np.int32), len(self._vectors))
