"""What simple orders score by construction on sampled impressions: their AUC, added up batch by batch.

0.5 is chance. An order far from it says how the negatives were drawn, and nothing of what users want.
"""

from __future__ import annotations

import numpy as np

from features.arrays import NO_TIME, Bool, Float64, Int32, Int64
from features.log import Catalog, Events
from features.tables.negative_sampling import SampledImpressions

BASELINES = {
    "popularity": "clicks on the item before the list",
    "recency": "time of the last click on it",
    "freshness": "its published_at, a missing one between the others",
    "touched_before": "whether the user has an earlier event on it",
}
"""Name to what orders the candidates, the most or the latest first."""


class ListBaselines:
    """The mean AUC over lists of each baseline."""

    def __init__(self, events: Events, catalog: Catalog) -> None:
        self._clicks = _ClicksBefore(events)
        self._published_at = catalog.published_at
        self._has_dates = bool((catalog.published_at != NO_TIME).any())
        self._n = 0
        self._sums = dict.fromkeys(BASELINES, 0.0)

    def add(self, batch: SampledImpressions) -> None:
        """Add impressions, each with a clicked item and another one."""
        count, last = self._clicks.read(batch.item, batch.time[:, None])
        published = self._published_at[batch.item]
        freshness = np.where(published == NO_TIME, np.nan, published.astype(np.float64))
        scores = {"popularity": count, "recency": last, "freshness": freshness, "touched_before": batch.touched}
        self._n += len(batch.user)
        for name, score in scores.items():
            self._sums[name] += float(list_auc(score.astype(np.float64), batch.item >= 0, batch.clicked).sum())

    def aucs(self) -> dict[str, float]:
        """Mean AUC by baseline; without freshness where no item has a date."""
        return {name: total / self._n for name, total in self._sums.items() if name != "freshness" or self._has_dates}


def list_auc(score: Float64, there: Bool, clicked: Int64) -> Float64:
    """(n,) AUC of lists with one clicked item: share of the others that it is above, half of those that it ties or that
    cannot be compared. score: (n, size), NaN for what has none. there: (n, size) False beyond a list's end. clicked:
    (n,) its column."""
    of_clicked = np.take_along_axis(score, clicked[:, None], axis=1)
    won = (of_clicked > score).astype(np.float64)
    won[~((of_clicked > score) | (of_clicked < score))] = 0.5
    return np.asarray(((won * there).sum(axis=1) - 0.5) / (there.sum(axis=1) - 1))


class _ClicksBefore:
    """Clicks sorted by item and time."""

    def __init__(self, events: Events) -> None:
        clicks = np.flatnonzero(events.positive)
        clicks = clicks[np.lexsort((events.time[clicks], events.item[clicks]))]
        self._time, self._times = events.time[clicks], np.unique(events.time[clicks])
        rank = np.searchsorted(self._times, self._time)
        self._keys = events.item[clicks].astype(np.int64) * (len(self._times) + 1) + rank

    def read(self, item: Int32, time: Int64) -> tuple[Int64, Int64]:
        """Clicks on each item before a time, and the time of the last of them, NO_TIME for none."""
        key = item.astype(np.int64) * (len(self._times) + 1)
        end = np.searchsorted(self._keys, key + np.searchsorted(self._times, time))
        count = end - np.searchsorted(self._keys, key)
        return count, np.where(count > 0, self._time[np.maximum(end - 1, 0)], NO_TIME)
