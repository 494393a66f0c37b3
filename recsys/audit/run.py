"""The rules of the audit as two tuples, and the function that runs them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from recsys.audit.context import AuditContext
from recsys.audit.finding import RuleResult
from recsys.audit.probe_ranker import known_after_gains
from recsys.audit.report import AuditReport
from recsys.audit.rules.declared_availability import declared_availability
from recsys.audit.rules.encoder_order import encoder_order
from recsys.audit.rules.future_injection import future_injection
from recsys.audit.rules.permuted_labels import permuted_labels
from recsys.audit.rules.sampled_impressions import sampled_impressions
from recsys.audit.rules.single_column_auc import single_column_auc
from recsys.audit.rules.static_columns import static_columns
from recsys.errors import AuditFailed

log = logging.getLogger(__name__)

Rule = Callable[[AuditContext], RuleResult]

TRAINING_RULES: tuple[Rule, ...] = (
    declared_availability,
    static_columns,
    encoder_order,
    future_injection,
    sampled_impressions,
    single_column_auc,
)
"""Fast rules: a training runs them on a sample of lists before it registers anything."""

AUDIT: tuple[Rule, ...] = (*TRAINING_RULES, permuted_labels)
"""All of them: what `recsys audit` runs."""


def audit(context: AuditContext, rules: Sequence[Rule] = AUDIT) -> AuditReport:
    """Run rules over a context. With all of them the gain of features known only afterwards is measured too."""
    checked, seconds = [], {}
    for number, rule in enumerate(rules, start=1):
        started = time.perf_counter()
        outcome = rule(context)
        seconds[outcome.rule] = time.perf_counter() - started
        checked.append(outcome)
        line = "audit: rule %d of %d, %s: %d findings, %.1f s"
        log.info(line, number, len(rules), outcome.rule, len(outcome.findings), seconds[outcome.rule])
    gains = known_after_gains(context) if permuted_labels in rules else {}
    return AuditReport(tuple(checked), len(context.names), seconds, gains)


def raise_if_failed(report: AuditReport) -> None:
    """Raise AuditFailed, naming the first finding, where a report has any."""
    if report.findings:
        more = len(report.findings) - 1
        others = f" ({more} more finding{'' if more == 1 else 's'})" if more else ""
        raise AuditFailed(f"the leak audit failed, nothing is registered: {report.findings[0]}{others}")
