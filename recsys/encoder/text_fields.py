"""The lines of a text: each is read by the transformer on its own, and the head reads their vectors side by side.

A template of several lines, such as `{title}` and below it `{description}`, gives texts of as many lines. Each has a
vector of its own, for the head to weigh, where one vector of the whole text would mix them. The head projects them to
the width of one line; without a head a text is the mean of its lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from torch import Tensor

from features.arrays import Float32, Int64

Vectors = TypeVar("Vectors", Float32, Tensor)


@dataclass(frozen=True)
class TextFields:
    """The lines of n texts, k each. distinct: every line once. of_text: (n, k) which of them a text has."""

    distinct: list[str]
    of_text: Int64


def split_fields(texts: Sequence[str], count: int) -> TextFields:
    """`count` lines of each text. The first that is not empty replaces empty ones and for those that a text does
    not have, as a query, which is one line; what a text has beyond `count` belongs to the last."""
    rows: dict[str, int] = {}
    of_text = np.empty((len(texts), count), np.int64)
    for row, text in enumerate(texts):
        lines = text.split("\n", count - 1)
        first = next((line for line in lines if line), text)
        filled = [line or first for line in lines] + [first] * (count - len(lines))
        of_text[row] = [rows.setdefault(line, len(rows)) for line in filled]
    return TextFields(list(rows), of_text)


def concat_fields(vectors: Vectors, of_text: Int64) -> Vectors:
    """Vectors of texts, (n, k * d), from those of their lines, (n_lines, d); of unit length where those are. of_text:
    (n, k) rows of `vectors`."""
    n, k = of_text.shape
    joined = vectors[of_text.ravel()].reshape(n, k * vectors.shape[1])
    return cast(Vectors, joined * k**-0.5 if k > 1 else joined)


def mean_line(texts: Vectors, count: int) -> Vectors:
    """The mean of the lines of each text, (n, d), from what `concat_fields` made of them, (n, count * d)."""
    if count == 1:
        return texts
    return cast(Vectors, texts.reshape(len(texts), count, texts.shape[1] // count).sum(1) * count**-0.5)


def unit_mean_line(texts: Float32, count: int) -> Float32:
    """`mean_line` at unit length: the vector of a text without a head."""
    mean = mean_line(texts, count)
    return mean if count == 1 else mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
