"""Vectors of item texts in the online store, beside the items themselves.

Keyed by the encoder's fingerprint, the dtype that the text was encoded in, and the text's hash: another encoder,
another dtype, or a changed text never meets an old vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Float32
from features.stores.base import KeyValueStore
from recsys.encoder.dtype import Dtype

_TEXTS = b"t"
_DTYPES: dict[Dtype, bytes] = {"float32": b"f", "bfloat16": b"b", "int8+float32": b"i", "int8+bfloat16": b"j"}


class StoredVectors:
    """`recsys.online.cached_encoder.VectorStore` over a key-value store."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def vectors(self, encoder: str, dtype: Dtype, hashes: Sequence[str]) -> list[Float32 | None]:
        """The vectors of the texts of these hashes, (d,) each, None where the store has none."""
        if not hashes:
            return []
        with self._store.read() as snapshot:
            found = snapshot.get_many([_key(encoder, dtype, one) for one in hashes])
        return [None if value is None else np.frombuffer(value, "<f4") for value in found]

    def add_vectors(self, encoder: str, dtype: Dtype, hashes: Sequence[str], vectors: Float32) -> None:
        """Keep vectors, (n, d); on disk when this returns."""
        keys = [_key(encoder, dtype, one) for one in hashes]
        values = [vector.astype("<f4").tobytes() for vector in vectors]
        self._store.update(lambda transaction: transaction.put_many(zip(keys, values, strict=True)))


def _key(encoder: str, dtype: Dtype, text: str) -> bytes:
    """Key of a text's vector, from two hashes in hexadecimal; `features.online.keys` begins no other key with t."""
    return _TEXTS + bytes.fromhex(encoder) + _DTYPES[dtype] + bytes.fromhex(text)
