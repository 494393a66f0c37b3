"""The part of a version's ranker without text that reads an online state: it computes no column of texts at all."""

from __future__ import annotations

import numpy as np

from features.matrix.columns import FeaturePlan
from features.online.reader import OnlineReader
from features.online.state import StateSnapshot
from recsys.collaborative.online import OnlineSnapshots
from recsys.encoder.scoring import untrained_head
from recsys.online.model import OnlineMatrix, read_tables
from recsys.ranker.column_docs import column_groups
from recsys.ranker.matrix import ItemRepresentations, candidate_matrix
from recsys.ranker.model import RankingModel
from recsys.ranker.ranker import Ranker
from recsys.ranker.tfidf import TermRows

_NO_HEAD = untrained_head(0)


class BehaviourModel:
    """ranker: of the version `ranking_model`, which has one. column_groups: of its columns. snapshots: that the version
    reads. Safe for threads."""

    def __init__(self, ranker: Ranker, ranking_model: RankingModel, snapshots: OnlineSnapshots | None) -> None:
        self.ranker = ranker
        self.column_groups = column_groups(ranking_model.settings.fallback_features(), ranker.columns)
        self._features = FeaturePlan(ranking_model.settings.fallback_features())
        reads_tables = snapshots is not None and not set(ranker.columns).isdisjoint(snapshots.settings.columns)
        self._snapshots = snapshots if reads_tables else None

    def matrix(self, view: StateSnapshot, reader: OnlineReader) -> OnlineMatrix:
        """The columns of a reader's request; has_text says of no item that it has one."""
        n_items = len(reader.catalog) + 1
        no_terms = np.zeros(n_items, np.int64)
        nothing = ItemRepresentations(
            np.zeros((n_items, 0), np.float32),
            TermRows(no_terms, no_terms, np.zeros(0, np.int32), np.zeros(0), 0),
        )
        tables = read_tables(self._snapshots, view, reader, None)
        names, values = candidate_matrix(
            self._features, _NO_HEAD, reader, nothing, None, tables, read=self.ranker.columns
        )
        return OnlineMatrix(names, values, np.zeros(n_items, np.bool_), nothing.vectors, tables)
