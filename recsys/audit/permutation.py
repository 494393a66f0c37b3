"""Rule `permutation`: where clicks are permuted within their lists, nothing can be learnt, by any column or ranker.

Labels are shuffled among the candidates of each list in the tables themselves, matching events moved with them, and
everything is computed anew: histories, counts, lexical model, and, on request, the encoder. The label of a list then
goes along with nothing that was known before it, however the slates were made: repeated clicks, popularity and
sampling included. So each column's lone AUC is 0.5 in every slice, up to `MOST_DEVIATIONS` standard errors, and the
interval of a ranker trained on permuted clicks covers what a random order has.

That interval leaves out the truth once in 40 times on its upper side, so a ranker is found out only when it beats
random on a second permutation too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from features.log import Float64, Log
from features.offline import LogIndex
from recsys.audit.auc import list_aucs
from recsys.audit.context import SLICES, AuditContext
from recsys.audit.finding import Checked, Finding
from recsys.audit.lone import PRESENCE, best_row, tells, with_presence
from recsys.audit.ranking import ndcg_over, scores_on_test
from recsys.bootstrap import Interval
from recsys.encoder.text import item_texts
from recsys.encoder.training import train_encoder
from recsys.errors import TrainingError
from recsys.slicing import slice_impressions
from recsys.stages import lexical_stage
from recsys.unit import ItemTexts

RULE = "permutation"
MOST_DEVIATIONS = 5.0
"""Of some 500 honest figures the largest is beyond this once in 3,000 audits."""
TRIES = 2
_ADVICE = "it reads the label, or events at or after the request: count only what happened strictly before"


@dataclass(frozen=True)
class Outcome:
    """What a ranker trained on permuted clicks does on permuted test lists. lift: of nDCG@10 over a random order."""

    context: AuditContext
    lift: Interval


def permutation(context: AuditContext) -> Checked:
    """The rule; see the module."""
    if context.permuted is None:
        raise ValueError("expected a context that can permute its tables, got none; give `permuted`")
    seed = context.chain.config.seed
    outcomes = [_outcome(context, context.permuted, seed)]
    findings = _by_column(outcomes[0].context)
    while outcomes[-1].lift.low > 0 and len(outcomes) < TRIES:
        outcomes.append(_outcome(context, context.permuted, seed + len(outcomes)))
    if all(outcome.lift.low > 0 for outcome in outcomes):
        findings.append(_of_ranker(outcomes))
    lift = outcomes[-1].lift
    text = "the encoder too" if context.train_text else "the encoder as it is"
    looked_at = (
        f"clicks permuted, {text}; the ranker beats random by {lift.mean:+.4f} [{lift.low:+.4f}, {lift.high:+.4f}] "
        "nDCG@10 on test"
    )
    return Checked(RULE, looked_at, tuple(findings))


def _outcome(context: AuditContext, permuted: Callable[[int], Log], seed: int) -> Outcome:
    other = over_permuted(context, permuted(seed))
    return Outcome(other, _lift_over_random(other))


def over_permuted(context: AuditContext, log: Log) -> AuditContext:
    """The context with everything computed anew over the log of permuted clicks."""
    config = context.chain.config
    sliced = slice_impressions(log.impressions, config.slices)
    chain = replace(context.chain, log=log, sliced=sliced, index=LogIndex(log))
    encoder = context.encoder
    if context.train_text:
        encoder = train_encoder(log, log.impressions.take(sliced.encoder), config).full
    lexical = lexical_stage(chain)
    text = item_texts(log.catalog, config.encoder.template)
    texts = ItemTexts(encoder.encode_texts(text), lexical.transform(text))
    return replace(context, chain=chain, encoder=encoder, lexical=lexical, texts=texts)


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
        if not tells(rows):
            continue
        values = list_aucs(
            with_presence(rows.matrix, columns), rows.impressions.label, rows.impressions.requests.offsets
        )
        mean, deviations = _deviations(values)
        for place in np.flatnonzero(np.abs(deviations) > MOST_DEVIATIONS).tolist():
            feature, kind = context.names[columns[place // 2]], PRESENCE if place % 2 else ""
            if feature in findings:
                continue
            findings[feature] = Finding(
                RULE,
                feature,
                f"{kind or 'it'} ranks permuted clicks of {name} with an AUC of {mean[place]:.3f}, "
                f"{abs(deviations[place]):.0f} standard errors from 0.5",
                _ADVICE,
                best_row(context, rows, columns[place // 2], kind),
            )
    return list(findings.values())


def _deviations(aucs: Float64) -> tuple[Float64, Float64]:
    """Mean of each column over lists, and its distance from 0.5 in standard errors, (n_columns,) each.

    Lists are taken as independent, which permuted labels are given all that came before them.
    """
    mean, error = aucs.mean(axis=0), np.maximum(aucs.std(axis=0, ddof=1), 1e-12) / np.sqrt(len(aucs))
    return mean, (mean - 0.5) / error


def _of_ranker(outcomes: list[Outcome]) -> Finding:
    figures = " and ".join(f"{one.lift.mean:.4f} (at least {one.lift.low:.4f})" for one in outcomes)
    return Finding(
        RULE,
        "",
        f"a ranker trained on permuted clicks beats a random order on permuted test by {figures} nDCG@10",
        "a column tells the label: see the other findings, then train with half of the columns at a time to find it",
    )
