"""The HTML report of a training, and the reference that later data is compared with, from the results of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from features.arrays import segment_sums
from features.clock import format_time
from features.matrix.columns import display_names
from recsys.encoder.training.train import TrainedEncoder
from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.examples import ListExamples, list_examples
from recsys.evaluation.report import LIFT_METRIC, Evaluation
from recsys.metrics.bootstrap import count_clusters, mean_interval
from recsys.metrics.calibration import calibrate
from recsys.monitoring.reference import Reference, ScoredRows, make_reference, row_users, spread_evenly
from recsys.ranker.shap import ShapSummary, shap_summary
from recsys.ranker.tfidf import Lexical
from recsys.report.content import Curve, CurvePoint, Gains, ReportData, primary_comparison, slice_comparison
from recsys.report.page import report_page
from recsys.training.context import TrainingContext
from recsys.training.model_choice import RANKER
from recsys.training.ranker_data import RANKERS
from recsys.training.stages import REGISTERED, RankerResult


def training_html(
    name: str,
    report: Mapping[str, Any],
    evaluation: Evaluation,
    context: TrainingContext,
    trained: TrainedEncoder,
    ranked: RankerResult,
) -> str:
    """One HTML file. name: of the models. report: the training's, as its JSON."""
    settings, seed = context.config.evaluation, context.config.seed
    comparison = primary_comparison(evaluation)
    scores = ranked.scores(ranked.choice.method, threads=context.threads)
    content = ReportData(
        title=f"{name}: training report",
        subtitle=f"Run {report['run_id']}, {' and '.join(uri for uri in report['models'].values() if uri)}.",
        summary=_summary(report),
        evaluation=evaluation,
        comparison=comparison,
        slices=slice_comparison(evaluation.per_impression_frame(), comparison, resamples=settings.resamples, seed=seed),
        curves=(encoder_curve(trained), ranker_curve(ranked)),
        gains=ranker_gains(ranked),
        contributions=_contributions(context, ranked),
        calibration=calibrate(scores, ranked.test, resamples=settings.resamples, seed=seed),
        calibrated=ranked.choice.method,
        examples=_examples(context, ranked, comparison) if comparison else None,
        verdict=tuple(report["registered"]["verdict"]),
        notes=() if trained.trained else (f"The encoder was not trained: {trained.reason}.",),
    )
    return report_page(content)


def training_reference(
    context: TrainingContext, ranked: RankerResult, lexical: Lexical, evaluation: Evaluation
) -> Reference:
    """The distributions of what is registered, as it was evaluated, on the test lists, and its figures there."""
    config, method = context.config, ranked.choice.method
    positions = spread_evenly(np.arange(len(ranked.test)), config.monitor.max_lists)
    requests = ranked.test.requests.take(positions)
    row = ranked.test.requests.rows_of(positions)
    rows = ScoredRows(
        columns=ranked.rankers[method].columns,
        matrix=ranked.matrix_for(method)[row],
        score=ranked.scores(method, threads=context.threads)[row],
        user=row_users(requests.user, requests.lengths()),
        texts=[context.item_texts[code] for code in np.unique(requests.item).tolist()],
        n_lists=len(requests),
        n_users=count_clusters(requests.user),
    )
    shown = context.log.impressions.take(context.sliced.test)
    has_click = segment_sums(shown.label > 0, shown.requests.offsets) > 0
    real = np.where(shown.sampled, np.nan, has_click)
    times = ranked.test.requests.time
    return make_reference(
        rows,
        context.item_texts,
        lexical.terms,
        start=format_time(int(times.min())),
        end=format_time(int(times.max())),
        clicked=mean_interval(real, shown.requests.user, resamples=config.evaluation.resamples, seed=config.seed),
        ndcg_at_10=evaluation.test.methods[RANKER if method == RANKER else REGISTERED][LIFT_METRIC],
    )


def encoder_curve(trained: TrainedEncoder) -> Curve:
    """The encoder's training loss and validation nDCG@10 by validation."""
    points = tuple(CurvePoint(record.loss, record.validation_ndcg, record.phase) for record in trained.records)
    return Curve("Encoder", "validation no.", points, trained.counts.used, trained.counts.validated)


def ranker_curve(ranked: RankerResult) -> Curve:
    """The validation nDCG@10 of the ranker with every column by tree."""
    points = tuple(CurvePoint(float("nan"), value) for value in ranked.valid_ndcg)
    return Curve("Ranker", "tree", points, len(ranked.train), len(ranked.valid))


def ranker_gains(ranked: RankerResult) -> Gains:
    """Total gain of the registered ranker's columns, under the names that users see."""
    names, ranker = display_names(ranked.features), ranked.rankers[ranked.choice.method]
    gains = {names.get(name, name): gain for name, gain in ranker.gains().items()}
    return Gains(gains, ranked.train.requests.n_rows, ranker.n_trees)


def _summary(report: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    data, slices = report["data"], report["slices"]
    return (
        *((name, f"{data[name]:,}") for name in ("items", "users", "events", "impressions", "candidates", "rejected")),
        ("from", str(data["first"])),
        ("to", str(data["last"])),
        ("fingerprint", str(data["fingerprint"])[:16]),
        *((f"slice {name}, lists", f"{n:,}") for name, n in slices.items()),
        ("seconds", f"{sum(report['seconds'].values()):.0f}"),
        ("most memory, MiB", f"{report['peak_rss_mb']:,}"),
    )


def _contributions(context: TrainingContext, ranked: RankerResult) -> ShapSummary:
    requests = ranked.test.requests
    list_of_row = requests.request_of_row()
    summary = shap_summary(
        ranked.rankers[ranked.choice.method],
        ranked.matrix_for(ranked.choice.method),
        list_of_row=list_of_row,
        cluster=np.where(requests.row_user() < 0, len(context.log.users) + list_of_row, requests.row_user()),
        resamples=context.config.evaluation.resamples,
        seed=context.config.seed,
        threads=context.threads,
    )
    names = display_names(ranked.features)
    named = tuple(replace(column, column=names.get(column.column, column.column)) for column in summary.columns)
    return replace(summary, columns=named)


def _examples(context: TrainingContext, ranked: RankerResult, comparison: MethodComparison) -> ListExamples | None:
    if comparison.method not in RANKERS or comparison.over not in RANKERS:
        return None
    histories = context.index.histories(ranked.test.requests)
    before, after = (ranked.scores(method, threads=context.threads) for method in (comparison.over, comparison.method))
    return list_examples(before, after, ranked.test, histories.items, context.log.catalog)
