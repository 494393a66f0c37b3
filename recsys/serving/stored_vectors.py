"""Vectors of item texts in the online store, beside the items themselves.

Keyed by the encoder's fingerprint and the text's hash: another encoder, or a changed text, never meets an old vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.log import Float32
from features.store import KeyValueStore

_TEXTS = b"t"


class StoredVectors:
    """`recsys.serving.cached_encoder.VectorStore` over a key-value store."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def vectors(self, encoder: str, hashes: Sequence[str]) -> list[Float32 | None]:
        """The vectors of the texts of these hashes, (d,) each, None where the store has none."""
        if not hashes:
            return []
        with self._store.read() as snapshot:
            found = snapshot.get_many([_key(encoder, one) for one in hashes])
        return [None if value is None else np.frombuffer(value, "<f4") for value in found]

    def add_vectors(self, encoder: str, hashes: Sequence[str], vectors: Float32) -> None:
        """Keep vectors, (n, d); on disk when this returns."""
        keys = [_key(encoder, one) for one in hashes]
        values = [vector.astype("<f4").tobytes() for vector in vectors]
        self._store.update(lambda transaction: transaction.put_many(zip(keys, values, strict=True)))


def _key(encoder: str, text: str) -> bytes:
    """Key of a text's vector, from two hashes in hexadecimal; `features.store_keys` begins no other key with t."""
    return _TEXTS + bytes.fromhex(encoder) + bytes.fromhex(text)
