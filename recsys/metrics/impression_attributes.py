"""Attributes of each impression beside its scores: slices and the figures beyond accuracy are made of them.

Reads a reader of the lists' past (`features.definitions.aggregates.FeatureReader`), so that every value is of before
the list's time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.arrays import Float64, Int64, Strings
from features.definitions.aggregates import FeatureReader
from features.log import Categorical, Impressions

CATEGORY = "category"
"""The item column that categories are read from."""


@dataclass(frozen=True)
class ImpressionAttributes:
    """Attributes of n impressions.

    history_length: (n,) distinct items in the user's history before the list, at most as many as the encoder reads.
    hour: (n,) of the day, 0 to 23, in the data's timezone. category: (n,) the values of the clicked items, distinct,
    sorted and joined by `|` as in the input; "" where no clicked item has one; None where items have no such column.
    position: (n,) shown position of the first clicked item from 1, NaN where none was logged or the list is made up.
    """

    history_length: Int64
    hour: Int64
    category: Strings | None
    position: Float64

    def columns(self) -> dict[str, Any]:
        """The attributes that are known, by name."""
        return {name: values for name, values in vars(self).items() if values is not None}


def impression_attributes(reader: FeatureReader, impressions: Impressions) -> ImpressionAttributes:
    """The attributes of `impressions`, whose requests are the reader's."""
    categories = reader.catalog.categories.get(CATEGORY)
    return ImpressionAttributes(
        history_length=reader.histories.items.lengths(),
        hour=hours(impressions.requests.time, reader.timezone),
        category=None if categories is None else _clicked_values(impressions, categories),
        position=_first_position(impressions),
    )


def hours(time: Int64, timezone: str) -> Int64:
    """Hours of the day, 0 to 23, of times in microseconds since the epoch."""
    local = pd.to_datetime(time, unit="us", utc=True).tz_convert(timezone)
    return local.hour.to_numpy(np.int64)


def _clicked_values(impressions: Impressions, categories: Categorical) -> Strings:
    requests = impressions.requests
    rows = np.flatnonzero(impressions.label > 0)
    values = categories.codes.take(requests.item[rows])
    owner = np.repeat(requests.request_of_row()[rows].astype(np.int64), values.lengths())
    width = len(categories.values) + 1
    pairs = np.unique(owner * width + values.codes)
    joined = np.full(len(requests), "", object)
    if len(pairs):
        positions, starts = np.unique(pairs // width, return_index=True)
        names = np.array(categories.values, object)[pairs % width]
        joined[positions] = ["|".join(group) for group in np.split(names, starts[1:])]
    return joined


def _first_position(impressions: Impressions) -> Float64:
    requests = impressions.requests
    first = np.full(len(requests), np.inf)
    has_position = (impressions.label > 0) & (impressions.position > 0)
    np.minimum.at(first, requests.request_of_row()[has_position], impressions.position[has_position])
    return np.where(np.isinf(first) | impressions.sampled, np.nan, first)
