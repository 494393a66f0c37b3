"""Vectors and TF-IDF rows of the texts of stored items, in arrays by the items' places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np

from features.arrays import Bool, Int64
from features.online.item_arrays import GrowingArray, ItemPlaces
from recsys.encoder.scoring import HeadWeights, item_logits
from recsys.ranker.matrix import ItemRepresentations
from recsys.ranker.tfidf import TermRows


@dataclass(frozen=True)
class StoredTexts:
    """The texts of a catalog's items and of the unknown one, (n_items + 1,). has_text: whether each has one.
    is_encoded: False where the vector of a text is missing for now."""

    has_text: Bool
    is_encoded: Bool
    representations: ItemRepresentations


class TextArrays:
    """The representations of items, filled as they are asked for. head: of the vectors. dim: their width. Safe for
    threads."""

    def __init__(self, head: HeadWeights, dim: int, n_terms: int) -> None:
        self._head, self._dim = head, dim
        self._n_terms = n_terms
        self._lock = Lock()
        self._clear(0)

    def _clear(self, generation: int) -> None:
        self._generation = generation
        self._filled, self._has_text = GrowingArray(np.bool_), GrowingArray(np.bool_)
        self._has_terms = GrowingArray(np.bool_)
        self._vectors, self._logits = GrowingArray(np.float32, (self._dim,)), GrowingArray(np.float64)
        self._starts, self._ends = GrowingArray(np.int64), GrowingArray(np.int64)
        self._terms, self._values = GrowingArray(np.int32), GrowingArray(np.float64)
        self._n_entries = 0

    def get(self, places: ItemPlaces, represent: Callable[[Int64], StoredTexts]) -> StoredTexts:
        """The texts of a catalog's items. represent: computes those of some codes, which are not here."""
        place = places.place
        with self._lock:
            if places.generation > self._generation:
                self._clear(places.generation)
            self._reserve(int(place.max()) + 1)
            is_newest = places.generation == self._generation
            missing = np.flatnonzero(~self._filled.values[place]) if is_newest else np.arange(len(place))
            if not len(missing):
                return self._of(place)
        computed = represent(missing)
        with self._lock:
            if places.generation == self._generation:
                self._fill(place[missing], computed)
                return self._of(place)
        return computed if not is_newest else represent(np.arange(len(place)))

    def _reserve(self, n: int) -> None:
        texts = self._filled, self._has_text, self._vectors, self._logits
        for array in (*texts, self._has_terms, self._starts, self._ends):
            array.reserve(n)

    def _of(self, place: Int64) -> StoredTexts:
        starts, ends = self._starts.values[place], self._ends.values[place]
        terms = TermRows(starts, ends, self._terms.values, self._values.values, self._n_terms)
        representations = ItemRepresentations(self._vectors.values[place], terms, self._logits.values[place])
        return StoredTexts(self._has_text.values[place], self._filled.values[place], representations)

    def _fill(self, place: Int64, computed: StoredTexts) -> None:
        """Write the texts of some places, as far as there are none; those without a vector are asked for again."""
        vectors, rows = computed.representations.vectors, computed.representations.terms
        logits = item_logits(self._head, vectors)
        for position in np.flatnonzero(~self._filled.values[place]).tolist():
            target, first = int(place[position]), self._n_entries
            self._vectors.values[target], self._logits.values[target] = vectors[position], logits[position]
            self._filled.values[target] = computed.is_encoded[position]
            if self._has_terms.values[target]:
                continue
            entries = slice(rows.starts[position], rows.ends[position])
            self._n_entries += int(entries.stop - entries.start)
            for array, values in ((self._terms, rows.terms), (self._values, rows.values)):
                array.reserve(self._n_entries)
                array.values[first : self._n_entries] = values[entries]
            self._starts.values[target], self._ends.values[target] = first, self._n_entries
            self._has_text.values[target] = computed.has_text[position]
            self._has_terms.values[target] = True
