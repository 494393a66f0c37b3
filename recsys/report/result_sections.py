"""Sections of a report on the methods: what was read, the result table, lifts, cold slices."""

from __future__ import annotations

from recsys.evaluation.report import LIFT_METRIC, Slice, count, format_interval
from recsys.evaluation.slices import FEW_USERS
from recsys.metrics.bootstrap import Interval
from recsys.metrics.ranking import METRICS
from recsys.report.charts import Strip, interval_chart
from recsys.report.content import ReportData
from recsys.report.html import Html, element, facts, join, paragraph, table

METHOD_WORDS = {
    "random": "at random",
    "popularity": "by clicks on the item before the list",
    "item_knn": "by how often those who clicked the history clicked the item",
    "tfidf": "by words shared with the history",
    "text_frozen": "text encoder as it came, cosine with the history",
    "text_head": "trained attention and head on frozen text vectors",
    "text": "the fine-tuned text encoder alone",
    "behaviour": "ranker without any column that reads text",
    "behaviour_lexical": "the same with TF-IDF",
    "ranker": "ranker with every column",
    "model": "the model under evaluation",
}
LIFT_WORDS = {
    "ranker_over_behaviour": "what text adds to counts and recency",
    "ranker_over_behaviour_lexical": "what the encoder adds to matching words",
    "ranker_over_text": "what behaviour adds to the text encoder",
    "text_over_text_frozen": "what training on clicks added to the base model",
    "text_over_text_head": "what training the upper layers added to the head",
}


def headline(content: ReportData) -> Html:
    """One sentence: whether the first comparison is told apart, by how much, on how many lists."""
    test, lift = content.evaluation.test, content.compared
    if not test.n_lists:
        return paragraph("No list has both a clicked and an unclicked item: there is nothing to measure.")
    if lift is None:
        return paragraph(f"Measured on {_size(test)}.")
    interval = content.evaluation.lifts[lift.name]
    kind, verdict = _verdict(interval)
    sentence = join(
        [
            f"{lift.method} against {lift.over}: {format_interval(interval, signed=True)} {LIFT_METRIC}, ",
            element("strong", {"class": kind}, verdict),
            f", on {_size(test)}.",
        ]
    )
    return element("p", {"class": "headline"}, sentence)


def data_section(content: ReportData) -> Html | None:
    """What was read and made."""
    if not content.facts:
        return None
    notes = [paragraph(note) for note in content.notes]
    return join([facts(content.facts), *notes])


def results_section(content: ReportData) -> Html:
    """Every method and metric with its interval."""
    test = content.evaluation.test
    rows = [
        [_method(name), *(format_interval(metrics[metric]) for metric in METRICS)]
        for name, metrics in test.methods.items()
    ]
    chart = interval_chart(
        [
            Strip(name, metrics[LIFT_METRIC], format_interval(metrics[LIFT_METRIC]))
            for name, metrics in test.methods.items()
        ],
        of="method",
        axis=f"mean {LIFT_METRIC} over lists, 95% interval over users",
    )
    how = paragraph(
        "Each figure is a mean over lists, from 0 to 1, higher is better, with its 95% interval in brackets: where the "
        "mean would lie if other users of the same kind had been drawn. auc: share of clicked and unclicked pairs in "
        "the right order. mrr: 1 / rank of the first click. ndcg_at_5, ndcg_at_10: gain of the first 5 or 10 ranks "
        "over the best possible. Intervals of two methods may overlap although one is better: compare them by lift."
    )
    return join([paragraph(_size(test), " with a clicked and an unclicked item."), _few(test), chart,
                     table(["method", *METRICS], rows), _quiet(how)])  # fmt: skip


def lifts_section(content: ReportData) -> Html | None:
    """Paired differences."""
    evaluation = content.evaluation
    if not evaluation.lifts:
        return None
    rows = []
    for name, interval in evaluation.lifts.items():
        note = "; ".join(part for part in (LIFT_WORDS.get(name, ""), _verdict(interval)[1]) if part)
        rows.append(Strip(name.replace("_over_", " over "), interval, format_interval(interval, signed=True), note))
    how = paragraph(
        "Both methods order the same lists, and the differences are averaged list by list, so what makes a list easy "
        "or hard for everyone cancels out. Right of zero the first one is better. Grey: the interval holds zero, so "
        "these lists do not tell them apart."
    )
    axis = f"difference in {LIFT_METRIC}, paired by list, 95% interval over users"
    return join(
        [
            paragraph(_size(evaluation.test), "."),
            interval_chart(rows, of="comparison", axis=axis, zero=True),
            _quiet(how),
        ]
    )


def cold_section(content: ReportData) -> Html | None:
    """Lists of what and whom little is known."""
    evaluation = content.evaluation
    parts = {"cold items": evaluation.cold_items, "cold users": evaluation.cold_users}
    if not any(part.n_lists for part in parts.values()):
        return None
    rows = [
        [_method(name), *(format_interval(part.methods[name][LIFT_METRIC]) for part in parts.values())]
        for name in evaluation.test.methods
    ]
    sizes = paragraph("; ".join(f"{name}: {_size(part)}" for name, part in parts.items()), ".")
    how = paragraph(
        f"{LIFT_METRIC}. Cold items: every clicked item of the list had few clicks before, and only such candidates "
        "are ranked; these lists are shorter, so compare within the column. Cold users had few clicks before."
    )
    return join([sizes, table(["method", *parts], rows), _quiet(how)])


def _method(name: str) -> Html:
    return join([name, element("small", None, f" {METHOD_WORDS.get(name, '')}")])


def _size(part: Slice) -> str:
    return f"{count(part.n_lists, 'list')} of {count(part.n_users, 'user')}"


def _few(part: Slice) -> Html:
    if part.n_users >= FEW_USERS:
        return Html("")
    return paragraph(f"With fewer than {FEW_USERS} users the intervals are too narrow: read them as hints.")


def _quiet(text: Html) -> Html:
    return element("div", {"class": "how"}, text)


def _verdict(interval: Interval) -> tuple[str, str]:
    """A class of the style sheet and what the interval allows to say."""
    if interval.low > 0:
        return "good", "better"
    if interval.high < 0:
        return "bad", "worse"
    return "quiet", "not told apart" if interval.low == interval.low else "no interval"
