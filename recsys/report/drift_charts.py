"""The charts of `recsys monitor`: PSI by column, and what was served by version and day."""

from __future__ import annotations

from recsys.evaluation.report import LIFT_METRIC, count, format_interval
from recsys.metrics.bootstrap import Interval
from recsys.monitoring.drift import ColumnDrift
from recsys.monitoring.online_figures import OnlineFigures
from recsys.monitoring.report import MonitorReport, format_drift
from recsys.report.charts import IntervalChart, IntervalRow

PROMISED = "promised"


def drift_chart(report: MonitorReport) -> IntervalChart:
    """PSI of every column, the largest first."""
    rows = [_drift_row(drift, report) for drift in report.drifts]
    axis = f"PSI, 95% interval over users; alarm above {report.settings.psi:g}"
    return IntervalChart(rows, "column", axis, from_zero=True)


def online_charts(report: MonitorReport) -> dict[str, list[IntervalChart]]:
    """Click rate and nDCG@10 of each version by day, below what was promised."""
    charts = {}
    for version in dict.fromkeys(figures.version for figures in report.online):
        of_version = [figures for figures in report.online if figures.version == version]
        charts[version] = [_online_chart(of_version, report, name) for name in ("clicked", LIFT_METRIC)]
    return charts


def _drift_row(drift: ColumnDrift, report: MonitorReport) -> IntervalRow:
    mark = "alarm: " if drift.alarm(report.settings) else "not judged: " if drift.unjudged else ""
    ks = "" if drift.ks is None else f"; KS {format_drift(drift.ks)}"
    note = f"{mark}{drift.kind}; {drift.before} to {drift.after}{ks}"
    return IntervalRow(drift.name, drift.psi, format_drift(drift.psi), note)


def _online_chart(of_version: list[OnlineFigures], report: MonitorReport, name: str) -> IntervalChart:
    rows = []
    promise = of_version[0].promise
    if promise is not None:
        rows.append(_interval_row(PROMISED, getattr(promise, name), "by the evaluation"))
    for figures in of_version:
        alarm = "; alarm" if figures.alarm(report.settings) else ""
        note = f"{count(figures.lists, 'list')} of {count(figures.users, 'user')}{alarm}"
        rows.append(_interval_row(figures.day, getattr(figures, name), note))
    words = {"clicked": "share of lists with a click", LIFT_METRIC: LIFT_METRIC}
    return IntervalChart(rows, "day", f"{words[name]}, 95% interval over users")


def _interval_row(label: str, interval: Interval, note: str) -> IntervalRow:
    return IntervalRow(label, interval, format_interval(interval), note)
