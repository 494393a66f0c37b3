"""`recsys doctor`: what this machine can do, and what is missing or broken.

Reads the configuration, the installed packages, the machine, MLflow's store and the folders. Writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recsys.config import Config
from recsys.diagnosis.base_models import base_model_checks
from recsys.diagnosis.check import BROKEN, Check
from recsys.diagnosis.libraries import library_checks
from recsys.diagnosis.machine import machine_checks
from recsys.diagnosis.places import place_checks


@dataclass(frozen=True)
class Diagnosis:
    """The checks of a machine."""

    checks: tuple[Check, ...]

    @property
    def broken(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == BROKEN)

    @property
    def passed(self) -> bool:
        """Whether nothing is broken."""
        return not self.broken

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys doctor --json`."""
        return {"passed": self.passed, "checks": [check.as_dict() for check in self.checks]}

    def lines(self) -> list[str]:
        """The report for a person; the last line is the verdict."""
        names = ", ".join(check.name for check in self.broken)
        verdict = "nothing is broken" if self.passed else f"broken: {names}"
        return [*(check.line() for check in self.checks), verdict]


def examine(config: Config) -> Diagnosis:
    """Every check, for the base model and the arithmetic that the configuration names."""
    return Diagnosis((*library_checks(), *machine_checks(config), *base_model_checks(config), *place_checks()))
