"""The HTML report of an evaluation through MLflow."""

from __future__ import annotations

from recsys.mlflow_evaluator.measure import MODEL, Measurement
from recsys.mlflow_evaluator.settings import EvaluatorSettings
from recsys.report.content import ReportData, primary_comparison, slice_comparison
from recsys.report.page import report_page


def evaluation_html(measurement: Measurement, settings: EvaluatorSettings, *, run_id: str, data: str) -> str:
    """One HTML file. data: name of the data set."""
    evaluation = measurement.evaluation
    comparison, test, impressions = primary_comparison(evaluation), evaluation.test, evaluation.impressions
    summary = {
        "data set": data,
        "rows": f"{impressions.requests.n_rows:,}",
        "rows without a score": f"{measurement.unscored:,}",
        "lists": f"{len(impressions):,}",
        "lists that test": f"{test.n_lists:,}",
        "users": f"{test.n_users:,}",
    }
    if measurement.coverage == measurement.coverage:
        summary["items in some first 10"] = f"{measurement.coverage:.1%}"
    slices = slice_comparison(measurement.per_impression, comparison, resamples=settings.resamples, seed=settings.seed)
    return report_page(
        ReportData(
            title="Evaluation of a ranker",
            subtitle=f"Run {run_id}.",
            summary=tuple(summary.items()),
            evaluation=evaluation,
            comparison=comparison,
            slices=slices,
            calibration=measurement.calibration,
            calibrated=MODEL,
        )
    )
