"""Collaborative tables made of a log, whenever a request asks for them: the offline side."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np

from features.arrays import CsrLists, Float32, Int64
from features.offline.reader import LogIndex
from recsys.collaborative.snapshot import CollaborativeSnapshot, TableSettings, build_tables

_KEPT = 4


class OfflineSnapshots:
    """`TableSource` over a log. text_vectors: (n_items + 1, d), as `ItemTexts.vectors`. The latest few are kept."""

    def __init__(self, index: LogIndex, text_vectors: Float32, settings: TableSettings) -> None:
        self._index = index
        self._vectors = text_vectors
        self._settings = settings
        self._made: OrderedDict[int, CollaborativeSnapshot] = OrderedDict()
        self._making = Lock()

    def edges(self, moments: Int64) -> Int64:
        """When the tables of each moment were made, (n,)."""
        return self._settings.edges(moments)

    def tables(self, edge: int) -> CollaborativeSnapshot:
        """The tables of the clicks strictly before an edge, by the log's item codes."""
        with self._making:
            if edge not in self._made:
                self._made[edge] = self._make(edge)
                if len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(edge)
            return self._made[edge]

    def _make(self, edge: int) -> CollaborativeSnapshot:
        clicked = self._index.clicked_before(edge, length=self._settings.user_items)
        items, codes = np.unique(clicked.codes, return_inverse=True)
        compact = build_tables(CsrLists(clicked.offsets, codes.astype(np.int32)), self._vectors[items], self._settings)
        return compact.to_global_codes(items.astype(np.int32), len(self._vectors))
