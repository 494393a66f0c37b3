"""Vectors and TF-IDF rows of the items of one request, cached in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from features.arrays import Bool, Float32, Float64, Int32, Int64, offsets_of
from features.log import Catalog
from features.online.item_arrays import ItemPlaces
from features.online.items import StoredItem, local_catalog
from features.stores.base import StoreSnapshot
from recsys.encoder.text import Template, column_rows
from recsys.encoder.text_model import NoEncoder
from recsys.online.encoding_queue import EncodingWait
from recsys.online.lru import Lru
from recsys.online.text_arrays import StoredTexts, TextArrays
from recsys.ranker.matrix import ItemRepresentations
from recsys.ranker.tfidf import Lexical, TermRows

if TYPE_CHECKING:
    from recsys.online.cached_encoder import CachedEncoder

Row = tuple[Int32, Float64]
_AT_ONCE = 32
_PLAIN = ("title", "description")


class ItemTextReader:
    """Vectors and TF-IDF rows of items, the same numbers as `recsys.ranker.matrix.encode_items` gives for a catalog.

    template: of an item's text. capacity: texts that stay in memory.
    """

    def __init__(self, encoder: CachedEncoder | NoEncoder, lexical: Lexical, template: str, capacity: int) -> None:
        self._encoder = encoder
        self._lexical = lexical
        self._rows: Lru[str, Row] = Lru(capacity)
        self._filled: Lru[tuple[str, ...], str] = Lru(capacity)
        self._template = Template.parse(template)
        self._template_text = template
        self._columns = self._template.columns
        self._arrays = TextArrays(encoder.weights, encoder.dim, len(lexical.terms))

    def read(
        self,
        snapshot: StoreSnapshot,
        catalog: Catalog,
        places: ItemPlaces | None,
        waiting: EncodingWait | None = None,
    ) -> tuple[Bool, ItemRepresentations]:
        """Which items of the catalog and the unknown one have a text, (n_items + 1,), and the representations of all.

        places: of the items where all of them are as they are stored. waiting: how long to wait for vectors, whose rows
        are NaN afterwards; None waits for all."""

        def represent(codes: Int64) -> StoredTexts:
            """The texts of some items of the catalog."""
            every = self.texts(catalog)
            wanted = [every[code] for code in codes.tolist()]
            vectors = self._encoder.encode_from(snapshot, wanted, waiting)
            has_text = np.array([bool(text) for text in wanted], np.bool_)
            missed = () if waiting is None else waiting.missed
            is_encoded = np.array([text not in missed for text in wanted], np.bool_)
            return StoredTexts(has_text, is_encoded, ItemRepresentations(vectors, self._terms(wanted)))

        found = represent(np.arange(len(catalog) + 1)) if places is None else self._arrays.get(places, represent)
        return found.has_text, found.representations

    def vectors(self, catalog: Catalog) -> Float32:
        """The vectors of the items' texts, (n_items + 1, d), NaN rows for none. Missing ones are encoded a few at a
        time, so that rankings get in between."""
        texts = self.texts(catalog)
        starts = range(0, len(texts), _AT_ONCE)
        return np.concatenate([self._encoder.encode_texts(texts[start : start + _AT_ONCE]) for start in starts])

    def texts(self, catalog: Catalog) -> list[str]:
        """The text of every item of the catalog and the unknown one, "" for none."""
        present = {*_PLAIN, *catalog.texts, *catalog.categories, *catalog.numbers}
        absent = [name for name in self._columns if name not in present]
        if absent:
            nothing = np.full(len(catalog) + 1, "", object)
            catalog = replace(catalog, texts={**catalog.texts, **dict.fromkeys(absent, nothing)})
        rows = list(column_rows(catalog, self._columns, self._template_text))
        return self._filled.get_or_compute(rows, self._fill)

    def _fill(self, rows: Sequence[tuple[str, ...]]) -> list[str]:
        return [self._template.fill(dict(zip(self._columns, row, strict=True))) for row in rows]

    def encode(self, items: Mapping[str, StoredItem]) -> None:
        """Encode the items' texts that have no vector yet, as `vectors` does."""
        if items:
            categories = sorted({name for item in items.values() for name in item.categories})
            numbers = sorted({name for item in items.values() for name in item.numbers})
            self.vectors(local_catalog(sorted(items), items, categories=categories, numbers=numbers, vectors={}))

    def _terms(self, texts: Sequence[str]) -> TermRows:
        rows = self._rows.get_or_compute(texts, lambda missing: _split(self._lexical.transform(missing)))
        offsets = offsets_of([len(positions) for positions, _ in rows])
        positions = np.concatenate([positions for positions, _ in rows])
        values = np.concatenate([values for _, values in rows])
        return TermRows(offsets[:-1], offsets[1:], positions, values, len(self._lexical.terms))


def _split(rows: TermRows) -> list[Row]:
    bounds = zip(rows.starts.tolist(), rows.ends.tolist(), strict=True)
    return [(rows.terms[start:end].copy(), rows.values[start:end].copy()) for start, end in bounds]
