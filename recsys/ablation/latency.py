"""How long each line of the ledger needs to rank 100 candidates, with the columns that it reads and no others.

Measured in process as `recsys promote` does, texts' vectors and collaborative tables at hand. Where a ranker reads no
column of a text model, that model is not asked: the columns are those of `unit.candidate_matrix`, without its blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32
from features.definitions.event_measures import Feature
from features.log import Requests
from features.matrix.columns import feature_matrix
from features.matrix.within_list import percentile_and_zscore
from features.offline.reader import OfflineReader
from recsys.collaborative.column_names import COLLABORATIVE_COLUMNS
from recsys.collaborative.columns import TableSource, collaborative_matrix
from recsys.encoder.snapshots import TextModel
from recsys.evaluation.latency import Rank, latency_requests, median_milliseconds
from recsys.ranker.lightgbm_ranker import Ranker
from recsys.ranker.matrix import ItemTexts, candidate_matrix, encode_queries
from recsys.ranker.tfidf import lexical_column
from recsys.training.context import TrainingContext

_WITHOUT_AUDIENCE = len(COLLABORATIVE_COLUMNS) - 1


@dataclass(frozen=True)
class TimedVariant:
    """A ranker and all that its columns are made of. features: those that it reads. tables: None where it reads none.
    reads_terms, reads_vectors: whether it reads TF-IDF and the encoder."""

    ranker: Ranker
    features: tuple[Feature, ...]
    model: TextModel
    texts: ItemTexts
    tables: TableSource | None
    reads_terms: bool
    reads_vectors: bool

    @property
    def n_trees(self) -> int:
        """Of the ranker."""
        return int(self.ranker.booster.num_trees())

    def matrix(self, reader: OfflineReader) -> Float32:
        """The columns of the ranker for a reader's candidates, (n_rows, n_columns), to the bit as in training."""
        if self.reads_vectors:
            queries = encode_queries(self.model, reader.requests.query)
            return candidate_matrix(self.features, self.model.weights, reader, self.texts, queries, self.tables)[1]
        blocks = [feature_matrix(self.features, reader)[1]]
        if self.reads_terms:
            lexical = lexical_column(self.texts.terms, reader.requests, reader.histories)
            blocks += [lexical, *(place[0] for place in percentile_and_zscore(lexical[None], reader.requests.offsets))]
        if self.tables is not None:
            blocks.append(collaborative_matrix(self.tables, reader, None))
            blocks[-1] = blocks[-1][:, :_WITHOUT_AUDIENCE]
        return np.column_stack(blocks)


def milliseconds_of(lines: Sequence[TimedVariant], chain: TrainingContext) -> tuple[float, ...]:
    """Median milliseconds of each line for one list of 100 candidates, taken in turn on the newest test lists."""
    requests = latency_requests(chain.usable(chain.sliced.test).requests)
    return median_milliseconds([(_ranking(line, chain), requests) for line in lines])


def _ranking(line: TimedVariant, chain: TrainingContext) -> Rank:
    threads = chain.config.serving.threads

    def rank(requests: Requests) -> object:
        return line.ranker.scores(line.matrix(chain.index.reader(requests)), threads=threads)

    return rank
