"""Lexical similarity: TF-IDF over words, or over character n-grams where a script writes without spaces.

Fitted once, on the texts of items seen in the encoder slice, and stored as JSON. Sublinear term frequency, smoothed
idf, rows of length 1: with words only, the same numbers as scikit-learn's `TfidfVectorizer(sublinear_tf=True)` but for
the last bits. It is not used: its logarithms and sums differ between CPUs, and it keeps any of equally frequent terms.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from features.arrays import Float32, Float64, Int32, Int64
from features.compiled import compiled
from features.exact import log
from features.history import Histories
from features.log import Requests
from recsys.config import LexicalConfig
from recsys.errors import ModelError

FORMAT = 1
_NGRAMS = (2, 3)
_SPACELESS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0eff"  # Thai, Lao
    "\u1000-\u1049\u1050-\u109d\u1780-\u17d3\u17d7\u17dc\u17dd\u17e0-\u17e9"  # Burmese, Khmer
    "\u3005-\u3007\u3041-\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_OPTIONAL = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200b\u200d-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0100-\U000e01ef"  # no width: directions, joiners, breaks, variants of a glyph
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points and accents
    "\u0610-\u061a\u0640\u064b-\u0652\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]"  # Arabic vowels, stretching
    "|\u200c(?<![\u0600-\u06ff]\u200c)"  # parts words in Persian, and only shapes letters elsewhere
)
"""What writers put or leave out: an item with it and one without it share their terms."""
_HEBREW_QUOTE = re.compile("([\u05d0-\u05ea])[\"'\u2018\u2019\u201c\u201d\u05f3\u05f4](?=[\u05d0-\u05ea])")
"""In abbreviations such as צה״ל, where it parts no words."""
_MARKED = 0x10000
"""Marks are looked for below this: further ones slow the search of every text down, for scripts of few writers."""


@cache
def _runs() -> re.Pattern[str]:
    """Runs of a script without spaces, or words: a letter or digit, then letters, digits and marks of any script."""
    spaceless = re.compile(f"[{_SPACELESS}]")
    marks = [c for c in map(chr, range(_MARKED)) if unicodedata.category(c)[0] == "M" and not spaceless.match(c)]
    return re.compile(f"([{_SPACELESS}]+)|((?:[^\\W_{_SPACELESS}]+[{''.join(marks)}]*)+)")


def normalize_text(text: str) -> str:
    """The text in one compatibility form and case, without optional characters."""
    if text.isascii():
        return text.casefold()
    text = _OPTIONAL.sub("", unicodedata.normalize("NFKC", text))
    return _HEBREW_QUOTE.sub(r"\1", text).casefold()


def tokenize(text: str) -> list[str]:
    """The terms of a text, with repeats: words of two or more characters, and 2- and 3-grams of scripts without spaces.

    A run of one character is a term of its own there, and so is a word of one Korean syllable. Compatibility forms
    (NFKC), case, vowel points of Arabic and Hebrew, and characters without width make no difference.

    >>> tokenize("Red shoes 红色的鞋")
    ['red', 'shoes', '红色', '色的', '的鞋', '红色的', '色的鞋']
    """
    terms = []
    for run, word in _runs().findall(normalize_text(text)):
        if word:
            terms += [word] if len(word) > 1 or "\uac00" <= word <= "\ud7a3" else []
        elif len(run) == 1:
            terms.append(run)
        else:
            terms += [run[i : i + n] for n in _NGRAMS for i in range(len(run) - n + 1)]
    return terms


@dataclass(frozen=True)
class TermRows:
    """TF-IDF rows of n texts: text i has the entries from starts[i] to ends[i], of length 1 together, or none.

    starts, ends: (n,). terms: positions in the model's terms, ascending within a text. values: above 0. n_terms: of the
    model.
    """

    starts: Int64
    ends: Int64
    terms: Int32
    values: Float64
    n_terms: int


@dataclass(frozen=True)
class Lexical:
    """A fitted TF-IDF model. terms: sorted. idf: (n_terms,) inverse document frequency, at least 1."""

    terms: tuple[str, ...]
    idf: Float64

    @cached_property
    def _position(self) -> dict[str, int]:
        return {term: i for i, term in enumerate(self.terms)}

    def transform(self, texts: Sequence[str]) -> TermRows:
        """TF-IDF rows of the texts; without entries where a text has no known term."""
        offsets, positions, values = [0], [], []
        for text in texts:
            counts = Counter(self._position[term] for term in tokenize(text) if term in self._position)
            row = np.array(sorted(counts), np.int32)
            weights = (1.0 + log([counts[i] for i in row.tolist()])) * self.idf[row]
            length = math.sqrt(math.fsum(weights * weights))
            positions.append(row)
            values.append(weights / length if length else weights)
            offsets.append(offsets[-1] + len(row))
        bounds = np.array(offsets, np.int64)
        return TermRows(
            bounds[:-1],
            bounds[1:],
            np.concatenate(positions or [np.zeros(0, np.int32)]),
            np.concatenate(values or [np.zeros(0)]),
            len(self.terms),
        )

    def save(self, path: Path) -> None:
        """Write terms and idf as JSON; what is read back transforms to the same bits."""
        content = {"format": FORMAT, "terms": list(self.terms), "idf": self.idf.tolist()}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def fit_lexical(texts: Sequence[str], config: LexicalConfig) -> Lexical:
    """Terms and idf of texts: terms in at least `min_document_count` texts, the `max_terms` most frequent of them."""
    total: Counter[str] = Counter()
    documents: Counter[str] = Counter()
    for text in texts:
        terms = tokenize(text)
        total.update(terms)
        documents.update(set(terms))
    chosen = [term for term, count in documents.items() if count >= config.min_document_count]
    chosen = sorted(sorted(chosen, key=lambda term: (-total[term], term))[: config.max_terms])
    n = sum(1 for text in texts if text)
    idf = 1.0 + log([(1 + n) / (1 + documents[term]) for term in chosen])
    return Lexical(tuple(chosen), idf)


NO_LEXICAL = Lexical((), np.zeros(0))
"""Without terms: for a ranker that reads no words."""


def load_lexical(path: Path) -> Lexical:
    """The model that `Lexical.save` wrote. Raises ModelError where the file is not one."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {content['format']!r}")
        model = Lexical(tuple(content["terms"]), np.array(content["idf"], np.float64))
        if len(model.terms) != len(model.idf):
            raise ValueError(f"expected one idf a term, got {len(model.idf)} for {len(model.terms)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"lexical model {str(path)!r} cannot be read: {type(error).__name__}: {error}") from error
    return model


def lexical_column(rows: TermRows, requests: Requests, histories: Histories) -> Float32:
    """Cosine of each candidate's text with the mean of the history's texts, (n_rows,), 0 to 1.

    rows: of n_items + 1 texts; code -1 reaches the last one. NaN where the history or the candidate has no known term.
    A value depends on its own request and candidate alone, and has the same bits on every CPU: every sum is taken in
    the order of the history and of the terms.
    """
    cosines = np.full(requests.n_rows, np.nan, np.float32)
    history = (histories.items.offsets, histories.items.codes)
    entries = (rows.starts, rows.ends, rows.terms, rows.values)
    _fill_cosines(entries, rows.n_terms, history, (requests.offsets, requests.item), cosines)
    return cosines


@compiled
def _fill_cosines(
    entries: tuple[Int64, Int64, Int32, Float64],
    n_terms: int,
    history: tuple[Int64, Int32],
    candidates: tuple[Int64, Int32],
    cosines: Float32,
) -> None:
    """`lexical_column`. entries: arrays of `TermRows`. history, candidates: offsets and codes of each request's."""
    starts, ends, terms, values = entries
    total, seen = np.zeros(n_terms), np.empty(n_terms, np.int32)
    for request in range(len(candidates[0]) - 1):
        n_seen = 0
        for position in range(history[0][request], history[0][request + 1]):
            code = history[1][position]
            for entry in range(starts[code], ends[code]):
                term = terms[entry]
                if total[term] == 0.0:
                    seen[n_seen] = term
                    n_seen += 1
                total[term] += values[entry]
        if n_seen == 0:
            continue
        squares = 0.0
        for place in range(n_seen):
            squares += total[seen[place]] * total[seen[place]]
        length = np.sqrt(squares)
        for row in range(candidates[0][request], candidates[0][request + 1]):
            code = candidates[1][row]
            if starts[code] == ends[code]:
                continue
            product = 0.0
            for entry in range(starts[code], ends[code]):
                product += values[entry] * total[terms[entry]]
            cosines[row] = product / length
        for place in range(n_seen):
            total[seen[place]] = 0.0
