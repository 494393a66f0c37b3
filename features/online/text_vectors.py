"""Vectors of item texts in the online store.

Keyed by the encoder's fingerprint, the dtype that the text was encoded in, and the text's hash: another encoder,
another dtype, or a changed text never meets an old vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Float32
from features.online.keys import TEXT_VECTORS
from features.stores.base import KeyValueStore, StoreSnapshot

_DTYPES = {"float32": b"f", "bfloat16": b"b", "int8+float32": b"i", "int8+bfloat16": b"j"}
_HASH_BYTES = 16


def read_vectors(snapshot: StoreSnapshot, encoder: str, dtype: str, hashes: Sequence[str]) -> list[Float32 | None]:
    """The vectors that an encoder gave the texts of these hashes in `dtype`, (d,) each, None where the store has none.

    encoder: its fingerprint. Hashes and fingerprint are hexadecimal.
    """
    values = snapshot.get_many(_keys(encoder, dtype, hashes))
    return [None if value is None else np.frombuffer(value, "<f4") for value in values]


def write_vectors(store: KeyValueStore, encoder: str, dtype: str, hashes: Sequence[str], vectors: Float32) -> None:
    """Store vectors, (n, d), as `read_vectors` reads them; on disk when this returns."""
    values = [vector.astype("<f4").tobytes() for vector in vectors]
    keys = _keys(encoder, dtype, hashes)
    store.update(lambda transaction: transaction.put_many(zip(keys, values, strict=True)))


def without_text(key: bytes) -> bytes:
    """What the keys of one encoder and dtype have in common."""
    return key[:-_HASH_BYTES]


def encoding_of(key: bytes) -> tuple[str, str]:
    """The encoder's fingerprint and the dtype in the key of a vector."""
    dtype, name = key[-_HASH_BYTES - 1 : -_HASH_BYTES], key[len(TEXT_VECTORS) : -_HASH_BYTES - 1]
    return name.hex(), next((known for known, code in _DTYPES.items() if code == dtype), "unknown dtype")


def _keys(encoder: str, dtype: str, hashes: Sequence[str]) -> list[bytes]:
    head = TEXT_VECTORS + bytes.fromhex(encoder) + _DTYPES[dtype]
    return [head + bytes.fromhex(text) for text in hashes]
