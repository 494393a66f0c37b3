"""Rule `permutation`: with clicks permuted within their lists, no column and no ranker can predict them.

Labels are shuffled among the candidates of each list in the tables, matching events are moved with them, and
everything is computed again: histories, counts, lexical model, and, on request, the encoder. A label is then
independent of everything before its list, whatever the candidates: repeated clicks, popularity and sampling included.
So each column's AUC is 0.5 in every slice within the bounds of chance (`auc.log_p_bound`), and the interval of a
ranker trained on permuted clicks covers the result of a random order.

That interval lies above the true value once in 40 times, so a ranker is a finding only if it beats random on a second
permutation too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from features.log import Log
from recsys.audit.auc import list_aucs, log_p_bound
from recsys.audit.context import SLICES, AuditContext
from recsys.audit.finding import Finding, RuleResult
from recsys.audit.probe_ranker import ndcg_over, scores_on_test
from recsys.audit.rules.single_column_auc import PRESENCE, best_row, with_presence
from recsys.encoder.training.train import train_encoder
from recsys.errors import TrainingError
from recsys.metrics.bootstrap import Interval
from recsys.training.context import make_context
from recsys.training.text_models import encoder_schedule, lexical_stage, represent_items

RULE = "permutation"
LEAST_CHANCE = math.log(1e-6)
"""Of some 300 figures that are compared at once an honest one falls below this in 3 of 10,000 audits at most."""
TRIES = 2
_ADVICE = "it reads the label, or events at or after the request: count only what happened strictly before"


@dataclass(frozen=True)
class PermutedResult:
    """What a ranker trained on permuted clicks does on permuted test lists. lift: of nDCG@10 over a random order."""

    context: AuditContext
    lift: Interval


def permuted_labels(context: AuditContext) -> RuleResult:
    """The rule; see the module."""
    if context.permuted is None:
        raise ValueError("expected a context that can permute its tables, got none; give `permuted`")
    seed = context.training.config.seed
    outcomes = [_outcome(context, context.permuted, seed)]
    findings = _by_column(outcomes[0].context)
    while outcomes[-1].lift.low > 0 and len(outcomes) < TRIES:
        outcomes.append(_outcome(context, context.permuted, seed + len(outcomes)))
    if all(outcome.lift.low > 0 for outcome in outcomes):
        findings.append(_of_ranker(outcomes))
    lift = outcomes[-1].lift
    text = "the encoder too" if context.train_text else "the encoder as it is"
    examined = (
        f"clicks permuted, {text}; the ranker beats random by {lift.mean:+.4f} [{lift.low:+.4f}, {lift.high:+.4f}] "
        "nDCG@10 on test"
    )
    return RuleResult(RULE, examined, tuple(findings))


def _outcome(context: AuditContext, permuted: Callable[[int], Log], seed: int) -> PermutedResult:
    permuted_context = over_permuted(context, permuted(seed))
    return PermutedResult(permuted_context, _lift_over_random(permuted_context))


def over_permuted(context: AuditContext, log: Log) -> AuditContext:
    """The context with everything computed again over the log of permuted clicks."""
    config = context.training.config
    training = make_context(config, log, threads=context.training.threads)
    encoders = context.texts.states
    if context.train_text:
        encoders = train_encoder(log, encoder_schedule(log.impressions, training.sliced, config), config).states
    lexical = lexical_stage(training)
    texts = represent_items(training, encoders, lexical, context.texts.collaborative)
    return replace(context, training=training, lexical=lexical, texts=texts)


def _lift_over_random(context: AuditContext) -> Interval:
    """nDCG@10 of a ranker trained in this context over the expectation of a random order, on test, over users.

    0 where the ranker gives every list of valid one score, as it should.
    """
    try:
        scores = scores_on_test(context, without=context.allowed)
    except TrainingError:
        return Interval(0.0, 0.0, 0.0)
    return ndcg_over(context, scores, np.zeros(len(scores)))


def _by_column(context: AuditContext) -> list[Finding]:
    """The columns that rank permuted clicks."""
    columns = context.raw_columns()
    findings: dict[str, Finding] = {}
    for name in SLICES:
        rows = context.slices[name]
        impressions = rows.impressions
        aucs = list_aucs(with_presence(rows.matrix, columns), impressions.label, impressions.requests.offsets)
        mean = aucs.auc.mean(axis=0)
        for position in np.flatnonzero(log_p_bound(aucs) < LEAST_CHANCE).tolist():
            feature, presence = context.names[columns[position // 2]], PRESENCE if position % 2 else ""
            if feature in findings:
                continue
            evidence = (
                f"{presence or 'it'} ranks the permuted clicks of {len(impressions):,} lists of {name} with an AUC of "
                f"{mean[position]:.3f}, which chance alone gives less than once in a million times"
            )
            findings[feature] = Finding(
                RULE, feature, evidence, _ADVICE, best_row(context, rows, columns[position // 2], presence)
            )
    return list(findings.values())


def _of_ranker(outcomes: list[PermutedResult]) -> Finding:
    figures = " and ".join(f"{outcome.lift.mean:.4f} (at least {outcome.lift.low:.4f})" for outcome in outcomes)
    return Finding(
        RULE,
        "",
        f"a ranker trained on permuted clicks beats a random order on permuted test by {figures} nDCG@10",
        "a column reveals the label: see the other findings, then train with half of the columns at a time to find it",
    )
