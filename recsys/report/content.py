"""The data of a report: values that were measured elsewhere and that its sections show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.arrays import Float64
from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.examples import ListExamples
from recsys.evaluation.report import LIFT_METRIC, Evaluation
from recsys.evaluation.slices import COLD_ITEMS, SliceResult, measure_slices
from recsys.metrics.calibration import Calibration
from recsys.ranker.shap import ShapSummary


@dataclass(frozen=True)
class CurvePoint:
    """State of a training after one step. loss: on the training rows, NaN if not measured. ndcg_at_10: on the
    validation lists. phase: what was being trained, such as "head"; one phase follows another."""

    loss: float
    ndcg_at_10: float
    phase: str = ""


@dataclass(frozen=True)
class Curve:
    """The learning curve of one model. step: what the points count, such as "tree"."""

    title: str
    step: str
    points: tuple[CurvePoint, ...]
    n_train: int
    n_valid: int


@dataclass(frozen=True)
class Gains:
    """Total gain of the trees' splits by column, n_rows training rows, n_trees trees."""

    gain: Mapping[str, float]
    n_rows: int
    n_trees: int


@dataclass(frozen=True)
class ReportData:
    """What a report shows. What is None or empty has no section.

    summary: names and values of the data and the models. evaluation: methods on the test lists. comparison: the two
    methods that slices and examples compare. slices: their ndcg_at_10 and its difference, three columns. calibration:
    of the method `calibrated`. notes: why something that a reader would look for is missing. verdict: sentences that
    head the report.
    """

    title: str
    subtitle: str
    summary: tuple[tuple[str, str], ...]
    evaluation: Evaluation
    comparison: MethodComparison | None = None
    slices: tuple[SliceResult, ...] = ()
    curves: tuple[Curve, ...] = ()
    gains: Gains | None = None
    contributions: ShapSummary | None = None
    calibration: Calibration | None = None
    calibrated: str = ""
    examples: ListExamples | None = None
    notes: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()


def primary_comparison(evaluation: Evaluation) -> MethodComparison | None:
    """The first comparison of an evaluation, the one that slices and examples follow; None where it has none."""
    name = next(iter(evaluation.lifts), None)
    if name is None:
        return None
    method, _, over = name.partition("_over_")
    return MethodComparison(method, over)


def slice_comparison(
    frame: pd.DataFrame, comparison: MethodComparison | None, *, resamples: int, seed: int
) -> tuple[SliceResult, ...]:
    """ndcg_at_10 of the method compared with, of the method, and their difference, over every slice of the lists.

    frame: one row each, as `Evaluation.per_impression_frame`. Empty without a comparison.
    """
    if comparison is None:
        return ()
    values: dict[str, Float64] = {}
    for prefix in ("", COLD_ITEMS):
        names = [f"{prefix}{method}_{LIFT_METRIC}" for method in (comparison.over, comparison.method)]
        if set(names) <= set(frame.columns):
            before, after = (frame[name].to_numpy(np.float64) for name in names)
            values[prefix] = np.column_stack([before, after, after - before])
    return measure_slices(frame, values, resamples=resamples, seed=seed)
