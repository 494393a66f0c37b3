"""The report of an evaluation: as JSON, as text for a terminal, and the metrics of every list as a table.

A value object that `recsys.evaluation.evaluate` fills; printing, files, plots and MLflow read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from features.arrays import Bool, Strings
from features.log import Impressions
from recsys.evaluation.text_table import text_table
from recsys.metrics.beyond_accuracy import DEPTH, BeyondAccuracy
from recsys.metrics.bootstrap import Interval
from recsys.metrics.impression_attributes import ImpressionAttributes
from recsys.metrics.jsonable import jsonable
from recsys.metrics.ranking import METRICS, ListMetrics

LIFT_METRIC = "ndcg_at_10"
"""The metric that methods are compared on."""


@dataclass(frozen=True)
class Slice:
    """Metrics of every method on the same lists. methods: method to metric to interval. n_lists, n_users: how many
    lists that have metrics, and how many users saw them; with 0 every interval is NaN."""

    methods: Mapping[str, Mapping[str, Interval]]
    n_lists: int
    n_users: int


@dataclass(frozen=True)
class Evaluation:
    """The result for n lists.

    test, cold_items, cold_users: methods on all lists, on lists whose every clicked item is cold, ranking their cold
    candidates alone, and on lists of cold users. lifts: name of a comparison to the paired difference on ndcg_at_10.
    metrics: the metrics of every list by method, (n,) each. cold_metrics: the same with cold candidates alone, NaN for
    lists outside that slice. impressions, users: what was evaluated. cold_user: (n,) True for lists of cold users.
    cold_item: (n,) True for lists whose every clicked item is cold. attributes: what else slices them. beyond:
    coverage, novelty and diversity by method; empty where they were not computed.
    """

    test: Slice
    lifts: Mapping[str, Interval]
    cold_items: Slice
    cold_users: Slice
    metrics: Mapping[str, ListMetrics]
    cold_metrics: Mapping[str, ListMetrics]
    impressions: Impressions
    users: Strings
    cold_user: Bool
    cold_item: Bool
    attributes: ImpressionAttributes | None = None
    beyond: Mapping[str, BeyondAccuracy] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, without NaN: test, lift, cold_items, cold_users, beyond, and how many lists and users it
        saw."""
        return {
            "test": jsonable(self.test.methods),
            "lift": jsonable(self.lifts),
            "cold_items": {**jsonable(self.cold_items.methods), "n": self.cold_items.n_lists},
            "cold_users": {**jsonable(self.cold_users.methods), "n": self.cold_users.n_lists},
            "beyond": jsonable(self.beyond),
            "tested": {"lists": self.test.n_lists, "users": self.test.n_users},
        }

    def table(self) -> str:
        """The report as plain text of at most 100 columns."""
        sections = [_methods_text(self.test), _lifts_text(self.lifts), _cold_text(self)]
        if self.beyond:
            sections.append(_beyond_text(self.beyond))
        return "\n\n".join(sections)

    def per_impression_frame(self) -> pd.DataFrame:
        """Metrics of every list, one row each, for one Parquet file.

        Columns: impression_id, user_id (null if unknown), time (UTC), candidates and clicked (counts), cold_user,
        cold_item (every clicked item is cold), history_length, hour, category and position as in `ImpressionAttributes`
        where they are known, then METHOD_METRIC and, with cold candidates alone, cold_items_METHOD_METRIC; NaN where a
        list has no metric.
        """
        requests = self.impressions.requests
        has_user = requests.user >= 0
        user = np.full(len(requests), None, object)
        user[has_user] = self.users[requests.user[has_user]]
        clicked = np.bincount(requests.request_of_row(), weights=self.impressions.label > 0, minlength=len(requests))
        columns: dict[str, Any] = {
            "impression_id": self.impressions.ids,
            "user_id": user,
            "time": pd.to_datetime(requests.time, unit="us", utc=True),
            "candidates": requests.lengths(),
            "clicked": clicked.astype(np.int64),
            "cold_user": self.cold_user,
            "cold_item": self.cold_item,
            **({} if self.attributes is None else self.attributes.columns()),
        }
        for prefix, metrics in (("", self.metrics), ("cold_items_", self.cold_metrics)):
            for method, values in metrics.items():
                for metric in METRICS:
                    columns[f"{prefix}{method}_{metric}"] = getattr(values, metric)
        return pd.DataFrame(columns)


def format_interval(interval: Interval, *, signed: bool = False) -> str:
    """Like `.493 [.470, .520]`; the mean alone where one user has all lists, a dash where there are none."""
    if np.isnan(interval.mean):
        return "-"
    mean = _number(interval.mean, signed=signed)
    if np.isnan(interval.low):
        return mean
    return f"{mean} [{_number(interval.low, signed=signed)}, {_number(interval.high, signed=signed)}]"


def count(number: int, noun: str) -> str:
    """Like `1 list` or `4,952 lists`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _number(value: float, *, signed: bool) -> str:
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def _size(slice_: Slice) -> str:
    return f"{count(slice_.n_lists, 'list')} of {count(slice_.n_users, 'user')}"


def _methods_text(slice_: Slice) -> str:
    head = f"Test lists: {_size(slice_)} with a click and an unclicked item. Mean [95% over users]"
    if slice_.n_lists == 0:
        return "Test lists: none has both a clicked and an unclicked item, so there is nothing to measure"
    rows = [["method", *METRICS]]
    rows += [
        [method, *(format_interval(metrics[name]) for name in METRICS)] for method, metrics in slice_.methods.items()
    ]
    return f"{head}\n\n{text_table(rows)}"


def _lifts_text(lifts: Mapping[str, Interval]) -> str:
    if not lifts:
        return "Lift: no two methods to compare"
    rows = [["lift", LIFT_METRIC, ""]]
    for name, interval in lifts.items():
        rows.append([name.replace("_over_", " over "), format_interval(interval, signed=True), verdict(interval)])
    return f"Lift: difference in {LIFT_METRIC}, list by list\n\n{text_table(rows)}"


def verdict(interval: Interval) -> str:
    """The verdict by the interval of a difference: better, worse, not told apart (it covers 0), or no interval."""
    if np.isnan(interval.low):
        return "no interval"
    if interval.low > 0:
        return "better"
    return "worse" if interval.high < 0 else "not told apart"


def _cold_text(evaluation: Evaluation) -> str:
    slices = {"cold items": evaluation.cold_items, "cold users": evaluation.cold_users}
    head = "; ".join(f"{name}: {_size(slice_)}" for name, slice_ in slices.items())
    if not any(slice_.n_lists for slice_ in slices.values()):
        return f"Cold slices: {head}"
    rows = [["method", *slices]]
    for method in evaluation.test.methods:
        rows.append([method, *(format_interval(slice_.methods[method][LIFT_METRIC]) for slice_ in slices.values())])
    return f"Cold slices in {LIFT_METRIC}: {head}\n\n{text_table(rows)}"


def _beyond_text(beyond: Mapping[str, BeyondAccuracy]) -> str:
    rows = [["method", "coverage", "novelty", "category_diversity", "text_diversity"]]
    for method, figures in beyond.items():
        coverage = "-" if np.isnan(figures.coverage) else _number(figures.coverage, signed=False)
        novelty = "-" if np.isnan(figures.novelty.mean) else f"{figures.novelty.mean:.2f} bits"
        diversities = (format_interval(interval) for interval in (figures.category_diversity, figures.text_diversity))
        rows.append([method, coverage, novelty, *diversities])
    return f"Beyond accuracy, the first {DEPTH} ranks\n\n{text_table(rows)}"
