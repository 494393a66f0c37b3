"""The values of features for requests over a log, from the chunks that the ranker's matrix is made of."""

from collections.abc import Sequence

import numpy as np

from features.arrays import Float32
from features.definitions.builtin import required_aggregates
from features.definitions.event_measures import Feature
from features.log import Requests
from features.matrix.columns import feature_matrix
from features.offline.reader import CHUNK_ROWS, LogIndex


def offline_values(
    features: Sequence[Feature], index: LogIndex, requests: Requests, chunk_rows: int = CHUNK_ROWS
) -> Float32:
    """`feature_matrix` of all chunks, (n_rows, n_columns)."""
    chunks = index.chunks(requests, required_aggregates(features), chunk_rows=chunk_rows)
    return np.concatenate([feature_matrix(features, reader)[1] for _, reader in chunks])
