"""The encoder as the server uses it: every vector that was made once is read again.

A text's vector comes from memory, else from the encoder version's own table, else from the store, else it is made now,
for all missing texts of a request in one batch, and written back. The store keeps vectors by the dtype that they were
made in. Those in the encoder's own dtype are read first, then those in the dtype that this machine computes: machines
with and without bfloat16 can share a store. Only one thread makes vectors at a time: tokenizers are not safe to share,
and two batches at once are no faster on the same cores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Protocol

import numpy as np

from features.arrays import Float32
from recsys.encoder.dtype import Dtype
from recsys.encoder.model import Encoder
from recsys.encoder.text import text_hash
from recsys.errors import StoreError
from recsys.online.lru import Lru

logger = logging.getLogger(__name__)


class VectorStore(Protocol):
    """Where vectors outlive the process."""

    def vectors(self, encoder: str, dtype: Dtype, hashes: Sequence[str]) -> list[Float32 | None]:
        """The vectors that encoder `encoder` (its fingerprint) gave the texts of these hashes in `dtype`, None where
        absent."""

    def add_vectors(self, encoder: str, dtype: Dtype, hashes: Sequence[str], vectors: Float32) -> None:
        """Keep vectors, (n, d)."""


class CachedEncoder(Encoder):
    """An encoder that remembers up to `capacity` vectors and reads others from `store`.

    on_made: called with the number of texts whenever some had to be encoded.
    """

    def __init__(
        self, encoder: Encoder, store: VectorStore, capacity: int, *, on_made: Callable[[int], object] | None = None
    ) -> None:
        super().__init__(encoder.settings, encoder.tower, encoder.head, encoder.table)
        self.fingerprint = encoder.fingerprint
        self._on_made = on_made
        self._store = store
        self._known: Lru[str, Float32] = Lru(capacity)
        self._making = Lock()

    def encode_texts(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> Float32:
        """Vectors of the texts, (n, d) float32, unit length; NaN rows for empty texts."""
        held = self._known.get_many(texts)
        missing = [text for text, vector in zip(texts, held, strict=True) if text and vector is None]
        if missing:
            found = self._fetch(list(dict.fromkeys(missing)), progress)
            held = [found.get(text) if vector is None else vector for text, vector in zip(texts, held, strict=True)]
        nothing = np.full(self.dim, np.nan, np.float32)
        return np.array([nothing if vector is None else vector for vector in held], np.float32).reshape(-1, self.dim)

    def _fetch(self, texts: list[str], progress: Callable[[int], None] | None) -> dict[str, Float32]:
        """Vectors of distinct texts that were not in memory; the first to ask for a text decides its vector."""
        with self._making:
            found = {
                text: vector
                for text, vector in zip(texts, self._known.get_many(texts), strict=True)
                if vector is not None
            }
            rest = [text for text in texts if text not in found]
            rows = self.table.find(rest)
            found |= {text: self.table.vectors[row] for text, row in zip(rest, rows, strict=True) if row >= 0}
            for dtype in dict.fromkeys((self.settings.dtype, self.tower.computes_in)):
                rest = [text for text in rest if text not in found]
                stored = self._store.vectors(self.fingerprint, dtype, [text_hash(text) for text in rest])
                found |= {text: vector for text, vector in zip(rest, stored, strict=True) if vector is not None}
            rest = [text for text in rest if text not in found]
            if rest:
                vectors = super().encode_texts(rest, progress=progress)
                if self._on_made is not None:
                    self._on_made(len(rest))
                self._keep(rest, vectors)
                found |= {text: vector.copy() for text, vector in zip(rest, vectors, strict=True)}
            self._known.put_many(found.items())
            return found

    def _keep(self, texts: Sequence[str], vectors: Float32) -> None:
        """Write vectors back; where that fails they are made again another time, which is no reason to fail now."""
        try:
            hashes = [text_hash(text) for text in texts]
            self._store.add_vectors(self.fingerprint, self.tower.computes_in, hashes, vectors)
        except StoreError as error:
            logger.warning("%d new vectors are not kept: %s", len(texts), error)
