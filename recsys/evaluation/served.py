"""Served rankings on the clicks that came: the metrics of each version and rung, from the scores that were logged.

Nothing is computed again: the scores are those that ordered the lists. Users click what stands at the top, which
favours whatever ranked. Figures of two versions that were served may be compared; those of an offline evaluation may
not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import Bool, segment_sums
from features.tables.logged_clicks import LabelledLists
from features.tables.logged_rankings import LoggedLists
from recsys.evaluation.report import count, format_interval
from recsys.evaluation.text_table import text_table
from recsys.metrics.bootstrap import Interval, count_clusters, mean_intervals
from recsys.metrics.jsonable import jsonable
from recsys.metrics.ranking import METRICS, list_metrics

CLICKED = "clicked"
"""Name of the share of lists with a click."""
ALL_RUNGS = "all"


@dataclass(frozen=True)
class ServedResult:
    """A version on one rung, or on all. lists, users: that it ranked. tested: lists with a clicked and an unclicked
    item, over which the metrics are means. metrics: by name, with `CLICKED`, which is over all lists."""

    ranker: str
    encoder: str | None
    rung: str
    lists: int
    users: int
    tested: int
    metrics: Mapping[str, Interval]


@dataclass(frozen=True)
class ServedReport:
    """What `recsys evaluate --rankings` found. outside, clicks, elsewhere: as in `LabelledLists`. matched: clicks on
    shown items of the lists."""

    results: tuple[ServedResult, ...]
    outside: int
    clicks: int
    matched: int
    elsewhere: int

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, without NaN."""
        served = [
            {
                "ranker": result.ranker,
                "encoder": result.encoder,
                "rung": result.rung,
                "lists": result.lists,
                "users": result.users,
                "tested": result.tested,
                **jsonable(result.metrics),
            }
            for result in self.results
        ]
        clicks = {"all": self.clicks, "matched": self.matched, "elsewhere": self.elsewhere}
        return {"served": served, "clicks": clicks, "outside": self.outside}

    def lines(self) -> list[str]:
        """The report for a person."""
        rows = [["version", "rung", "lists", "users", "tested", CLICKED, *METRICS]]
        for result in self.results:
            intervals = [format_interval(result.metrics[name]) for name in (CLICKED, *METRICS)]
            counts = [f"{number:,}" for number in (result.lists, result.users, result.tested)]
            rows.append([result.ranker, result.rung, *counts, *intervals])
        notes = []
        if self.outside:
            notes.append(f"{count(self.outside, 'list')} before or after the events left out")
        if self.elsewhere:
            notes.append(f"{count(self.elsewhere, 'click')} on lists that are not in the log")
        return [
            f"Served lists by the clicks that came, {self.matched:,} of {self.clicks:,}. Mean [95% over users]; "
            f"{CLICKED}: share of lists with a click",
            "",
            text_table(rows),
            *notes,
        ]


def measure_served(labelled: LabelledLists, *, resamples: int, seed: int) -> ServedReport:
    """The metrics of every version that ranked a list, over all rungs, and by rung where it answered on several."""
    lists = labelled.lists
    values = _values(lists)
    users = lists.table.user.codes
    results = []
    for ranker, encoder, rung, chosen in _groups(lists):
        intervals = mean_intervals(values[chosen], users[chosen], resamples=resamples, seed=seed)
        results.append(
            ServedResult(
                ranker=ranker,
                encoder=encoder,
                rung=rung,
                lists=int(chosen.sum()),
                users=count_clusters(users[chosen]),
                tested=int((~np.isnan(values[chosen, 1])).sum()),
                metrics=dict(zip((CLICKED, *METRICS), intervals, strict=True)),
            )
        )
    return ServedReport(tuple(results), labelled.outside, labelled.clicks, labelled.matched, labelled.elsewhere)


def _values(lists: LoggedLists) -> np.ndarray:
    """(n, 5): whether a list has a click, and its metrics."""
    table = lists.table
    has_click = segment_sums(table.label > 0, table.offsets) > 0
    return np.column_stack([has_click, list_metrics(lists.score, table.label, table.offsets).columns()])


def _groups(lists: LoggedLists) -> Iterator[tuple[str, str | None, str, Bool]]:
    """Version, rung and mask (n,) of the lists of each group that has any."""
    rankers, encoders, rungs = lists.ranker.decoded(), lists.encoder.decoded(), lists.rung.decoded()
    for ranker in sorted(set(rankers)):
        of_version = rankers == ranker
        encoder = encoders[of_version][0]
        found = sorted(set(rungs[of_version]))
        if len(found) > 1:
            yield ranker, encoder, ALL_RUNGS, of_version
        for rung in found:
            yield ranker, encoder, rung, of_version & (rungs == rung)
