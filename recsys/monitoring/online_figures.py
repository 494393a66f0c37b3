"""Click rate and nDCG@10 of what was served, by version and day, against what the version's evaluation promised.

People click what stands at the top, so figures of served lists flatter whatever ranked. A served version that is
clearly below its evaluation in spite of that is worth an alarm; one above it proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import Bool, Float64, segment_sums
from features.tables.logged_rankings import LoggedLists
from recsys.evaluation.report import LIFT_METRIC, format_interval
from recsys.metrics.bootstrap import Interval, count_clusters, mean_intervals
from recsys.metrics.jsonable import jsonable
from recsys.metrics.ranking import list_metrics
from recsys.settings.monitor import MonitorConfig

ALL_DAYS = "all days"


@dataclass(frozen=True)
class Promise:
    """What a version's evaluation promised. clicked: share of lists with a click, NaN where it is not recorded."""

    clicked: Interval
    ndcg_at_10: Interval


@dataclass(frozen=True)
class OnlineFigures:
    """A version on one day (UTC), or on all. promise: None where none is recorded. judged: whether it may raise an
    alarm: all days together do, and the newest."""

    version: str
    day: str
    lists: int
    users: int
    clicked: Interval
    ndcg_at_10: Interval
    promise: Promise | None
    judged: bool

    def alarm(self, settings: MonitorConfig) -> str:
        """What is wrong, "" for nothing: an interval's upper end is below what was promised by more than allowed."""
        promise, enough = self.promise, self.lists >= settings.min_lists and self.users >= settings.min_users
        if promise is None or not self.judged or not enough:
            return ""
        judged = (
            ("click rate", self.clicked, promise.clicked, promise.clicked.low * (1 - settings.click_drop)),
            ("nDCG@10", self.ndcg_at_10, promise.ndcg_at_10, promise.ndcg_at_10.low - settings.ndcg_drop),
        )
        found = [
            f"{name} {format_interval(value)}, promised {format_interval(promised)}"
            for name, value, promised, least in judged
            if value.high < least
        ]
        return f"{self.version} on {self.day}: {' and '.join(found)}" if found else ""

    def as_dict(self, settings: MonitorConfig) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": self.version,
            "day": self.day,
            "lists": self.lists,
            "users": self.users,
            "clicked": jsonable(self.clicked),
            LIFT_METRIC: jsonable(self.ndcg_at_10),
            "promised": None if self.promise is None else jsonable(self.promise),
            "alarm": bool(self.alarm(settings)),
        }


def online_figures(
    lists: LoggedLists, promises: Mapping[str, Promise], *, resamples: int, seed: int
) -> list[OnlineFigures]:
    """Every version on all its days and on each. lists: with their clicks. promises: by version."""
    table = lists.table
    has_click = segment_sums(table.label > 0, table.offsets) > 0
    ndcg = list_metrics(lists.score, table.label, table.offsets).ndcg_at_10
    values = np.column_stack([has_click, ndcg]).astype(np.float64)
    users, rankers = table.user.codes, lists.ranker.decoded()
    days = np.datetime_as_string(table.time.astype("datetime64[us]"), unit="D")
    found = []

    def add(version: str, day: str, chosen: Bool, *, judged: bool) -> None:
        clicked, measured = _intervals(values[chosen], users[chosen], resamples, seed)
        n_users = count_clusters(users[chosen])
        promise = promises.get(version)
        found.append(OnlineFigures(version, day, int(chosen.sum()), n_users, clicked, measured, promise, judged))

    for version in sorted({str(name) for name in rankers if name}):
        of_version = np.asarray(rankers == version)
        of_days = sorted(set(days[of_version]))
        add(version, ALL_DAYS, of_version, judged=True)
        for day in of_days:
            add(version, str(day), of_version & (days == day), judged=day == of_days[-1])
    return found


def _intervals(values: Float64, users: np.ndarray, resamples: int, seed: int) -> tuple[Interval, Interval]:
    clicked, ndcg = mean_intervals(values, users, resamples=resamples, seed=seed)
    return clicked, ndcg
