"""What the text models know of the few items of one request, from memory where they were seen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from features.arrays import Float32, Float64, Int32
from features.log import Catalog
from features.online.items import StoredItem, local_catalog
from recsys.encoder.text import Template, column_rows
from recsys.online.cached_encoder import CachedEncoder
from recsys.online.lru import Lru
from recsys.ranker.matrix import ItemTexts
from recsys.ranker.tfidf import Lexical

Row = tuple[Int32, Float64]
_AT_ONCE = 32
_PLAIN = ("title", "description")


class ItemTextReader:
    """Vectors and TF-IDF rows of items; the same numbers as `recsys.ranker.matrix.read_texts` gives for a whole
    catalog."""

    def __init__(self, encoder: CachedEncoder, lexical: Lexical, capacity: int) -> None:
        self._encoder = encoder
        self._lexical = lexical
        self._rows: Lru[str, Row] = Lru(capacity)
        self._filled: Lru[tuple[str, ...], str] = Lru(capacity)
        self._template = Template.parse(encoder.settings.template)
        self._columns = tuple(dict.fromkeys(self._template.columns))

    def read(self, catalog: Catalog) -> tuple[list[str], ItemTexts]:
        """The text of every item of the catalog and the undescribed one, "" for none, and what is known of each."""
        texts = self.texts(catalog)
        return texts, ItemTexts(self._encoder.encode_texts(texts), self._terms(texts))

    def vectors(self, catalog: Catalog) -> Float32:
        """The vectors of the items' texts, (n_items + 1, d), NaN rows for none; made a few at a time where they are not
        known, so that rankings get in between."""
        texts = self.texts(catalog)
        parts = [
            self._encoder.encode_texts(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)
        ]
        return np.concatenate(parts)

    def texts(self, catalog: Catalog) -> list[str]:
        """The text of every item of the catalog and the undescribed one, "" for none."""
        known = {*_PLAIN, *catalog.texts, *catalog.categories, *catalog.numbers}
        absent = [name for name in self._columns if name not in known]
        if absent:
            nothing = np.full(len(catalog) + 1, "", object)
            catalog = replace(catalog, texts={**catalog.texts, **dict.fromkeys(absent, nothing)})
        rows = list(column_rows(catalog, self._columns, self._encoder.settings.template))
        texts = self._filled.get_many(rows)
        made = {row: self._fill(row) for row, text in zip(rows, texts, strict=True) if text is None}
        self._filled.put_many(made.items())
        return [made[row] if text is None else text for row, text in zip(rows, texts, strict=True)]

    def _fill(self, row: tuple[str, ...]) -> str:
        return self._template.fill(dict(zip(self._columns, row, strict=True)))

    def encode(self, items: Mapping[str, StoredItem]) -> None:
        """Make the vectors of the items' texts where they are not known, a few at a time, so that rankings get in
        between."""
        ids = sorted(items)
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            columns = {name for item_id in part for name in items[item_id].categories}
            numbers = {name for item_id in part for name in items[item_id].numbers}
            catalog = local_catalog(part, items, categories=sorted(columns), numbers=sorted(numbers), vectors={})
            self.vectors(catalog)

    def _terms(self, texts: Sequence[str]) -> csr_matrix:
        """TF-IDF rows, (n, n_terms)."""
        rows = self._rows.get_many(texts)
        missing = list(dict.fromkeys(text for text, row in zip(texts, rows, strict=True) if row is None))
        if missing:
            made = dict(zip(missing, _split(self._lexical.transform(missing)), strict=True))
            self._rows.put_many(made.items())
            rows = [made[text] if row is None else row for text, row in zip(texts, rows, strict=True)]
        kept = [row for row in rows if row is not None]
        offsets = np.zeros(len(kept) + 1, np.int64)
        np.cumsum([len(positions) for positions, _ in kept], out=offsets[1:])
        positions = np.concatenate([positions for positions, _ in kept])
        values = np.concatenate([values for _, values in kept])
        return csr_matrix((values, positions, offsets), shape=(len(texts), len(self._lexical.terms)))


def _split(rows: csr_matrix) -> list[Row]:
    bounds = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    return [(rows.indices[start:end].copy(), rows.data[start:end].copy()) for start, end in bounds]
