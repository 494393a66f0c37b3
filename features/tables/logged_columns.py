"""The columns of logged rankings: what a server writes and `features.tables.logged_rankings` reads.

A row is one candidate of one answer. The rows of an answer stand together, in its order.
"""

from __future__ import annotations

import pyarrow as pa

FEATURE = "feature_"
"""Begins the names of the columns that the ranker read; null where a ranking did not read the column, NaN where its
value was missing."""
PATTERN = "rankings-*.parquet"
"""Names of the files."""

LOGGED = pa.schema(
    [
        ("impression_id", pa.string()),
        ("user_id", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("query", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int32()),
        ("score", pa.float64()),
        ("shown", pa.bool_()),
        ("described", pa.bool_()),
        ("history_given", pa.bool_()),
        ("rung", pa.string()),
        ("ranker", pa.string()),
        ("encoder", pa.string()),
        ("propensity", pa.float64()),
    ]
)
"""Beside the features. impression_id: the request_id of the answer. timestamp: that it was ranked for. position: from
1. shown: False for what `top_k` left out. described: the item came with columns. history_given: the history came with
the request. ranker, encoder: NAME/VERSION. propensity: probability with which this ranker answered this user."""
