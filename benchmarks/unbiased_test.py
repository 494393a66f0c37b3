"""The newest lists of a simulated site with clicks redrawn without position bias, and what to compare a model with.

Reads what `pipelines.simulation.truth` writes beside the tables of the site.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from features.arrays import Float64, Int8, Int32, Int64, Strings
from features.errors import InputError
from features.history import clicks_by_user, histories
from features.log import Impressions, Log
from recsys.config import LexicalConfig, SlicesConfig
from recsys.ranker.tfidf import fit_lexical, lexical_column
from recsys.training.time_split import slice_impressions

_HISTORY = 50


@dataclass(frozen=True)
class Truth:
    """What is true of every shown candidate, in the order of impressions.parquet.

    impression_id, item_id: (n_rows,) strings. interest: (n_rows,) P(click | looked at). examination: (n_rows,)
    P(looked at). The logged click had the probability interest x examination.
    """

    impression_id: Strings
    item_id: Strings
    interest: Float64
    examination: Float64

    def __len__(self) -> int:
        return len(self.interest)

    def rows_of(self, impression_id: Strings, item_id: Strings) -> Int64:
        """(n,) rows of pairs of ids, -1 for what was never shown: to line the truth up with any other table."""
        mine = pd.MultiIndex.from_arrays([self.impression_id, self.item_id])
        return mine.get_indexer(pd.MultiIndex.from_arrays([impression_id, item_id])).astype(np.int64)


def read_truth(folder: Path) -> Truth:
    """The truth of the data set in `folder`; raises InputError where it is no simulated one."""
    path = folder / "truth" / "impressions.parquet"
    if not path.is_file():
        raise InputError(f"{str(path)!r}: expected the truth of a simulated data set, found none; simulate one first")
    table = pq.read_table(path)
    ids = [table[name].combine_chunks().to_numpy(zero_copy_only=False) for name in ("impression_id", "item_id")]
    return Truth(ids[0], ids[1], table["interest"].to_numpy(), table["examination"].to_numpy())


def redraw_clicks(truth: Truth, seed: int) -> Int8:
    """(n_rows,) clicks as they would be if readers looked at every position: labels without position bias."""
    return (np.random.default_rng(seed).random(len(truth)) < truth.interest).astype(np.int8)


@dataclass(frozen=True)
class UnbiasedTest:
    """The test slice as if readers had looked at every position.

    lists: (n,) positions in the log's impressions. impressions: these, with redrawn labels. truth, popularity, lexical:
    (n_rows,) scores: the true interest, the clicks before t, and the TF-IDF cosine with the mean of the history.
    user_clicks_before: (n,) clicks of each list's user before t.
    """

    lists: Int64
    impressions: Impressions
    truth: Float64
    popularity: Float64
    lexical: Float64
    user_clicks_before: Int64


def unbiased_test(log: Log, truth: Truth, *, seed: int, slices: SlicesConfig | None = None) -> UnbiasedTest:
    """The newest share of a simulated log; the texts' vocabulary is of all items, as a search engine's would be.

    Raises ValueError where the log holds candidates that the truth does not.
    """
    shown = log.impressions
    lists = slice_impressions(shown, slices or SlicesConfig()).test
    part = shown.take(lists)
    requests = part.requests
    row = truth.rows_of(np.repeat(part.ids, requests.lengths()), log.catalog.ids[requests.item])
    if (row < 0).any():
        raise ValueError(f"truth: expected every candidate of the log, {int((row < 0).sum())} are not in it")
    label = redraw_clicks(truth, seed)[row]
    clicks = clicks_by_user(log.events, len(log.users))
    texts = [f"{title}. {text}" for title, text in zip(log.catalog.title, log.catalog.description, strict=True)]
    rows = fit_lexical(texts, LexicalConfig()).transform(texts)
    lexical = lexical_column(rows, requests, histories(clicks, requests, length=_HISTORY))
    known = log.events.positive & (log.events.user >= 0)
    own = clicks_before(log.events.user[known], log.events.time[known], requests.user, requests.time)
    positive = log.events.positive
    popularity = clicks_before(log.events.item[positive], log.events.time[positive], requests.item, requests.row_time())
    unbiased = Impressions(requests, part.ids, part.sampled, label, part.position)
    return UnbiasedTest(
        lists, unbiased, truth.interest[row], popularity.astype(np.float64), lexical.astype(np.float64), own
    )


def clicks_before(key: Int32, time: Int64, asked_key: Int32, asked_time: Int64) -> Int64:
    """(n,) how many clicks, given by key (a code of users or items) and time, have each key and an earlier time."""
    moments = np.unique(np.concatenate([time, asked_time]))
    width = len(moments) + 1
    clicks = np.sort(key.astype(np.int64) * width + np.searchsorted(moments, time))
    start = asked_key.astype(np.int64) * width
    return np.asarray(
        np.searchsorted(clicks, start + np.searchsorted(moments, asked_time)) - np.searchsorted(clicks, start)
    )
