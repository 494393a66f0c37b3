"""A ranker trained on a context's columns, with or without some features, and its quality on test."""

from __future__ import annotations

from features.arrays import Float64
from recsys.audit.context import SLICES, AuditContext
from recsys.metrics.bootstrap import Interval, mean_interval
from recsys.metrics.ranking import list_metrics
from recsys.ranker.lightgbm_ranker import RankingDataset, train_ranker
from recsys.ranker.matrix import ranker_columns


def scores_on_test(context: AuditContext, *, without: frozenset[str]) -> Float64:
    """Scores of the test rows, (n_rows,), by a ranker trained on the ranker slice and stopped on valid.

    without: features of which it reads no column. Raises TrainingError where it gives every list of valid one score.
    """
    columns = ranker_columns(context.features, context.texts.collaborative_columns)
    chosen = [column for column in columns if context.feature_of(column.name) not in without]
    names = [column.name for column in chosen]
    train, valid, test = (
        RankingDataset(rows.matrix, rows.impressions.label, rows.impressions.requests.offsets).select(
            context.names, names
        )
        for rows in (context.slices[name] for name in SLICES)
    )
    config, threads = context.training.config, context.training.threads
    ranker = train_ranker(train, valid, chosen, config.ranker, seed=config.seed, threads=threads)
    return ranker.scores(test.matrix, threads=threads)


def ndcg_over(context: AuditContext, scores: Float64, others: Float64) -> Interval:
    """How much better scores rank the test lists than others do: nDCG@10, paired, over users."""
    test, config = context.slices["test"].impressions, context.training.config
    ndcg, baseline = (list_metrics(values, test.label, test.requests.offsets).ndcg_at_10 for values in (scores, others))
    return mean_interval(ndcg - baseline, test.requests.user, resamples=config.evaluation.resamples, seed=config.seed)


def known_after_gains(context: AuditContext) -> dict[str, Interval]:
    """nDCG@10 on test that each feature that may be known only afterwards adds to a ranker of all the others."""
    if not context.allowed:
        return {}
    whole = scores_on_test(context, without=frozenset())
    return {
        name: ndcg_over(context, whole, scores_on_test(context, without=frozenset((name,))))
        for name in sorted(context.allowed)
    }
