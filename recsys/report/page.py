"""The page: a head with its style, a list of sections, and each section that has something to tell.

page(content) -> str, one HTML file that refers to nothing outside itself
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recsys.report.content import ReportData
from recsys.report.html import Html, element, join, paragraph
from recsys.report.list_sections import calibration_section, examples_section, slices_section
from recsys.report.model_sections import contributions_section, curves_section, gains_section
from recsys.report.result_sections import cold_section, data_section, headline, lifts_section, results_section

_STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True)
class ReportSection:
    """A part of the page. key: its anchor. render: its markup, None where the content has nothing for it."""

    key: str
    title: str
    render: Callable[[ReportData], Html | None]


SECTIONS = (
    ReportSection("results", "Results", results_section),
    ReportSection("lifts", "Lifts", lifts_section),
    ReportSection("slices", "Slices", slices_section),
    ReportSection("cold", "Cold items and users", cold_section),
    ReportSection("curves", "Learning curves", curves_section),
    ReportSection("gains", "What the trees split on", gains_section),
    ReportSection("contributions", "What moves the scores", contributions_section),
    ReportSection("calibration", "Scores as probabilities", calibration_section),
    ReportSection("examples", "Lists that changed", examples_section),
    ReportSection("data", "Data, slices and models", data_section),
)
"""The sections in their order; to add one, add a line."""


def page(content: ReportData) -> str:
    """The report as one HTML document."""
    shown = [(section, body) for section in SECTIONS if (body := section.render(content)) is not None]
    links = element("nav", None, *(element("a", {"href": f"#{one.key}"}, one.title) for one, _ in shown))
    parts = [element("section", {"id": one.key}, element("h2", None, one.title), body) for one, body in shown]
    main = element(
        "main", None, element("h1", None, content.title), paragraph(content.subtitle), headline(content), links, *parts
    )
    head = join(
        [
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", None, content.title),
            Html(f"<style>{_STYLE.read_text(encoding='utf-8')}</style>"),
        ]
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{main}</body></html>\n'
