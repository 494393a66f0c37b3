"""The log of a data directory whose clicks are permuted within their lists: what is left can teach nothing.

Labels are shuffled among the candidates of each list in the tables as they were read, and the event of a clicked row
moves to the item that the click moved to; then the log is joined anew. Everything computed from such a log at time t
says nothing about the labels at t, unless it reads them.

An event of two clicked rows (of two lists that both claim it) moves with the first of them; the other one becomes a
click at its own list's time, as does a clicked row that never had an event. Events that belong to no list stay.
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
    """The same tables with clicks permuted within lists, and matching events moved with them."""
    source = shuffle_within_lists(tables.lists.offsets, seed=seed)
    label = tables.lists.label[source]
    target = np.empty_like(source)
    target[source] = np.arange(len(source))
    clicked = np.flatnonzero(tables.lists.label > 0)
    matched = np.flatnonzero(joined.matches.event >= 0)
    event, first = np.unique(joined.matches.event[matched], return_index=True)
    item = joined.events.item.copy()
    item[event] = joined.item[target[clicked[matched[first]]]]
    events = replace(tables.events, item=DictionaryColumn(joined.item_ids, item))
    return replace(tables, events=events, lists=replace(tables.lists, label=label))


def shuffle_within_lists(offsets: Int64, *, seed: int) -> Int64:
    """A permutation of rows that keeps each list's rows in the list: row i takes what stood in row `result[i]`.

    offsets: (n + 1,); all orders of a list are equally likely.
    """
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    draws = np.random.default_rng(seed).random(len(owner))
    return np.lexsort((draws, owner)).astype(np.int64)
