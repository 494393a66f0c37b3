"""Rule `known`: a feature declares when its value is known; one known only afterwards must be allowed explicitly."""

from __future__ import annotations

from features.definitions.event_measures import AFTER_THE_FACT, PUBLICATION, REQUEST_TIME, Feature
from recsys.audit.context import AuditContext, column_of
from recsys.audit.finding import Finding, RuleResult

RULE = "known"
ALLOWED = (REQUEST_TIME, PUBLICATION)
DECLARED = {"request": REQUEST_TIME, "publication": PUBLICATION, "afterwards": AFTER_THE_FACT}
"""What the configuration calls each of them."""


def declared_availability(context: AuditContext) -> RuleResult:
    """The rule; see the module."""
    findings = tuple(
        Finding(
            RULE,
            feature.name,
            f"its value is known at {when!r}; expected one of {list(ALLOWED)}",
            "drop it, or name it in features.allow_known_after: its gain is then reported separately",
        )
        for feature in context.features
        if (when := known_when(feature, context)) not in ALLOWED and feature.name not in context.allowed
    )
    examined = f"{len(context.features)} features, {len(context.allowed)} allowed to be known afterwards"
    return RuleResult(RULE, examined, findings)


def known_when(feature: Feature, context: AuditContext) -> str:
    """Since when a feature's value is known: as the configuration declares its column, else as its measure says."""
    declared = context.training.config.features.known_at.get(column_of(feature) or "")
    return feature.measure.available_from if declared is None else DECLARED[declared]
