"""The look-ups that features need, done with `pandas.merge_asof` and nothing else: the floor for any engine on pandas.

A look-up is what is counted, by which key, before which moment. A read of all time, a latest and a first time ask about
the moment of the request; a window asks about its own beginning too. Each distinct look-up is made once, whichever
features share it, with one answer for each request where the key is the catalogue or the user, and else for each
candidate row, or for each of its values of a category.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.spent import Spent, time_of
from features.clock import window_edge
from features.definitions.aggregates import GLOBAL, USER, Count, Key, event_table_of
from features.definitions.event_measures import Feature
from features.log import Log, Requests
from features.offline.sorted_events import lookup_keys, select_events


@dataclass(frozen=True, order=True)
class Lookup:
    """How many of `what` stand under a key before the request, or before its window of so many microseconds."""

    event_type: str
    key: Key
    window: int = 0


def lookups_of(features: Sequence[Feature]) -> list[Lookup]:
    """Every distinct look-up of the features."""
    found = set()
    for feature in features:
        for read in feature.measure.reads():
            found.add(Lookup(event_table_of(read.event_type), read.key))
            if isinstance(read, Count) and read.window is not None:
                found.add(Lookup(event_table_of(read.event_type), read.key, read.window))
    return sorted(found)


def time_of_merges(lookups: Sequence[Lookup], log: Log, requests: Requests) -> Spent:
    """Time within `merge_asof` alone: frames with their keys and times are made beforehand, off the clock."""
    seconds = Spent(0.0, 0.0)
    for lookup in lookups:
        left, right = _asked(lookup, log, requests), _happened(lookup, log)
        by = None if lookup.key == GLOBAL else "key"
        merge = partial(pd.merge_asof, left, right, on="time", by=by, allow_exact_matches=False)
        one = time_of(merge)
        seconds = Spent(seconds.wall + one.wall, seconds.cpu + one.cpu)
    return seconds


def _asked(lookup: Lookup, log: Log, requests: Requests) -> pd.DataFrame:
    one_a_request = lookup.key in (GLOBAL, USER)
    moments = requests.time if one_a_request else requests.row_time()
    if lookup.window:
        moments = window_edge(moments, lookup.window)
    user = requests.user if one_a_request else requests.row_user()
    return _frame(lookup, log, user, requests.user if one_a_request else requests.item, moments)


def _happened(lookup: Lookup, log: Log) -> pd.DataFrame:
    found = select_events(log, lookup.event_type, dated=True)
    frame = _frame(lookup, log, found.user, found.item, found.time)
    return frame.assign(place=np.arange(len(frame), dtype=np.int32))


def _frame(lookup: Lookup, log: Log, user: np.ndarray, item: np.ndarray, times: np.ndarray) -> pd.DataFrame:
    asked = lookup_keys(user, item, lookup.key, log)
    columns = {"time": times if asked.owner is None else times[asked.owner]}
    return pd.DataFrame(columns if lookup.key == GLOBAL else {**columns, "key": asked.as_integers()[0]})
