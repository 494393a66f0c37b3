"""The promotion gate: whether a challenger replaces the champion, given the evidence.

It uses no registry and no files. It reads a paired comparison on lists that neither version has learnt from, what
either costs, and an audit's verdict, and gives the reasons against a promotion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from recsys.config import PromotionConfig as Settings
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.report import LIFT_METRIC, count, format_interval
from recsys.evaluation.verdict import better_baselines
from recsys.metrics.bootstrap import Interval
from recsys.metrics.jsonable import jsonable

PROMOTED, FORCED, REFUSED = "promoted", "forced", "refused"


class AuditVerdict(Protocol):
    """The result of a leak audit."""

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""

    def lines(self) -> list[str]:
        """The audit's report for a person."""


@dataclass(frozen=True)
class ServingCost:
    """What serving a version costs. megabytes: artifacts of ranker and encoder, in millions of bytes. milliseconds:
    median time to rank one list of `candidates` items."""

    megabytes: float
    milliseconds: float
    candidates: int


@dataclass(frozen=True)
class Evidence:
    """The basis of a decision. learnt_until: ISO 8601, the newest label that either version used. n_lists, n_users:
    later ones with a clicked and an unclicked item. champion: None where there is none. comparison: challenger as A
    against champion as B on these, None where there are none. baselines: without a champion, nDCG@10 of the challenger
    less that of each baseline on these. audit: None where it was not run."""

    challenger: str
    champion: str | None
    learnt_until: str
    n_lists: int
    n_users: int
    comparison: Comparison | None
    costs: Mapping[str, ServingCost]
    audit: AuditVerdict | None
    baselines: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The outcome and its evidence. reasons: against a promotion; empty for none.
    folder, fingerprint: the data it was measured on. time: ISO 8601. run_id: where it is recorded."""

    evidence: Evidence
    settings: Settings
    reasons: tuple[str, ...]
    forced: bool
    folder: str
    fingerprint: str
    time: str
    run_id: str = ""

    @property
    def outcome(self) -> str:
        """promoted, forced (promoted in spite of reasons against it) or refused."""
        if not self.reasons:
            return PROMOTED
        return FORCED if self.forced else REFUSED

    @property
    def promoted(self) -> bool:
        """Whether the challenger becomes the champion."""
        return self.outcome != REFUSED

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys promote --json`."""
        evidence = self.evidence
        audit = evidence.audit
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "challenger": evidence.challenger,
            "champion": evidence.champion,
            "time": self.time,
            "data": {"folder": self.folder, "fingerprint": self.fingerprint},
            "learnt_until": evidence.learnt_until,
            "lists": evidence.n_lists,
            "users": evidence.n_users,
            "baselines": jsonable(evidence.baselines),
            "comparison": None if evidence.comparison is None else evidence.comparison.as_dict(),
            "costs": jsonable(evidence.costs),
            "audit": None if audit is None else {"passed": audit.passed, "lines": audit.lines()},
            "settings": self.settings.model_dump(mode="json"),
            "run_id": self.run_id,
        }

    def tags(self) -> dict[str, str]:
        """The figures as tags of a model version, without the outcome."""
        evidence, difference = self.evidence, {}
        if evidence.comparison is not None:
            parts = jsonable(evidence.comparison.difference)
            difference = {f"promotion.difference.{name}": str(value) for name, value in parts.items()}
        cost = evidence.costs[evidence.challenger]
        return {
            "promotion.time": self.time,
            "promotion.champion": evidence.champion or "none",
            "promotion.metric": LIFT_METRIC,
            "promotion.margin": str(self.settings.margin),
            **difference,
            "promotion.lists": str(evidence.n_lists),
            "promotion.users": str(evidence.n_users),
            "promotion.learnt_until": evidence.learnt_until,
            "promotion.data": self.folder,
            "promotion.data_fingerprint": self.fingerprint,
            "promotion.audit": _audit_word(evidence.audit),
            "promotion.megabytes": f"{cost.megabytes:.1f}",
            "promotion.milliseconds": f"{cost.milliseconds:.2f}",
            "promotion.reasons": "; ".join(self.reasons) or "none",
            "promotion.forced": str(self.outcome == FORCED).lower(),
            "promotion.run_id": self.run_id,
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        evidence = self.evidence
        compared = [] if evidence.comparison is None else [*evidence.comparison.lines(), ""]
        compared += [
            f"over {name}: {format_interval(lift, signed=True)} {LIFT_METRIC}"
            for name, lift in evidence.baselines.items()
        ]
        costs = [
            f"{name}: {cost.megabytes:.1f} MB, {cost.milliseconds:.1f} ms for {count(cost.candidates, 'candidate')}"
            for name, cost in evidence.costs.items()
        ]
        audit = [] if evidence.audit is None else evidence.audit.lines()
        replaced = f" in place of {evidence.champion}" if evidence.champion else ", the first one"
        stays = f"{evidence.champion} stays the champion" if evidence.champion else "there is still no champion"
        verdicts = {
            PROMOTED: f"promoted: {evidence.challenger} is the champion{replaced}",
            FORCED: f"forced: {evidence.challenger} is the champion{replaced}, in spite of",
            REFUSED: f"refused: {stays}, because",
        }
        return [*compared, *costs, *audit, verdicts[self.outcome], *(f"  {reason}" for reason in self.reasons)]


def reasons_against(evidence: Evidence, settings: Settings) -> tuple[str, ...]:
    """The reasons against the promotion as sentences; empty for none."""
    return (
        *_too_few(evidence, settings),
        *_no_gain(evidence, settings),
        *_worse_than_baseline(evidence),
        *_audit(evidence),
        *_too_costly(evidence, settings),
    )


def _too_few(evidence: Evidence, settings: Settings) -> list[str]:
    if evidence.n_lists >= settings.min_lists and evidence.n_users >= settings.min_users:
        return []
    return [
        f"too little to judge by: {count(evidence.n_lists, 'list')} of {count(evidence.n_users, 'user')} later than "
        f"every label, validation and early stopping that either version used ({evidence.learnt_until}), expected at "
        f"least {settings.min_lists} of {settings.min_users} (promotion.min_lists, promotion.min_users); the others "
        "overlap with what was learnt from"
    ]


def _no_gain(evidence: Evidence, settings: Settings) -> list[str]:
    if evidence.comparison is None:
        return []
    difference = evidence.comparison.difference
    if difference.low > settings.margin:
        return []
    gain = format_interval(difference, signed=True)
    if np.isnan(difference.low):
        return [f"the gain in {LIFT_METRIC} is {gain}, without an interval: all lists are one user's"]
    return [
        f"the gain in {LIFT_METRIC} is {gain}: the lower end, {difference.low:+.4f}, is not above the margin of "
        f"{settings.margin:+.4f} (promotion.margin)"
    ]


def _worse_than_baseline(evidence: Evidence) -> list[str]:
    lifts = evidence.baselines
    return [
        f"it is worse than {name}: {format_interval(lifts[name], signed=True)} {LIFT_METRIC}"
        for name in better_baselines(lifts)
    ]


def _audit(evidence: Evidence) -> list[str]:
    if evidence.audit is None:
        return ["the leak audit was not run"]
    return [] if evidence.audit.passed else ["the leak audit found something: " + "; ".join(evidence.audit.lines())]


def _too_costly(evidence: Evidence, settings: Settings) -> list[str]:
    cost = evidence.costs[evidence.challenger]
    reasons = []
    if cost.megabytes > settings.max_megabytes:
        reasons.append(
            f"it takes {cost.megabytes:.1f} MB, more than {settings.max_megabytes:g} (promotion.max_megabytes)"
        )
    if not cost.milliseconds <= settings.max_milliseconds:
        reasons.append(
            f"it takes {cost.milliseconds:.1f} ms to rank {count(cost.candidates, 'candidate')}, more than "
            f"{settings.max_milliseconds:g} (promotion.max_milliseconds)"
        )
    return reasons


def _audit_word(audit: AuditVerdict | None) -> str:
    if audit is None:
        return "not run"
    return "passed" if audit.passed else "failed"
