"""The encoder of serving, with stored vectors: each text is encoded once.

A text's vector comes from memory, else from the encoder version's own table, else from the store, else it is computed
now, for all missing texts of a request in one batch, and written back. The store keeps vectors by the dtype that they
were computed in. Those in the encoder's own dtype are read first, then those in the dtype that this machine computes:
machines with and without bfloat16 can share a store. One thread encodes at a time: tokenizers are not safe to share,
and two batches at once are no faster on the same cores.

A request that may not wait long leaves the encoding to a thread in the background, and the vectors to later requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np

from features.arrays import Float32
from features.errors import StoreError
from features.online.text_vectors import read_vectors, write_vectors
from features.stores.base import KeyValueStore, StoreSnapshot
from recsys.encoder.model import Encoder
from recsys.encoder.text import text_hash
from recsys.online.encoding_queue import EncodingQueue, EncodingWait
from recsys.online.lru import Lru

logger = logging.getLogger(__name__)


class CachedEncoder(Encoder):
    """An encoder that keeps up to `capacity` vectors in memory and reads others from `store`.

    on_encoded: called with the number of texts whenever some had to be encoded.
    """

    def __init__(
        self,
        encoder: Encoder,
        store: KeyValueStore,
        capacity: int,
        *,
        on_encoded: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__(encoder.settings, encoder.tower, encoder.head, encoder.table)
        self.fingerprint = encoder.fingerprint
        self._on_encoded = on_encoded
        self._store = store
        self._cache: Lru[str, Float32] = Lru(capacity)
        self._encoding = Lock()
        self._queue = EncodingQueue()

    def close(self) -> None:
        """Encode no more texts in the background."""
        self._queue.close()

    def encode_texts(self, texts: Sequence[str]) -> Float32:
        """Vectors of the texts, (n, d) float32, unit length; NaN rows for empty texts."""
        with self._store.read() as snapshot:
            return self.encode_from(snapshot, texts)

    def encode_from(
        self, snapshot: StoreSnapshot, texts: Sequence[str], waiting: EncodingWait | None = None
    ) -> Float32:
        """As `encode_texts`, with the stored vectors of a snapshot of the store. waiting: how long to wait for texts
        without a vector, whose rows are NaN afterwards; None waits for all."""
        cached = self._cache.get_many(texts)
        missing = dict.fromkeys(text for text, vector in zip(texts, cached, strict=True) if text and vector is None)
        if missing:
            fetched = (
                self._fetch(snapshot, list(missing))
                if waiting is None
                else self._fetch_in_time(snapshot, list(missing), waiting)
            )
            cached = [
                fetched.get(text) if vector is None else vector for text, vector in zip(texts, cached, strict=True)
            ]
        nothing = np.full(self.dim, np.nan, np.float32)
        return np.array([nothing if vector is None else vector for vector in cached], np.float32).reshape(-1, self.dim)

    def _fetch(self, snapshot: StoreSnapshot, texts: list[str]) -> dict[str, Float32]:
        """Vectors of distinct texts that were not in memory; the first to ask for a text decides its vector.

        The snapshot is read before the wait for other threads, since it may not outlive a long one.
        """
        stored = self._stored(snapshot, texts)
        with self._encoding:
            vectors_by_text = stored | self._in_memory(texts)
            rest = [text for text in texts if text not in vectors_by_text]
            if rest:
                vectors = super().encode_texts(rest)
                if self._on_encoded is not None:
                    self._on_encoded(len(rest))
                self._write_back(rest, vectors)
                vectors_by_text |= {text: vector.copy() for text, vector in zip(rest, vectors, strict=True)}
            self._cache.put_many(vectors_by_text.items())
            return vectors_by_text

    def _fetch_in_time(self, snapshot: StoreSnapshot, texts: list[str], waiting: EncodingWait) -> dict[str, Float32]:
        """As `_fetch`, of the texts that have a vector in time; the others are encoded in the background."""
        found = self._stored(snapshot, texts) | self._in_memory(texts)
        self._cache.put_many(found.items())
        rest = [text for text in texts if text not in found]
        if rest:
            waiting.wait(len(rest), self._queue.add(self.encode_texts, rest))
            found |= self._in_memory(rest)
            waiting.missed.update(text for text in rest if text not in found)
        return found

    def _in_memory(self, texts: list[str]) -> dict[str, Float32]:
        cached = zip(texts, self._cache.get_many(texts), strict=True)
        return {text: vector for text, vector in cached if vector is not None}

    def _stored(self, snapshot: StoreSnapshot, texts: list[str]) -> dict[str, Float32]:
        """The vectors of texts in the encoder's table, and of the others in the store."""
        rows = self.table.find(texts)
        stored = {text: self.table.vectors[row] for text, row in zip(texts, rows, strict=True) if row >= 0}
        for dtype in dict.fromkeys((self.settings.dtype, self.tower.computes_in)):
            rest = [text for text in texts if text not in stored]
            vectors = read_vectors(snapshot, self.fingerprint, dtype, [text_hash(text) for text in rest])
            stored |= {text: vector for text, vector in zip(rest, vectors, strict=True) if vector is not None}
        return stored

    def _write_back(self, texts: Sequence[str], vectors: Float32) -> None:
        """Write vectors back; where that fails, they are computed again another time."""
        try:
            hashes = [text_hash(text) for text in texts]
            write_vectors(self._store, self.fingerprint, self.tower.computes_in, hashes, vectors)
        except StoreError as error:
            logger.warning("%d new vectors are not kept: %s", len(texts), error)
