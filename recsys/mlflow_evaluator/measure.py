"""A scored data frame measured as a training measures its test lists: metrics, lifts, slices, coverage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.arrays import Float64
from features.errors import InputError
from recsys.evaluation.evaluate import MethodComparison, evaluate, random_scores
from recsys.evaluation.report import LIFT_METRIC, Evaluation
from recsys.evaluation.slices import ALL, COLD_ITEMS, SliceResult, measure_slices
from recsys.metrics.bootstrap import Interval
from recsys.metrics.calibration import Calibration, calibrate
from recsys.metrics.rank_order import ordered
from recsys.metrics.ranking import METRICS
from recsys.mlflow_evaluator.candidate_rows import CandidateRows, numbers
from recsys.mlflow_evaluator.settings import EvaluatorSettings

MODEL, RANDOM, POPULARITY = "model", "random", "popularity"
COVERED_RANKS = 10

_UNFIT = re.compile(r"[^\w.\-]+")
_DATA_NAMED = ("category",)
"""Slices whose values are the data's own words: they stand in the table, not in names of metrics or figures."""


@dataclass(frozen=True)
class Measurement:
    """The result for one model.

    evaluation: of `model` and its baselines. lists: metrics and facts of every list, one row each. slices: means with
    intervals over all lists and each slice, columns in the order of `slice_columns`. coverage: share of the candidate
    items that stand in the first 10 of some list, NaN where items are not known. unscored: rows without a score.
    calibration: of the model's scores, None where there is too little to measure it on.
    """

    evaluation: Evaluation
    lists: pd.DataFrame
    slices: tuple[SliceResult, ...]
    slice_columns: tuple[str, ...]
    coverage: float
    unscored: int
    calibration: Calibration | None

    def metrics(self) -> dict[str, float]:
        """Everything as numbers under names that MLflow accepts, NaN left out.

        The model's metrics by their own names with `.low` and `.high`; `METHOD.METRIC` of the baselines;
        `lift.model_over_METHOD` with both ends; `slice.NAME.METRIC`; how much was measured.
        """
        test = self.evaluation.test
        found: dict[str, float] = {
            "lists": test.n_lists,
            "users": test.n_users,
            "rows": self.evaluation.impressions.requests.n_rows,
            "rows_without_score": self.unscored,
            f"coverage_at_{COVERED_RANKS}": self.coverage,
        }
        for method, values in test.methods.items():
            prefix = "" if method == MODEL else f"{_fit(method)}."
            for name, interval in values.items():
                found |= _ends(f"{prefix}{name}", interval)
        for name, interval in self.evaluation.lifts.items():
            found |= _ends(f"lift.{_fit(name)}", interval)
        for one in self._named_slices():
            if one.by != ALL:
                for name, interval in zip(self.slice_columns, one.intervals, strict=True):
                    found[f"slice.{_fit(one.name)}.{_fit(name)}"] = interval.mean
        return {name: float(value) for name, value in found.items() if value == value}

    def drawable_slices(self) -> dict[str, tuple[Interval, int]]:
        """The model's ndcg_at_10 and the number of lists by slice, for a figure."""
        place = self.slice_columns.index(LIFT_METRIC)
        return {one.name: (one.intervals[place], one.n_lists) for one in self._named_slices()}

    def _named_slices(self) -> tuple[SliceResult, ...]:
        """Slices whose names are this project's; those in the data's own words may hold any character."""
        return tuple(one for one in self.slices if one.by not in _DATA_NAMED)

    def slice_table(self) -> pd.DataFrame:
        """One row a slice: by, value, lists, users, then NAME, NAME_low and NAME_high of each column."""
        table = []
        for one in self.slices:
            row: dict[str, object] = {"by": one.by, "value": one.value, "lists": one.n_lists, "users": one.n_users}
            for name, interval in zip(self.slice_columns, one.intervals, strict=True):
                row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
            table.append(row)
        return pd.DataFrame(table)


def measure(frame: pd.DataFrame, rows: CandidateRows, scores: Float64, settings: EvaluatorSettings) -> Measurement:
    """Evaluate scores against `random`, `popularity` where clicks are known, and the configured baselines.

    frame: the data, for the baselines' columns. scores: (n_rows,) in the order of the data.
    """
    methods = _methods(frame, rows, scores, settings)
    lifts = [MethodComparison(MODEL, name) for name in (*settings.baselines, POPULARITY, RANDOM) if name in methods]
    evaluation = evaluate(
        methods,
        rows.impressions,
        rows.users,
        item_clicks_before=rows.item_clicks,
        user_clicks_before=rows.user_clicks,
        settings=settings.evaluation(),
        seed=settings.seed,
        lifts=lifts,
    )
    lists = _lists(evaluation, rows, settings)
    columns = (*METRICS, *(lift.name for lift in lifts))
    prefixes = ("", COLD_ITEMS) if "item_clicks" in rows.known else ("",)
    values = {prefix: _slice_values(lists, prefix, lifts) for prefix in prefixes}
    slices = measure_slices(lists, values, resamples=settings.resamples, seed=settings.seed)
    covered = _coverage(rows, methods[MODEL]) if "item_id" in rows.known else np.nan
    calibration = calibrate(methods[MODEL], rows.impressions, resamples=settings.resamples, seed=settings.seed)
    return Measurement(evaluation, lists, slices, columns, covered, int(np.isnan(scores).sum()), calibration)


def _methods(
    frame: pd.DataFrame, rows: CandidateRows, scores: Float64, settings: EvaluatorSettings
) -> dict[str, Float64]:
    methods: dict[str, Float64] = {RANDOM: random_scores(len(scores), seed=settings.seed).astype(np.float64)}
    if "item_clicks" in rows.known:
        methods[POPULARITY] = rows.item_clicks
    for name in settings.baselines:
        if name in methods or name == MODEL:
            raise InputError(f"baseline {name!r}: expected a name other than {sorted({*methods, MODEL})}; rename it")
        methods[name] = numbers(frame[name], name)[rows.order]
    return methods | {MODEL: scores[rows.order]}


def _lists(evaluation: Evaluation, rows: CandidateRows, settings: EvaluatorSettings) -> pd.DataFrame:
    """The evaluation's table with what lists can be sliced by, without the columns that the data does not tell."""
    frame = evaluation.per_impression_frame()
    if "item_clicks" in rows.known:
        warm_click = (rows.impressions.label > 0) & (rows.item_clicks >= settings.cold_item_clicks)
        frame["cold_item"] = ~np.logical_or.reduceat(warm_click, rows.impressions.requests.offsets[:-1])
    frame = frame.assign(**rows.facts)
    told = {"time": "time", "cold_user": "user_clicks", "cold_item": "item_clicks"}
    untold = [column for column, field in told.items() if field not in rows.known and column in frame]
    if "item_clicks" not in rows.known:
        untold += [column for column in map(str, frame) if column.startswith(COLD_ITEMS)]
    return frame.drop(columns=untold)


def _slice_values(lists: pd.DataFrame, prefix: str, lifts: Sequence[MethodComparison]) -> Float64:
    """The model's metrics and its lifts, list by list, (n, k) in the order of the slice table's columns."""
    metrics = [lists[f"{prefix}{MODEL}_{name}"] for name in METRICS]
    gains = [
        lists[f"{prefix}{lift.method}_{LIFT_METRIC}"] - lists[f"{prefix}{lift.over}_{LIFT_METRIC}"] for lift in lifts
    ]
    return np.column_stack([*metrics, *gains]).astype(np.float64)


def _coverage(rows: CandidateRows, scores: Float64) -> float:
    requests = rows.impressions.requests
    order, ranks = ordered(scores, requests.item.astype(np.int64), requests.offsets)
    shown = requests.item[order[ranks <= COVERED_RANKS]]
    return len(np.unique(shown)) / len(np.unique(requests.item))


def _ends(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}.low": interval.low, f"{name}.high": interval.high}


def _fit(name: str) -> str:
    """A name without what MLflow refuses in names of metrics."""
    return _UNFIT.sub("_", name)
