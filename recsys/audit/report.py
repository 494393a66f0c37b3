"""The report of an audit: rules and findings, for people, for JSON and for MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recsys.audit.finding import Finding, RuleResult
from recsys.metrics.bootstrap import Interval
from recsys.metrics.jsonable import jsonable


@dataclass(frozen=True)
class AuditReport:
    """checked: every rule that ran, in order. seconds: of each, by rule. n_columns: of the ranker's matrix.

    gains: what the allowed features that are known only afterwards add to the ranker's nDCG@10 on
    test; there is no such gain online.
    """

    checked: tuple[RuleResult, ...]
    n_columns: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, in the order of the rules."""
        return tuple(finding for result in self.checked for finding in result.findings)

    @property
    def passed(self) -> bool:
        """Whether there is no finding."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys audit --json`."""
        return {
            "passed": self.passed,
            "columns": self.n_columns,
            "rules": [
                {
                    "rule": result.rule,
                    "looked_at": result.examined,
                    "findings": len(result.findings),
                    "seconds": round(self.seconds.get(result.rule, 0.0), 3),
                }
                for result in self.checked
            ],
            "findings": [finding.as_dict() for finding in self.findings],
            "known_after_gain": jsonable(self.gains),
        }

    def lines(self) -> list[str]:
        """The report for a person; the last line is the figure."""
        width = max((len(result.rule) for result in self.checked), default=0)
        rules = [
            f"{'FAIL' if result.findings else 'ok':4}  {result.rule:{width}}  {result.examined}"
            + (f": {len(result.findings)} found" if result.findings else "")
            for result in self.checked
        ]
        gains = [
            f"known only afterwards, allowed: {name} adds {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] nDCG@10 "
            "on test, a gain that serving does not have"
            for name, gain in self.gains.items()
        ]
        findings = [line for finding in self.findings for line in ("", *finding.lines())]
        n = len(self.findings)
        figure = f"{n} finding{'' if n == 1 else 's'} in {len(self.checked)} rules over {self.n_columns} columns"
        return [*rules, *gains, *findings, *([""] if findings else []), figure]
