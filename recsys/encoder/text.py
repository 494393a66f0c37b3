"""The text of an item: a template filled from the items table, its hash, and its tokens.

The same functions serve the catalog offline and single items that come with a request. A column that is missing takes
the words before it along, so that nothing dangles: `{title}. {description}` of an item with a title only is its title.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from features.arrays import Bool, CsrLists, Int32, Int64, offsets_of
from features.log import Catalog
from recsys.errors import ConfigError

ITEM_COLUMNS = ("title", "description", "category")
"""Columns that a template may name whether or not the items table has them."""

_SEPARATORS = " \t\n.,;:!?|/-–—·。．、，；：！？｜・،؛؟۔।"
_SENTENCE_ENDS = ".!?…‼⁇⁈⁉。．｡！？؟۔।॥။។።"
_AFTER_AN_END = "\"'”’»）)]】」』》〉"
"""Quotes and brackets that close behind the end of a sentence."""
_DISPLAY_ONLY = re.compile("[\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u206f\ufeff]")
"""Marks of direction, soft hyphens and other characters that control the display and are no part of a text. Joiners
and spaces of no width stay: Persian, Thai, Indic scripts and emoji need them, and tokenizers know them."""
_LIST_SEPARATOR = ", "


@dataclass(frozen=True)
class Template:
    """A parsed text template. Each of its lines makes one line of the text; see `recsys.encoder.text_fields`."""

    lines: tuple[_Line, ...]

    @classmethod
    def parse(cls, template: str) -> Template:
        """The template of a string such as `{title}. {description}`. Raises ConfigError where it is malformed."""
        return cls(tuple(_Line.parse(line) for line in template.strip("\n").split("\n")))

    @property
    def columns(self) -> tuple[str, ...]:
        """The distinct columns in the order of the template."""
        return tuple(dict.fromkeys(column for line in self.lines for column in line.columns))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text of one item from its column values, its lines kept apart by a line feed each, none at the end; ""
        where every column of the template is missing or empty."""
        return "\n".join(line.fill(values) for line in self.lines).rstrip("\n")


@dataclass(frozen=True)
class _Line:
    """One line of a template: the words before each column, the column, and the words after the last one."""

    before: tuple[str, ...]
    columns: tuple[str, ...]
    after: str

    @classmethod
    def parse(cls, template: str) -> _Line:
        """Raises ConfigError where it is malformed."""
        before, columns, after = [], [], ""
        try:
            for words, column, form, conversion in string.Formatter().parse(template):
                if column is None:
                    after = words
                elif not column.isidentifier() or form or conversion:
                    raise ValueError(f"{{{column}}} is no plain column name")
                else:
                    before.append(words)
                    columns.append(column)
        except ValueError as error:
            raise ConfigError(
                f"expected a text template like '{{title}}. {{description}}', got {template!r}: {error}"
            ) from error
        if not columns:
            raise ConfigError(
                f"expected a text template with at least one column in braces on every line, got {template!r}"
            )
        return cls(tuple(before), tuple(columns), after)

    def fill(self, values: Mapping[str, str]) -> str:
        """The line of one item; "" where every column of it is missing or empty."""
        text = ""
        filled = False
        for words, column in zip(self.before, self.columns, strict=True):
            value = clean_text(values.get(column, ""))
            filled = bool(value)
            if value:
                text += _joint(text, words, first=column == self.columns[0]) + value
        return text + self.after if filled else text


def clean_text(value: str) -> str:
    """The text as it is read: one line, letters and marks composed (NFC), no lone surrogates, which no tokenizer
    reads, and nothing that only directs the display, so that what looks the same has one hash and one vector.

    >>> clean_text("\\u200fשלום\\u200f  עולם\\n")
    'שלום עולם'
    """
    seen = _DISPLAY_ONLY.sub("", value.encode("utf-8", "replace").decode())
    return " ".join(unicodedata.normalize("NFC", seen).split())


def _joint(text: str, words: str, *, first: bool) -> str:
    """The words between the text so far and the next value."""
    if not text:
        return words if first else words.lstrip(_SEPARATORS)
    if text.rstrip(_AFTER_AN_END).endswith(tuple(_SENTENCE_ENDS)):
        return words.lstrip(_SENTENCE_ENDS)
    return words


def item_texts(catalog: Catalog, template: str) -> list[str]:
    """The text of every item, (n_items + 1,); "" for an item without text and in the last row, the undescribed item.

    Raises ConfigError where the template names a column that the items table does not have.
    """
    parsed = Template.parse(template)
    rows = column_rows(catalog, parsed.columns, template)
    return [parsed.fill(dict(zip(parsed.columns, row, strict=True))) for row in rows]


def column_rows(catalog: Catalog, names: Sequence[str], template: str) -> Iterator[tuple[str, ...]]:
    """The columns `names` of every item as text, n_items + 1 rows; raises ConfigError naming `template` as above."""
    return zip(*(_column(catalog, name, template) for name in names), strict=True)


def _column(catalog: Catalog, name: str, template: str) -> Sequence[str]:
    """One column of the catalog as text, (n_items + 1,)."""
    if name in ("title", "description"):
        texts: Sequence[str] = getattr(catalog, name).tolist()
        return texts
    if name in catalog.texts:
        return list(catalog.texts[name])
    if name in catalog.categories:
        category = catalog.categories[name]
        offsets, codes = category.codes.offsets, category.codes.codes
        words = [category.values[code] for code in codes]
        return [_LIST_SEPARATOR.join(words[a:b]) for a, b in itertools.pairwise(offsets)]
    if name in catalog.numbers:
        return ["" if np.isnan(value) else f"{value:g}" for value in catalog.numbers[name]]
    if name in ITEM_COLUMNS:
        return [""] * (len(catalog) + 1)
    columns = sorted({*ITEM_COLUMNS, *catalog.texts, *catalog.categories, *catalog.numbers})
    raise ConfigError(f"encoder.template {template!r} names column {name!r}; the items table has {columns}")


def text_hash(text: str) -> str:
    """32 hexadecimal digits that stand for a text: the first 128 bits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _token_ids(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> tuple[list[list[int]], list[int]]:
    """Token ids of each text, cut, and which texts were cut; in one call where the tokenizer is a fast one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        ids: list[list[int]] = (
            tokenizer(list(texts), truncation=False, verbose=False)["input_ids"] if len(texts) else []
        )
        too_long = [i for i, row in enumerate(ids) if len(row) > max_tokens]
        for i in too_long:
            ids[i] = tokenizer(texts[i], truncation=True, max_length=max_tokens)["input_ids"]
        return ids, too_long
    if backend.padding is not None:
        backend.no_padding()
    limit = {
        "max_length": max_tokens,
        "stride": 0,
        "strategy": "longest_first",
        "direction": tokenizer.truncation_side,
    }
    if backend.truncation != limit:
        backend.enable_truncation(**limit)
    encodings = backend.encode_batch_fast(list(texts))
    return [row.ids for row in encodings], [i for i, row in enumerate(encodings) if row.overflowing]


PADDED_TO = 4
"""Padding of a text depends only on its own length: the order of sums over tokens depends only on their number."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of n texts, special tokens included. offsets: (n + 1,) int64; text i is ids[offsets[i]:offsets[i + 1]].

    truncated: how many of the texts were cut to `limit` tokens, which none exceeds. unknown: tokens that stand for what
    the tokenizer's vocabulary does not have.
    """

    offsets: Int64
    ids: Int32
    truncated: int
    unknown: int
    limit: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> Int64:
        """Tokens of each text, (n,)."""
        return np.diff(self.offsets)

    def take(self, index: Int64) -> Tokens:
        """The tokens of some texts, in that order. What is counted is still of all."""
        chosen = CsrLists(self.offsets, self.ids).take(index)
        return replace(self, offsets=chosen.offsets, ids=chosen.codes)

    def padded_lengths(self) -> Int64:
        """Tokens that each text is padded to, (n,): a multiple of `PADDED_TO`, or the limit."""
        return np.minimum(-(-self.lengths() // PADDED_TO) * PADDED_TO, self.limit)

    def mask(self, index: Int64) -> Bool:
        """Where some texts have tokens, (len(index), t), with t the longest padded length among them."""
        t = int(self.padded_lengths()[index].max(initial=0))
        return np.asarray(np.arange(t) < self.lengths()[index][:, None])


def tokenise(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> Tokens:
    """Token ids of each text, its first `max_tokens`; what was cut and what is unknown is counted.

    `tokenizer` is a Hugging Face tokenizer that cuts at the end. A text without tokens is one unknown token.
    """
    unknown = tokenizer.pad_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    ids, too_long = _token_ids(tokenizer, texts, max_tokens)
    ids = [row or [unknown] for row in ids]
    offsets = offsets_of([len(row) for row in ids])
    flat = np.fromiter((token for row in ids for token in row), np.int32, offsets[-1])
    return Tokens(offsets, flat, len(too_long), int((flat == unknown).sum()), max_tokens)
