"""The evaluation of ranking methods on one set of shown lists: metrics, lifts and cold slices, each with an interval.

Reads one score for each candidate row and method, and how many clicks items and users had before each list; uses
neither models nor files. The result is a report object (`recsys.evaluation.report`).

Means are over lists that have both a clicked and an unclicked candidate. Intervals are 95% bootstrap over users, a
null user being one of its own (`recsys.metrics.bootstrap`); ties and missing scores are treated in
`recsys.metrics.ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from features.arrays import Bool, Float32, Float64, Strings
from features.log import Impressions, both_labels
from recsys.config import EvaluationConfig as Settings
from recsys.evaluation.report import LIFT_METRIC, Evaluation, Slice
from recsys.metrics.beyond_accuracy import BeyondAccuracy
from recsys.metrics.bootstrap import Interval, count_clusters, mean_intervals
from recsys.metrics.impression_attributes import ImpressionAttributes
from recsys.metrics.ranking import METRICS, ListMetrics, list_metrics

METHODS = (
    "random",
    "popularity",
    "item_knn",
    "tfidf",
    "text_frozen",
    "text_head",
    "text",
    "blend",
    "behaviour",
    "behaviour_lexical",
    "no_collaborative",
    "frozen_text",
    "ensemble",
    "ranker",
    "registered",
)
"""Methods in the order of every table, plain ones first; a name that is not here follows after them."""


@dataclass(frozen=True)
class MethodComparison:
    """A comparison: how much better `method` orders a list than `over` does."""

    method: str
    over: str

    @property
    def name(self) -> str:
        """A_over_B, its key in the report."""
        return f"{self.method}_over_{self.over}"


LIFTS = (
    MethodComparison("ranker", "behaviour"),
    MethodComparison("ranker", "behaviour_lexical"),
    MethodComparison("ranker", "text"),
    MethodComparison("ranker", "popularity"),
    MethodComparison("ranker", "tfidf"),
    MethodComparison("text", "text_frozen"),
    MethodComparison("text", "text_head"),
    *(MethodComparison("registered", over) for over in ("popularity", "tfidf", "behaviour", "text", "ranker")),
)
"""The comparisons of a report, each made where both methods are present."""


def evaluate(
    methods: Mapping[str, Float32 | Float64],
    impressions: Impressions,
    users: Strings,
    *,
    item_clicks_before: npt.NDArray[np.number],
    user_clicks_before: npt.NDArray[np.number],
    settings: Settings,
    seed: int,
    lifts: Sequence[MethodComparison] = LIFTS,
    attributes: ImpressionAttributes | None = None,
    beyond: Mapping[str, BeyondAccuracy] | None = None,
) -> Evaluation:
    """Evaluate every method on `impressions`.

    methods: name to scores, (n_rows,), higher is better, NaN where a method has none. users: ids by user code, as
    `Log.users`. item_clicks_before: (n_rows,) clicks of each candidate before its list's time. user_clicks_before:
    (n,) clicks of each list's user before its time, 0 for an unknown user. seed: of the resamples. attributes: what the
    lists can be sliced by. beyond: figures beyond accuracy by method; both only become part of the report.

    Raises ValueError for a method called "n", a key of the report, and where lengths do not fit together.
    """
    _check(methods, impressions, item_clicks_before, user_clicks_before)
    methods = {name: methods[name] for name in sorted(methods, key=_position)}
    offsets, label = impressions.requests.offsets, impressions.label
    cluster = impressions.requests.user
    tested = impressions.has_both()
    metrics = {name: list_metrics(scores, label, offsets) for name, scores in methods.items()}
    cold_user = user_clicks_before < settings.cold_user_clicks
    cold = item_clicks_before < settings.cold_item_clicks
    cold_item = _all_clicks_cold(impressions, cold)
    cold_metrics, cold_tested = _cold_item_metrics(methods, impressions, cold, cold_item)
    compared = [lift for lift in lifts if lift.method in metrics and lift.over in metrics]
    summary = partial(_summarise, cluster=cluster, resamples=settings.resamples, seed=seed)
    test, paired = summary(metrics, tested, compared)
    return Evaluation(
        test=test,
        lifts=paired,
        cold_items=summary(cold_metrics, cold_tested)[0],
        cold_users=summary(metrics, tested & cold_user)[0],
        metrics=metrics,
        cold_metrics=cold_metrics,
        impressions=impressions,
        users=users,
        cold_user=cold_user,
        cold_item=cold_item,
        attributes=attributes,
        beyond={name: beyond[name] for name in methods if name in beyond} if beyond else {},
    )


def random_scores(n_rows: int, *, seed: int) -> Float32:
    """The scores of method `random`: uniform from 0 to 1, (n_rows,)."""
    return np.random.default_rng(seed).random(n_rows, dtype=np.float32)


def _position(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)


def _check(
    methods: Mapping[str, Float32 | Float64],
    impressions: Impressions,
    item_clicks_before: npt.NDArray[np.number],
    user_clicks_before: npt.NDArray[np.number],
) -> None:
    if "n" in methods:
        raise ValueError("methods: expected no method called 'n', the report's number of lists; give it another name")
    row_shape, list_shape = (impressions.requests.n_rows,), (len(impressions),)
    expected: list[tuple[str, npt.NDArray[np.number], tuple[int]]] = [
        *((f"scores of method {name!r}", scores, row_shape) for name, scores in methods.items()),
        ("item_clicks_before", item_clicks_before, row_shape),
        ("user_clicks_before", user_clicks_before, list_shape),
    ]
    for name, values, shape in expected:
        if values.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")


def _all_clicks_cold(impressions: Impressions, cold: Bool) -> Bool:
    """(n,) True for lists whose every clicked item is cold, without a click included. cold: (n_rows,)."""
    requests = impressions.requests
    warm_click = (impressions.label > 0) & ~cold
    return np.asarray(np.bincount(requests.request_of_row(), weights=warm_click, minlength=len(requests)) == 0)


def _cold_item_metrics(
    methods: Mapping[str, Float32 | Float64], impressions: Impressions, cold: Bool, cold_item: Bool
) -> tuple[dict[str, ListMetrics], Bool]:
    """Metrics with cold candidates alone, and which lists have them; NaN for lists with a warm clicked item.

    cold: (n_rows,). cold_item: (n,) lists whose every clicked item is cold. A list counts when, in addition, its cold
    candidates include a clicked and an unclicked one.
    """
    requests = impressions.requests
    rows = np.flatnonzero(cold & np.repeat(cold_item, requests.lengths()))
    offsets = np.searchsorted(rows, requests.offsets).astype(np.int64)
    label = impressions.label[rows]
    metrics = {name: list_metrics(scores[rows], label, offsets) for name, scores in methods.items()}
    return metrics, both_labels(label, offsets)


def _summarise(
    metrics: Mapping[str, ListMetrics],
    mask: Bool,
    lifts: Sequence[MethodComparison] = (),
    *,
    cluster: npt.NDArray[np.integer],
    resamples: int,
    seed: int,
) -> tuple[Slice, dict[str, Interval]]:
    """Intervals of every method and of the paired differences over the lists in `mask`, all over the same resamples."""
    rows = np.flatnonzero(mask)
    columns = [np.zeros((len(rows), 0)), *(values.columns()[rows] for values in metrics.values())]
    for lift in lifts:
        better, worse = (getattr(metrics[name], LIFT_METRIC)[rows] for name in (lift.method, lift.over))
        columns.append((better - worse)[:, None])
    intervals = iter(mean_intervals(np.hstack(columns), cluster[rows], resamples=resamples, seed=seed))
    methods = {method: {name: next(intervals) for name in METRICS} for method in metrics}
    paired = {lift.name: next(intervals) for lift in lifts}
    return Slice(methods, len(rows), count_clusters(cluster[rows])), paired
