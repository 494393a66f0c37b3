"""Units of time in microseconds, and the text of a time in messages, reports and manifests."""

from __future__ import annotations

import numpy as np

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def format_time(microseconds: int) -> str:
    """A time as ISO 8601 in UTC."""
    return f"{np.datetime64(microseconds, 'us')}Z"
