"""The log of a data directory whose clicks are permuted within their impressions, so that a model can learn nothing.

Labels are shuffled among the candidates of each impression in the tables that were read. The event of a clicked row
moves to the item that receives the click, and the log is joined again. A value computed from such a log at time t is
independent of the labels at t, unless it reads them.

An event that matches clicked rows of two impressions moves with the first; the second row becomes a click at its
impression's time, as does a clicked row without an event. Events that match no impression stay.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from features.arrays import Int64
from features.log import Log
from features.tables.load import EncodedTables, InputTables, ReadOptions, build_log, join, read_tables
from features.tables.rejects import Rejects
from features.tables.string_codes import DictionaryColumn


def permuted_log(folder: Path, options: ReadOptions, *, seed: int) -> Log:
    """The permuted log of a data directory. Raises InputError where its tables cannot be used."""
    with Rejects(None) as rejects:
        tables = read_tables(folder, options, rejects, impressions_required=True)
    tables = permuted(tables, join(tables, options), seed=seed)
    return build_log(tables, join(tables, options))[0]


def permuted(tables: InputTables, joined: EncodedTables, *, seed: int) -> InputTables:
    """The same tables with clicks permuted within impressions, and matching events moved with them."""
    source = shuffle_within_impressions(tables.impressions.offsets, seed=seed)
    label = tables.impressions.label[source]
    target = np.empty_like(source)
    target[source] = np.arange(len(source))
    clicked = np.flatnonzero(tables.impressions.label > 0)
    matched = np.flatnonzero(joined.matches.event >= 0)
    event, first = np.unique(joined.matches.event[matched], return_index=True)
    item = joined.events.item.copy()
    item[event] = joined.item[target[clicked[matched[first]]]]
    events = replace(tables.events, item=DictionaryColumn(joined.item_ids, item))
    return replace(tables, events=events, impressions=replace(tables.impressions, label=label))


def shuffle_within_impressions(offsets: Int64, *, seed: int) -> Int64:
    """A permutation of rows within each impression: row i takes the values of row `result[i]`.

    offsets: (n + 1,). All orders of an impression's rows are equally likely.
    """
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    draws = np.random.default_rng(seed).random(len(owner))
    return np.lexsort((draws, owner)).astype(np.int64)
