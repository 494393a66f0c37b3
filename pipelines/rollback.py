"""`recsys rollback`: the champion before the latest promotion is the champion again.

Moves the alias and writes a tag of the version that loses it. Loads no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recsys.registry import aliases, tracking
from recsys.registry.names import Version, ranker_name


@dataclass(frozen=True)
class Rollback:
    """Which version gave the alias back to which."""

    undone: Version
    champion: Version

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys rollback --json`."""
        return {"undone": self.undone.uri, "champion": self.champion.uri}

    def lines(self) -> list[str]:
        """The report for a person."""
        return [f"{self.champion} is the champion again, in place of {self.undone}"]


def rollback(*, name: str = "recsys") -> Rollback:
    """Give the alias `champion` of NAME-ranker back to the version that had it before the latest promotion."""
    tracking.connect()
    undone, champion = aliases.rollback(ranker_name(name))
    aliases.set_version_tags(undone, {"promotion.rolled_back": datetime.now(UTC).isoformat(timespec="seconds")})
    return Rollback(undone, champion)
