"""Self-contained HTML pages: the report, and single figures. Jinja2 escapes all values."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from jinja2 import Environment, PackageLoader, StrictUndefined

from recsys.evaluation.report import count, format_interval, verdict
from recsys.monitoring.report import MonitorReport
from recsys.report.content import ReportData
from recsys.report.drift_charts import drift_chart, online_charts
from recsys.report.figures import Figure
from recsys.report.sections import SECTIONS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def report_page(content: ReportData) -> str:
    """The report as one HTML document: a headline, and each section that has something to show."""
    pairs = [(section, section.values(content)) for section in SECTIONS]
    sections = [(section, values) for section, values in pairs if values is not None]
    return render("page.html", title=content.title, content=content, sections=sections)


def figure_page(figure: Figure) -> str:
    """A figure as an HTML document of its own."""
    return render("figure.html", title=figure.title, charts=figure.charts)


def render(template: str, **values: object) -> str:
    """A template of this package as one HTML document."""
    return _ENVIRONMENT.get_template(template).render(values)


def monitor_page(report: MonitorReport) -> str:
    """The report of `recsys monitor` as an HTML document: the alarms, what drifted, and what was served by day."""
    drift, online = drift_chart(report), online_charts(report)
    template = _ENVIRONMENT.get_template("monitor.html")
    return template.render(title=f"{report.version}: drift", report=report, drift=drift, online=online)


def _minute(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%d %H:%M UTC")


def _tick(value: float) -> str:
    return f"{0.0 if math.isclose(value, 0.0, abs_tol=1e-12) else value:.4g}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recsys.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "figure": format_interval,
        "minute": _minute,
        "tick": _tick,
        "verdict": verdict,
    }
    environment.tests["finite"] = math.isfinite
    return environment


_ENVIRONMENT = _environment()
