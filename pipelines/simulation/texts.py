"""Titles and descriptions of simulated items: one topic in many wordings, set into the sentences of a newspaper.

A topic has three concepts (who acts, what they do, what it is about) and each concept several wordings that share few
words. An item is written in one wording of each concept for its title and often another for its description, and two
items of one topic often share no word that tells the topic, while the sentences around it are shared by all topics.
A language is a `Language` value: word lists and sentences. English stands here, Chinese in
`pipelines.simulation.chinese`; lists of one length in every language keep the draws, and so the site, the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import Int32, Int64, Strings


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


def english() -> Language:
    """The English of an American newspaper: 12 categories of 6 topics."""
    return Language(topics_of("english"), _TITLES, _DESCRIPTIONS, _WHERE, _WHEN, _SOURCE)


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


def topics_of(language: str) -> tuple[Topic, ...]:
    """The topics of `words/LANGUAGE.txt`.

    A line `[category]` opens a category. A topic has three lines: its name and who acts, what they do, and what it is
    about, each in several wordings of one meaning that share as few words as they can.
    """
    topics: list[Topic] = []
    category = ""
    words = Path(__file__).with_name("words") / f"{language}.txt"
    lines = iter(line for line in words.read_text(encoding="utf-8").splitlines() if line)
    for line in lines:
        if line.startswith("["):
            category = line.strip("[]")
            continue
        name, _, who = line.partition(": ")
        concepts = (who, next(lines).removeprefix(". "), next(lines).removeprefix(". "))
        topics.append(Topic(category, name, *(tuple(concept.split("; ")) for concept in concepts)))
    return tuple(topics)


_OTHER_WORDING = 0.7

_TITLES = (
    "{who} {does} {when}",
    "{who} {does} in {where}",
    "{who} {does} ahead of {what}",
    "{who} {does} amid talk of {what}",
    "{where}'s {who} {does}",
    "Why {who} {does} after {what}",
    "How {who} {does}, from {where} to the nation",
    "In {where}, {who} look beyond {what}",
    "What {what} will mean for {who}",
    "{what}: what {source} learned from {who}",
    "{who} {does}. Is {what} next?",
    "The week that {what} came to {where}",
    "{source}: {who} {does}",
    "Inside the push by {who} to {does}",
)

_DESCRIPTIONS = (
    "As {who} {does}, {source} in {where} say that {what} could matter more than anyone expected {when}.",
    "A closer look at {what}, and at what happens when {who} {does}. Our reporters spent a month in {where}.",
    "Few people saw it coming: {who} {does}, and {what} may never look the same, according to {source}.",
    "{source} explain what to know about {what} {when}, and why so many {who} are paying attention.",
    "For years it was only an idea. Now {who} in {where} {does}, with {what} on the line {when}.",
    "It began with {what}. Then, {when}, came the news from {where} that {who} would {does}.",
    "The story of how {who} {does}, told by those who were there, with lessons on {what} from {source}.",
    "Readers in {where} asked us about {what}. We put five of their questions to {who} and to {source}.",
    "{when}, {who} are expected to {does}. Here is what that says about {what} and about {where}.",
    "There is more than one way to see {what}, say {source}, as {who} {does} from {where} to the coast.",
)

_WHERE = (
    "Ohio", "Texas", "Chicago", "Boston", "Florida", "Seattle", "Denver", "Atlanta", "Michigan", "Oregon",
    "Phoenix", "Detroit", "Brooklyn", "Nashville", "Vermont", "Minnesota", "Baltimore", "Houston", "Nevada", "Georgia",
    "Philadelphia", "Wisconsin", "San Diego", "Kentucky", "Pittsburgh", "New Jersey", "Miami", "Maine", "Utah",
)  # fmt: skip

_WHEN = (
    "this week", "this year", "once again", "before summer", "after a long wait", "for the first time", "this weekend",
    "in record numbers", "despite the doubts", "as never before", "by the end of the month", "one year on",
)  # fmt: skip

_SOURCE = (
    "experts", "insiders", "local leaders", "three veterans", "longtime observers", "new reports", "critics",
    "the people involved", "our columnists", "early figures", "neighbors", "two studies", "skeptics", "old hands",
)  # fmt: skip
