"""What can be measured of item texts in any language: their length, their script, and the words that are new."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from features.arrays import Float64, Int64
from recsys.monitoring.histogram import Histogram, deal_groups, label_histogram, number_histogram
from recsys.ranker.tfidf import tokenize

CHARACTERS, UNKNOWN_WORDS, SCRIPT = "characters", "unknown words", "script"
NO_LETTERS = "no letters"
MOST_TEXTS = 20_000
"""Of more texts, so many at even distances are measured."""


def text_histograms(texts: Sequence[str], terms: Sequence[str]) -> dict[str, Histogram]:
    """The measures of item texts, by name. terms: known ones, as TF-IDF has them; without any, words are not measured.

    Empty without a text. An item counts once, however often it is shown.
    """
    chosen = sample_texts(texts)
    if not chosen:
        return {}
    group = _groups(chosen)
    known = frozenset(terms)
    found = {CHARACTERS: number_histogram(_characters(chosen), group), SCRIPT: label_histogram(_scripts(chosen), group)}
    if known:
        found[UNKNOWN_WORDS] = number_histogram(_unknown_words(chosen, known), group)
    return found


def text_histograms_like(
    before: Mapping[str, Histogram], texts: Sequence[str], terms: Sequence[str]
) -> dict[str, Histogram]:
    """The same measures of other texts, in the same bins."""
    chosen = sample_texts(texts)
    if not chosen:
        return {}
    group = _groups(chosen)
    known = frozenset(terms)
    found = {}
    for name, histogram in before.items():
        if name == SCRIPT:
            found[name] = histogram.count_labels(_scripts(chosen), group)
        elif name == CHARACTERS:
            found[name] = histogram.count_numbers(_characters(chosen), group)
        elif name == UNKNOWN_WORDS and known:
            found[name] = histogram.count_numbers(_unknown_words(chosen, known), group)
    return found


def sample_texts(texts: Sequence[str]) -> list[str]:
    """The texts that are measured: those that are not empty, or some of them at even distances."""
    present = [text for text in texts if text]
    if len(present) <= MOST_TEXTS:
        return present
    return [present[i] for i in np.linspace(0, len(present) - 1, MOST_TEXTS).astype(np.int64)]


def main_script(text: str) -> str:
    """The script that most letters of a text are of, in Unicode's word for it.

    >>> main_script("Red shoes 红"), main_script("红色的鞋"), main_script("1984")
    ('latin', 'cjk', 'no letters')
    """
    letters = Counter(script for script in map(_script, text) if script)
    return letters.most_common(1)[0][0] if letters else NO_LETTERS


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    """The first word of a letter's name, "" for what is no letter."""
    if not character.isalpha():
        return ""
    return unicodedata.name(character, NO_LETTERS).partition(" ")[0].lower()


def _groups(texts: Sequence[str]) -> Int64:
    return deal_groups(np.arange(len(texts)))


def _characters(texts: Sequence[str]) -> Float64:
    return np.array([len(text) for text in texts], np.float64)


def _scripts(texts: Sequence[str]) -> list[str]:
    return [main_script(text) for text in texts]


def _unknown_words(texts: Sequence[str], known: frozenset[str]) -> Float64:
    """Share of the terms of each text that are not known; NaN where a text has none."""
    shares = []
    for text in texts:
        terms = tokenize(text)
        shares.append(sum(term not in known for term in terms) / len(terms) if terms else np.nan)
    return np.array(shares, np.float64)
