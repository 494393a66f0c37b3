"""Evaluates a scored data frame as a training evaluates its test lists: metrics, lifts, slices, coverage."""

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
from recsys.metrics.beyond_accuracy import DEPTH, first_ranks
from recsys.metrics.calibration import Calibration, calibrate
from recsys.metrics.ranking import METRICS
from recsys.mlflow_evaluator.candidate_rows import CandidateRows, numbers
from recsys.mlflow_evaluator.settings import EvaluatorSettings

MODEL, RANDOM, POPULARITY = "model", "random", "popularity"

_NOT_METRICS = (ALL, "category")
"""Slices that are no metrics of their own: all lists, and those whose values are words of the data."""


@dataclass(frozen=True)
class Measurement:
    """The result for one model.

    evaluation: of `model` and its baselines. per_impression: metrics and attributes of every list, one row each.
    slices: means with intervals over all lists and each slice, columns in the order of `slice_columns`. coverage: share
    of the candidate items that are in the first 10 of some list, NaN where items are unknown. unscored: rows without a
    score. calibration: of the model's scores, None where there is too little to measure it on.
    """

    evaluation: Evaluation
    per_impression: pd.DataFrame
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
        values: dict[str, float] = {
            "lists": test.n_lists,
            "users": test.n_users,
            "rows": self.evaluation.impressions.requests.n_rows,
            "rows_without_score": self.unscored,
            f"coverage_at_{DEPTH}": self.coverage,
        }
        for method, metrics in test.methods.items():
            prefix = "" if method == MODEL else f"{_metric_name(method)}."
            for name, interval in metrics.items():
                values |= interval.named(f"{prefix}{name}")
        for name, interval in self.evaluation.lifts.items():
            values |= interval.named(f"lift.{_metric_name(name)}")
        for result in self.slices:
            if result.attribute not in _NOT_METRICS:
                for name, interval in zip(self.slice_columns, result.intervals, strict=True):
                    values[f"slice.{_metric_name(result.name)}.{_metric_name(name)}"] = interval.mean
        return {name: float(value) for name, value in values.items() if value == value}

    def slice_table(self) -> pd.DataFrame:
        """One row a slice: by, value, lists, users, then NAME, NAME_low and NAME_high of each column."""
        table = []
        for result in self.slices:
            row = result.as_dict()
            for name, interval in zip(self.slice_columns, result.intervals, strict=True):
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
        settings=settings,
        seed=settings.seed,
        lifts=lifts,
    )
    per_impression = _impression_frame(evaluation, rows, settings)
    columns = (*METRICS, *(lift.name for lift in lifts))
    prefixes = ("", COLD_ITEMS) if "item_clicks" in rows.fields else ("",)
    values = {prefix: _slice_values(per_impression, prefix, lifts) for prefix in prefixes}
    slices = measure_slices(per_impression, values, resamples=settings.resamples, seed=settings.seed)
    covered = _coverage(rows, methods[MODEL]) if "item_id" in rows.fields else np.nan
    calibration = calibrate(methods[MODEL], rows.impressions, resamples=settings.resamples, seed=settings.seed)
    return Measurement(evaluation, per_impression, slices, columns, covered, int(np.isnan(scores).sum()), calibration)


def _methods(
    frame: pd.DataFrame, rows: CandidateRows, scores: Float64, settings: EvaluatorSettings
) -> dict[str, Float64]:
    methods: dict[str, Float64] = {RANDOM: random_scores(len(scores), seed=settings.seed).astype(np.float64)}
    if "item_clicks" in rows.fields:
        methods[POPULARITY] = rows.item_clicks
    for name in settings.baselines:
        if name in methods or name == MODEL:
            raise InputError(f"baseline {name!r}: expected a name other than {sorted({*methods, MODEL})}; rename it")
        methods[name] = numbers(frame[name], name)[rows.order]
    return methods | {MODEL: scores[rows.order]}


def _impression_frame(evaluation: Evaluation, rows: CandidateRows, settings: EvaluatorSettings) -> pd.DataFrame:
    """The evaluation's table with the columns that slice it, without the columns that the data does not have."""
    frame = evaluation.per_impression_frame()
    if "item_clicks" in rows.fields:
        warm_click = (rows.impressions.label > 0) & (rows.item_clicks >= settings.cold_item_clicks)
        frame["cold_item"] = ~np.logical_or.reduceat(warm_click, rows.impressions.requests.offsets[:-1])
    frame = frame.assign(**rows.slice_columns)
    source = {"time": "time", "cold_user": "user_clicks", "cold_item": "item_clicks"}
    absent = [column for column, field in source.items() if field not in rows.fields and column in frame]
    if "item_clicks" not in rows.fields:
        absent += [column for column in map(str, frame) if column.startswith(COLD_ITEMS)]
    return frame.drop(columns=absent)


def _slice_values(per_impression: pd.DataFrame, prefix: str, lifts: Sequence[MethodComparison]) -> Float64:
    """The model's metrics and its lifts, list by list, (n, k) in the order of the slice table's columns."""
    metrics = [per_impression[f"{prefix}{MODEL}_{name}"] for name in METRICS]
    gains = [
        per_impression[f"{prefix}{lift.method}_{LIFT_METRIC}"] - per_impression[f"{prefix}{lift.over}_{LIFT_METRIC}"]
        for lift in lifts
    ]
    return np.column_stack([*metrics, *gains]).astype(np.float64)


def _coverage(rows: CandidateRows, scores: Float64) -> float:
    requests = rows.impressions.requests
    first_rows, _ = first_ranks(scores, requests.item, requests.offsets)
    return len(np.unique(requests.item[first_rows])) / len(np.unique(requests.item))


def _metric_name(name: str) -> str:
    """A name without the characters that MLflow refuses in names of metrics."""
    return re.sub(r"[^\w.\-]+", "_", name)
