"""The descriptions of registered versions, as model cards in Markdown: MLflow's page of a version shows them.

What a version is and is worth, its data, metrics with intervals, slices, limits, how to load it, and what it must not
be used for. MLflow's database takes `LONGEST` characters; where a card is longer, it leaves out slices, the last first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.config import Config
from recsys.evaluation.report import LIFT_METRIC, count, format_interval, verdict
from recsys.evaluation.slices import SliceResult
from recsys.evaluation.verdict import Verdict

LONGEST = 5000

NOT_FOR = (
    "as a probability of a click, or to compare users: a score orders the candidates of one request and means nothing "
    "beyond it, nor beside a score of another version",
    "on other features, or on a site or in a language other than those of its training data, before `recsys evaluate` "
    "has measured it there",
    "to decide about people, such as credit, work or health, or to infer what they are: it learns what is clicked",
)


@dataclass(frozen=True)
class TrainingFacts:
    """What a training read. folder: name of its data directory. data: the report of the tables, as its JSON. split:
    impressions by slice of the log."""

    folder: str
    data: Mapping[str, Any]
    split: Mapping[str, int]
    config: Config


def ranker_card(verdict_: Verdict, slices: Sequence[SliceResult], facts: TrainingFacts, *, encoder: str | None) -> str:
    """The description of a ranker. slices: intervals of popularity, of what was registered and of their difference.
    encoder: URI of the version whose scores it reads, None for none."""
    name = verdict_.version
    uri = f"models:/{name}"
    reads = f"It reads the text scores of {encoder}, which is loaded with it." if encoder else "It reads no encoder."
    before = ["\n\n".join(verdict_.sentences), _data(facts), _metrics(verdict_), "## Slices"]
    after = [
        _limits(verdict_, facts.config),
        "## How to load",
        reads,
        f"    recsys serve --model {uri}\n    recsys score DIR --candidates FILE --out OUT --model {uri}",
        f"`mlflow.pyfunc.load_model({uri!r})` ranks rows of feature columns.",
        _not_for(NOT_FOR),
    ]
    return _fitting(before, _slice_rows(slices), after)


def encoder_card(verdict_: Verdict, facts: TrainingFacts, *, uri: str) -> str:
    """The description of the encoder `uri`, whose ranker the verdict is on."""
    test, settings = verdict_.evaluation.test, facts.config.encoder
    rows = [
        f"| {method} | {format_interval(test.methods[method][LIFT_METRIC])} |"
        for method in ("tfidf", "text_frozen", "text_head", "text")
        if method in test.methods
    ]
    problem = verdict_.facts.encoder_problem
    state = (
        f"It is the base model as it came, without training: {problem}." if problem else "It is fine-tuned on clicks."
    )
    sections = [
        f"Text encoder of {verdict_.version}, base model `{settings.base_model}`. {state} "
        "It turns the texts of a history and of a candidate into a score.",
        _data(facts),
        f"## Metrics\n\n| method | {LIFT_METRIC} on {_size(verdict_)} |\n|---|---|\n" + "\n".join(rows),
        "## Limits",
        f"Texts are cut after {settings.max_tokens} tokens, histories after {settings.history_length} items.",
        f"{verdict_.facts.unknown_tokens:.0%} of the tokens of its training texts are unknown to the base model.",
        f"## How to load\n\n`mlflow.pyfunc.load_model({uri!r})` scores rows of texts; a ranker loads it by itself.",
        _not_for(NOT_FOR[1:]),
    ]
    return _cut("\n\n".join(sections))


def _data(facts: TrainingFacts) -> str:
    data, split = facts.data, facts.split
    sizes = ", ".join(f"{data[name]:,} {name}" for name in ("items", "users", "events", "impressions"))
    parts = ", ".join(f"{name} {n:,}" for name, n in split.items())
    return (
        f"## Data\n\n`{facts.folder}`: {sizes}, from {data['first']} to {data['last']}; fingerprint "
        f"`{str(data['fingerprint'])[:16]}`. Impressions by slice, in the order of time: {parts}."
    )


def _metrics(verdict_: Verdict) -> str:
    method = verdict_.registered.method
    rows = [
        f"| method | {LIFT_METRIC} | cold items | {method} over it | |",
        "|---|---|---|---|---|",
    ]
    cold = verdict_.evaluation.cold_items
    for name, metrics in verdict_.evaluation.test.methods.items():
        lift = verdict_.lifts.get(name)
        cells = ("registered", "") if lift is None else (format_interval(lift, signed=True), verdict(lift))
        figures = (format_interval(metrics[LIFT_METRIC]), format_interval(cold.methods[name][LIFT_METRIC]))
        rows.append(f"| {name} | {' | '.join((*figures, *cells))} |")
    cold_size = f"{count(cold.n_lists, 'list')} of {count(cold.n_users, 'user')}"
    return "\n\n".join(
        (
            "## Metrics on test",
            f"Means over {_size(verdict_)} with 95% intervals over users. Cold items: {cold_size} whose every clicked "
            "item had few clicks before, ranking cold candidates alone.",
            "\n".join(rows),
        )
    )


def _slice_rows(slices: Sequence[SliceResult]) -> list[str]:
    if not slices:
        return []
    head = [f"| slice | lists | {LIFT_METRIC} | over popularity |", "|---|---|---|---|"]
    return head + [
        f"| {_cell(result.name)} | {result.n_lists:,} | {format_interval(result.intervals[1])} | "
        f"{format_interval(result.intervals[2], signed=True)} |"
        for result in slices
    ]


def _limits(verdict_: Verdict, config: Config) -> str:
    doubts = verdict_.doubts() or ["nothing about the figures is doubtful"]
    if config.final_training:
        doubts.append(
            "what is served has learnt test too, after the evaluation: the figures are of the model before that"
        )
    return "## Limits\n\n" + "\n".join(f"- {doubt}" for doubt in doubts)


def _not_for(uses: Sequence[str]) -> str:
    return "## Not to be used\n\n" + "\n".join(f"- {use}" for use in uses)


def _size(verdict_: Verdict) -> str:
    test = verdict_.evaluation.test
    return f"{count(test.n_lists, 'list')} of {count(test.n_users, 'user')}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _fitting(before: Sequence[str], rows: Sequence[str], after: Sequence[str]) -> str:
    """The sections of a card with as many rows of slices between them as MLflow's database takes."""
    card = ""
    for n in range(len(rows), -1, -1):
        table = "\n".join(rows[:n]) or "None is shown."
        more = [] if n == len(rows) else ["More slices: report.html of the training's run."]
        card = "\n\n".join((*before, table, *more, *after))
        if len(card) <= LONGEST:
            break
    return _cut(card)


def _cut(card: str) -> str:
    return card if len(card) <= LONGEST else card[: LONGEST - 1] + "…"
