r"""Null words, such as `\N` and NULL, in columns of text.

`\N`, as databases write it, is a missing value in every column. The others are text like any other, since a title or a
brand may have that name; they are counted, so that a report can list them.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from features.tables.cells import read_text
from features.tables.schema import WORDS, ColumnSpec
from features.tables.string_codes import value_counts

MISSING = r"\N"
_WORDS = pa.array(
    [MISSING.lower(), "null", "none", "nan", "nat", "na", "n/a", "#n/a", "nil", "(null)", "<null>", "undefined"],
    pa.large_string(),
)
_LONGEST = 12


class NullWords:
    """Counts of each null word, as it is spelled, in each column of a table."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._read_as: dict[str, str] = {}

    def add(self, column: ColumnSpec, words: pa.Array | None) -> None:
        """Count the words that are not null. A field that is read as several columns counts as one of them."""
        if words is None or self._read_as.setdefault(column.field, column.name) != column.name:
            return
        self.counts.setdefault(column.field, Counter()).update(value_counts(words.drop_null()))


def without_null_words(values: pa.Array, column: ColumnSpec) -> tuple[pa.Array, pa.Array | None]:
    r"""The cells of a column with null in place of `\N`, and its null words, null where a cell has none.

    The second value is None where no cell has one. In columns of numbers and times only `\N` counts, since those read
    the other words in ways of their own; in columns of ids too, whose users are counted by `features.tables.load`.
    """
    if not pa.types.is_large_string(values.type):
        return values, None
    null = pa.scalar(None, values.type)
    missing = pc.equal(values, MISSING)
    is_word = _is_word(values) if column.kind in WORDS else missing
    without = pc.if_else(missing, null, values) if pc.any(missing).as_py() else values
    return without, pc.if_else(is_word, values, null) if pc.any(is_word).as_py() else None


def has_words(array: pa.Array) -> bool:
    """Whether a column has any value other than blanks and null words."""
    values = read_text(array).values
    if not pa.types.is_large_string(values.type):
        return not pc.all(values.is_null(nan_is_null=True)).as_py()
    filled = pc.not_equal(pc.utf8_trim_whitespace(values), "")
    return bool(pc.any(pc.and_not(filled, _is_word(values))).as_py())


def _is_word(values: pa.Array) -> pa.Array:
    short = pc.if_else(pc.less_equal(pc.binary_length(values), _LONGEST), values, pa.scalar(None, values.type))
    return pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(short)), value_set=_WORDS)
