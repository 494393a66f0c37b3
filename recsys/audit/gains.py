"""What features that are known only afterwards, and were asked for all the same, add to the ranker."""

from __future__ import annotations

from features.log import Float64
from recsys.audit.context import SLICES, AuditContext
from recsys.bootstrap import Interval, mean_interval
from recsys.metrics import list_metrics
from recsys.ranker import Lists, train_ranker
from recsys.unit import ranker_columns


def known_after_gains(context: AuditContext) -> dict[str, Interval]:
    """nDCG@10 on test that each allowed feature adds to a ranker of all the others, paired, over users."""
    if not context.allowed:
        return {}
    whole = _ndcg(context, frozenset())
    config, users = context.chain.config, context.slices["test"].impressions.requests.user
    return {
        name: mean_interval(
            whole - _ndcg(context, frozenset((name,))), users, resamples=config.evaluation.resamples, seed=config.seed
        )
        for name in sorted(context.allowed)
    }


def _ndcg(context: AuditContext, without: frozenset[str]) -> Float64:
    config = context.chain.config
    columns = ranker_columns(context.features)
    kept = [i for i, column in enumerate(columns) if context.feature_of(column.name) not in without]
    train, valid, test = (
        Lists(rows.matrix[:, kept], rows.impressions.label, rows.impressions.requests.offsets)
        for rows in (context.slices[name] for name in SLICES)
    )
    ranker = train_ranker(
        train, valid, [columns[i] for i in kept], config.ranker, seed=config.seed, threads=context.chain.threads
    )
    return list_metrics(ranker.scores(test.matrix, threads=context.chain.threads), test.label, test.offsets).ndcg_at_10
