"""The newest lists of a simulated site with clicks redrawn without position bias, and what to compare a model with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import Float64, Int32, Int64
from features.history import clicks_by_user, histories
from features.log import Impressions, Log
from pipelines.simulation.truth import Truth, redraw_clicks
from recsys.config import LexicalConfig as LexicalSettings
from recsys.config import SlicesConfig
from recsys.ranker.tfidf import fit_lexical, lexical_column
from recsys.training.time_split import slice_impressions

_HISTORY = 50


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
    rows = fit_lexical(texts, LexicalSettings()).transform(texts)
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
