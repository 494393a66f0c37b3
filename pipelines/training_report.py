"""The HTML report of a training, from what its stages made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from features.matrix.columns import shown_names
from recsys.encoder.training.train import TrainedEncoder
from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.examples import ListExamples, list_examples
from recsys.evaluation.plots import CurvePoint
from recsys.evaluation.report import Evaluation
from recsys.metrics.calibration import calibrate
from recsys.ranker.shap import ShapSummary, shap_summary
from recsys.report.content import Curve, Gains, ReportData, primary_comparison, slice_comparison
from recsys.report.page import page
from recsys.training.context import TrainingContext
from recsys.training.stages import RANKERS, RankerResult

RANKER = RANKERS[-1]


def training_html(
    name: str,
    report: Mapping[str, Any],
    evaluation: Evaluation,
    chain: TrainingContext,
    trained: TrainedEncoder,
    ranked: RankerResult,
) -> str:
    """One HTML file. name: of the models. report: the training's, as its JSON."""
    settings, seed = chain.config.evaluation, chain.config.seed
    lift = primary_comparison(evaluation)
    scores = ranked.scores(RANKER, threads=chain.threads)
    content = ReportData(
        title=f"{name}: training report",
        subtitle=f"Run {report['run_id']}, {report['models']['encoder']} and {report['models']['ranker']}.",
        facts=_facts(report),
        evaluation=evaluation,
        compared=lift,
        slices=(
            slice_comparison(evaluation.per_impression_frame(), lift, resamples=settings.resamples, seed=seed)
            if lift
            else ()
        ),
        curves=(_encoder_curve(trained), _ranker_curve(ranked)),
        gains=Gains(shown_gains(ranked), ranked.n_train_rows, ranked.rankers[RANKER].booster.num_trees()),
        contributions=_contributions(chain, ranked),
        calibration=calibrate(scores, ranked.test, resamples=settings.resamples, seed=seed),
        calibrated=RANKER,
        examples=_examples(chain, ranked, lift) if lift else None,
        notes=() if trained.trained else (f"The encoder was not trained: {trained.reason}.",),
    )
    return page(content)


def shown_gains(ranked: RankerResult) -> dict[str, float]:
    """Total gain of the full ranker's columns, under the names that people see."""
    shown = shown_names(ranked.features)
    return {shown.get(name, name): gain for name, gain in ranked.rankers[RANKER].gains().items()}


def _facts(report: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    data, slices = report["data"], report["slices"]
    return (
        *((one, f"{data[one]:,}") for one in ("items", "users", "events", "impressions", "candidates", "rejected")),
        ("from", str(data["first"])),
        ("to", str(data["last"])),
        ("fingerprint", str(data["fingerprint"])[:16]),
        *((f"slice {one}, lists", f"{n:,}") for one, n in slices.items()),
        ("seconds", f"{sum(report['seconds'].values()):.0f}"),
        ("most memory, MiB", f"{report['peak_rss_mb']:,}"),
    )


def _encoder_curve(trained: TrainedEncoder) -> Curve:
    points = tuple(CurvePoint(one.loss, one.validation_ndcg, one.phase) for one in trained.records)
    return Curve("Encoder", "validation no.", points, trained.counts.used, trained.counts.validated)


def _ranker_curve(ranked: RankerResult) -> Curve:
    points = tuple(CurvePoint(float("nan"), value) for value in ranked.valid_ndcg)
    return Curve("Ranker", "tree", points, ranked.n_train, ranked.n_valid)


def _contributions(chain: TrainingContext, ranked: RankerResult) -> ShapSummary:
    requests, columns = ranked.test.requests, ranked.rankers[RANKER].columns
    lists = requests.request_of_row()
    found = shap_summary(
        ranked.rankers[RANKER],
        ranked.matrix[:, [ranked.columns.index(name) for name in columns]],
        lists=lists,
        cluster=np.where(requests.row_user() < 0, len(chain.log.users) + lists, requests.row_user()),
        resamples=chain.config.evaluation.resamples,
        seed=chain.config.seed,
        threads=chain.threads,
    )
    shown = shown_names(ranked.features)
    named = tuple(replace(one, column=shown.get(one.column, one.column)) for one in found.columns)
    return replace(found, columns=named)


def _examples(chain: TrainingContext, ranked: RankerResult, lift: MethodComparison) -> ListExamples | None:
    if lift.method not in RANKERS or lift.over not in RANKERS:
        return None
    length = chain.config.encoder.history_length
    histories = chain.index.histories(ranked.test.requests, length=length, delay=chain.delay)
    before, after = (ranked.scores(method, threads=chain.threads) for method in (lift.over, lift.method))
    return list_examples(before, after, ranked.test, histories.items, chain.log.catalog)
