"""Titles and descriptions of simulated items: one topic in many wordings, set into the sentences of a newspaper.

A topic has three concepts (who acts, what they do, what it is about) and each concept several wordings that share few
words. An item is written in one wording of each concept for its title and often another for its description, and two
items of one topic often share no word of the topic, while the sentences around it are shared by all topics.
A language is a file in `words/`: word lists and sentences. Lists of one length in every language, and the same places
in their sentences, keep the draws the same, and so the site: its topics, lists and clicks, in other words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import Int32, Int64, Strings

_OTHER_WORDING = 0.7
"""Share of the descriptions' concepts whose wording is drawn again, rather than that of the title."""


@dataclass(frozen=True)
class Topic:
    """A fine topic. who, does, what: wordings of its three concepts."""

    category: str
    name: str
    who: tuple[str, ...]
    does: tuple[str, ...]
    what: tuple[str, ...]


@dataclass(frozen=True)
class Language:
    """What texts are made of. topics: as many for each category, one category after the other.

    titles, descriptions: sentences with places for {who}, {does}, {what}, {where}, {when} and {source}.
    """

    topics: tuple[Topic, ...]
    titles: tuple[str, ...]
    descriptions: tuple[str, ...]
    where: tuple[str, ...]
    when: tuple[str, ...]
    source: tuple[str, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories, in the order of the topics."""
        return tuple(dict.fromkeys(topic.category for topic in self.topics))

    def category_of(self) -> Int32:
        """(n_topics,) position of each topic's category in `categories`."""
        return np.array([self.categories.index(topic.category) for topic in self.topics], np.int32)


def read_language(name: str) -> Language:
    """The language of `words/NAME.txt`.

    A line `# SECTION` opens each field of a `Language`; then a sentence or a word has a line.
    """
    words = Path(__file__).with_name("words") / f"{name}.txt"
    sections: dict[str, list[str]] = {}
    for line in words.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            lines = sections.setdefault(line.removeprefix("# "), [])
        elif line:
            lines.append(line)
    topics = _topics(iter(sections.pop("topics")))
    return Language(topics, **{section: tuple(lines) for section, lines in sections.items()})


def _topics(lines: Iterator[str]) -> tuple[Topic, ...]:
    """The topics of a language.

    A line `[category]` opens a category. A topic has three lines: its name and who acts, what they do, and what it is
    about, each in several wordings of one meaning that share as few words as they can.
    """
    topics: list[Topic] = []
    category = ""
    for line in lines:
        if line.startswith("["):
            category = line.strip("[]")
            continue
        name, _, who = line.partition(": ")
        concepts = (who, next(lines).removeprefix(". "), next(lines).removeprefix(". "))
        topics.append(Topic(category, name, *(tuple(concept.split("; ")) for concept in concepts)))
    return tuple(topics)


def write_texts(language: Language, topic: Int32, rng: np.random.Generator) -> tuple[Strings, Strings]:
    """Titles and descriptions of items on `topic` (n,) codes; two (n,) arrays of strings."""
    n = len(topic)
    sizes = np.array([[len(t.who), len(t.does), len(t.what)] for t in language.topics])[topic]
    title_words = (rng.random((n, 3)) * sizes).astype(np.int64)
    other_words = (rng.random((n, 3)) * sizes).astype(np.int64)
    body_words = np.where(rng.random((n, 3)) < _OTHER_WORDING, other_words, title_words)
    pick = [rng.integers(0, len(words), n) for words in (language.titles, language.descriptions)]
    around = [rng.integers(0, len(words), n) for words in (language.where, language.when, language.source)]
    titles, descriptions = np.empty(n, object), np.empty(n, object)
    for i, code in enumerate(topic):
        where, when, source = (int(column[i]) for column in around)
        setting = (language.where[where], language.when[when], language.source[source])
        subject = language.topics[code]
        titles[i] = _sentence(language.titles[pick[0][i]], subject, title_words[i], setting)
        descriptions[i] = _sentence(language.descriptions[pick[1][i]], subject, body_words[i], setting)
    return titles, descriptions


def _sentence(template: str, topic: Topic, words: Int64, setting: tuple[str, str, str]) -> str:
    filled = template.format(
        who=topic.who[words[0]],
        does=topic.does[words[1]],
        what=topic.what[words[2]],
        where=setting[0],
        when=setting[1],
        source=setting[2],
    )
    parts = filled.split(". ")
    return ". ".join(part[:1].upper() + part[1:] for part in parts)
