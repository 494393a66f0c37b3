"""Sections of a report on the lists: slices, calibration, examples of lists that changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from recsys.evaluation.examples import Example, ExampleItem, RankChange
from recsys.evaluation.report import LIFT_METRIC, count, format_interval
from recsys.evaluation.slices import FEW_USERS
from recsys.metrics.calibration import Calibration
from recsys.report.charts import Strip, interval_chart, reliability_chart
from recsys.report.content import ReportData
from recsys.report.html import Html, element, join, paragraph, table, words

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def slices_section(content: ReportData) -> Html | None:
    """The compared methods on parts of the lists."""
    lift = content.compared
    if lift is None or not content.slices:
        return None
    rows = []
    for one in content.slices:
        before, after, change = one.intervals
        few = " (few)" if one.n_users < FEW_USERS else ""
        size = f"{count(one.n_lists, 'list')} of {count(one.n_users, 'user')}{few}; "
        numbers = element("span", {"class": "number"}, f"{format_interval(before)} to {format_interval(after)}")
        note = join([size, numbers])
        label = words(one.name) if one.value else Html(one.name)
        rows.append(Strip(label, change, format_interval(change, signed=True), note))
    how = paragraph(
        f"In small: {LIFT_METRIC} of {lift.over}, then of {lift.method}; the mark is their difference, list by list. "
        f"Slices overlap, and of twenty slices one may leave zero by chance. Few: under {FEW_USERS} users, a hint "
        "only. On cold clicked items only cold candidates are ranked."
    )
    axis = f"{lift.method} over {lift.over}: difference in {LIFT_METRIC}, 95% interval over users"
    return join([interval_chart(rows, of="slice", axis=axis, zero=True), element("div", {"class": "how"}, how)])


def calibration_section(content: ReportData) -> Html | None:
    """Predicted against observed click probability."""
    found = content.calibration
    if found is None:
        return None
    chart = reliability_chart(
        [(one.predicted, one.clicked) for one in found.bins], x="predicted click probability", y="clicked share of rows"
    )
    rows = [[_bin(i), f"{one.predicted:.3f}", format_interval(one.clicked), f"{one.n_rows:,}"]
            for i, one in enumerate(found.bins, start=1)]  # fmt: skip
    caption = element(
        "figcaption", None, "Dots on the diagonal are right on average; lines are 95% intervals over users."
    )
    return join(
        [
            paragraph(_sizes(content.calibrated, found)),
            element("div", {"class": "charts"}, element("figure", None, caption, chart)),
            table(["rows by predicted probability", "predicted", "clicked, with interval", "rows"], rows),
            element("div", {"class": "how"}, *_meaning(found)),
        ]
    )


def examples_section(content: ReportData) -> Html | None:
    """The lists that changed most."""
    found, lift = content.examples, content.compared
    if found is None or lift is None:
        return None
    parts = [
        paragraph(
            f"Of {count(found.n_lists, 'test list')}, {lift.method} orders {found.better:,} better than {lift.over}, "
            f"{found.worse:,} worse and {found.same:,} alike. These are the largest changes, one list a user: "
            "extremes, for a feeling of what moves and not as evidence."
        )
    ]
    for title, examples in (("Became better", found.improved), ("Became worse", found.worsened)):
        parts.append(element("h3", None, title))
        parts += [_example(one, lift.over, lift.method) for one in examples] or [paragraph("None.")]
    return join(parts)


def _bin(number: int) -> str:
    return f"bin {number}, lowest" if number == 1 else f"bin {number}"


def _sizes(method: str, found: Calibration) -> str:
    return (
        f"Scores of {method} mapped to click probabilities on the older {count(found.n_fitted, 'list')}, looked up on "
        f"the newer {count(found.n_lists, 'list')} of {count(found.n_users, 'user')}, {found.n_rows:,} rows, of which "
        f"{found.base_rate:.1%} were clicked. Mean distance from the diagonal: {found.error:.4f}."
    )


def _meaning(found: Calibration) -> list[Html]:
    parts = [
        paragraph(
            "A ranker is trained to order a list. Its scores have no unit, and a mapping that keeps their order "
            "changes no ranking, so nothing here makes the ranker better or worse. It tells whether scores can be "
            "compared between lists and used as probabilities, for a threshold or an expected value."
        )
    ]
    if found.sampled:
        parts.append(
            paragraph(
                f"{found.sampled:,} of these lists are made up from events with sampled unclicked items: the "
                "probabilities are those of such lists, not of what people were shown."
            )
        )
    return parts


def _example(one: Example, over: str, method: str) -> Html:
    kind = "good" if one.change > 0 else "bad"
    head = element(
        "h3",
        None,
        f"{LIFT_METRIC} {one.before:.3f} to {one.after:.3f} (",
        element("span", {"class": kind}, f"{one.change:+.3f}"),
        ")",
    )
    when = (_EPOCH + timedelta(microseconds=one.time)).strftime("%Y-%m-%d %H:%M UTC")
    about = join(
        ["impression ", words(one.impression_id), f", {when}, {count(one.n_candidates, 'candidate')}, "
         f"{count(len(one.moved), 'click')}"]
    )  # fmt: skip
    known = count(one.history_length, "item")
    recent = [element("h4", None, f"Clicked before, newest first (history of {known})")]
    recent.append(_titles("ul", one.recent) if one.recent else paragraph("Nothing: a user without history."))
    sides = element(
        "div",
        {"class": "sides"},
        element("div", None, element("h4", None, f"First ranks by {over}"), _titles("ol", one.top_before)),
        element("div", None, element("h4", None, f"First ranks by {method}"), _titles("ol", one.top_after)),
    )
    moved = element("ul", None, *(element("li", None, _moved(item)) for item in one.moved))
    title = element("h4", None, f"Clicked in this list: rank by {over}, then by {method}")
    return element("article", {"class": "example"}, head, element("small", None, about), *recent, sides, title, moved)


def _titles(kind: str, items: Sequence[ExampleItem]) -> Html:
    lines = []
    for item in items:
        lines.append(element("li", {"class": "clicked"} if item.clicked else None, _name(item)))
    return element(kind, None, *lines)


def _name(item: ExampleItem) -> Html:
    return words(item.title or f"item {item.item_id} (no title)")


def _moved(moved: RankChange) -> Html:
    return join([_name(moved.item), f": {moved.before} to {moved.after}"])
