"""The report of an import of MIND's files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class MindReport:
    """Figures of an import. undescribed: items of an impression or a history without a row in news.
    history_events: written once a user. differing_histories: users whose rows disagree on their history. rejected:
    rows of both files left out, by reason."""

    items: int
    undescribed: int
    impressions: int
    candidates: int
    clicks: int
    users: int
    history_events: int
    differing_histories: int
    rejected: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for a person."""
        lines = [
            f"{self.items:,} described items, {self.undescribed:,} more without a description",
            f"{self.impressions:,} impressions with {self.candidates:,} candidates and {self.clicks:,} clicks",
            f"{self.users:,} users with {self.history_events:,} history events",
        ]
        if self.differing_histories:
            lines.append(f"{self.differing_histories:,} users have several histories; the earliest one holds")
        return lines + [f"rejected: {count:,} x {reason}" for reason, count in self.rejected.items()]
