"""The report of `recsys monitor`: for a person, as JSON, and what raises an alarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recsys.evaluation.report import LIFT_METRIC, count, format_interval
from recsys.evaluation.text_table import text_table
from recsys.metrics.bootstrap import Interval
from recsys.monitoring.drift import ColumnDrift
from recsys.monitoring.online_figures import OnlineFigures
from recsys.settings.monitor import MonitorConfig

SHOWN = 20
"""Columns in the printed table; JSON and HTML have all."""


@dataclass(frozen=True)
class SampleSize:
    """What a distribution is of. lists, users: 0 for texts alone. period: its first and last time, "" where unknown."""

    source: str
    lists: int
    users: int
    period: str = ""

    def __str__(self) -> str:
        size = f", {count(self.lists, 'list')} of {count(self.users, 'user')}" if self.lists else ""
        return f"{self.source}{size}{f', {self.period}' if self.period else ''}"


@dataclass(frozen=True)
class MonitorReport:
    """What a version was evaluated on, what came, and how they differ. drifts: the largest first. notes: what could not
    be compared, and why."""

    version: str
    before: SampleSize
    after: SampleSize
    drifts: tuple[ColumnDrift, ...]
    online: tuple[OnlineFigures, ...]
    settings: MonitorConfig
    notes: tuple[str, ...] = ()

    @property
    def alarms(self) -> list[str]:
        """A sentence for each column and each served version that raises an alarm."""
        found = [drift.alarm(self.settings) for drift in self.drifts]
        found += [figures.alarm(self.settings) for figures in self.online]
        return [alarm for alarm in found if alarm]

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys monitor --json`."""
        return {
            "model": self.version,
            "alarms": self.alarms,
            "reference": _size_dict(self.before),
            "now": _size_dict(self.after),
            "drift": [drift.as_dict(self.settings) for drift in self.drifts],
            "online": [figures.as_dict(self.settings) for figures in self.online],
            "settings": self.settings.model_dump(mode="json"),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The report for a person: the columns that moved most, what was served, and the alarms."""
        lines = [f"{self.version}", f"evaluated on: {self.before}", f"compared with: {self.after}", ""]
        if self.drifts:
            rows = [["column", "kind", "PSI", "KS", "was", "is", ""]]
            rows += [_drift_cells(drift, self.settings) for drift in self.drifts[:SHOWN]]
            lines += [text_table(rows), ""]
            hidden = len(self.drifts) - SHOWN
            lines += [f"{hidden} more columns moved less; --json and --html have all", ""] if hidden > 0 else []
        if self.online:
            rows = [["version", "day", "lists", "users", "clicked", "promised", LIFT_METRIC, "promised", ""]]
            rows += [_online_cells(figures, self.settings) for figures in self.online]
            lines += [text_table(rows), ""]
        lines += list(self.notes)
        alarms = self.alarms
        return [*lines, *(alarms or ["no alarm"])]

    def headline(self) -> str:
        """One line that names everything that raises an alarm, "" for nothing."""
        names = [f"{drift.kind} {drift.name}" for drift in self.drifts if drift.alarm(self.settings)]
        names += [f"{item.version} on {item.day}" for item in self.online if item.alarm(self.settings)]
        return f"{count(len(names), 'alarm')}: {', '.join(names)}" if names else ""


def format_drift(interval: Interval | None) -> str:
    """Like `0.31 [0.22, 0.40]`; a dash for none."""
    if interval is None:
        return "-"
    if interval.low != interval.low:
        return f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _drift_cells(drift: ColumnDrift, settings: MonitorConfig) -> list[str]:
    mark = "alarm" if drift.alarm(settings) else "not judged" if drift.unjudged else ""
    return [drift.name, drift.kind, format_drift(drift.psi), format_drift(drift.ks), drift.before, drift.after, mark]


def _online_cells(figures: OnlineFigures, settings: MonitorConfig) -> list[str]:
    promise = figures.promise
    return [
        figures.version,
        figures.day,
        f"{figures.lists:,}",
        f"{figures.users:,}",
        format_interval(figures.clicked),
        "-" if promise is None else format_interval(promise.clicked),
        format_interval(figures.ndcg_at_10),
        "-" if promise is None else format_interval(promise.ndcg_at_10),
        "alarm" if figures.alarm(settings) else "",
    ]


def _size_dict(size: SampleSize) -> dict[str, Any]:
    return {"source": size.source, "lists": size.lists, "users": size.users, "period": size.period}
