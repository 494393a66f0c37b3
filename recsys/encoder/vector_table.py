"""The vector table: the one vector of each text that every path reads, stored beside the model that computed it.

Keyed by the text's hash; it belongs to one encoder, whose fingerprint is in the file. Other texts are encoded
on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from features.arrays import Bool, Float32, Int64
from recsys.encoder.text import text_hash
from recsys.errors import ModelError

Keys = npt.NDArray[np.str_]


@dataclass(frozen=True)
class VectorTable:
    """Vectors of n texts. keys: (n,) text hashes, sorted, distinct. vectors: (n, d) float32, unit length."""

    keys: Keys
    vectors: Float32

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, texts: Sequence[str]) -> Int64:
        """Rows of the texts in the table, (len(texts),); -1 for those not in it."""
        keys = text_keys(texts)
        if not len(self) or not len(keys):
            return np.full(len(keys), -1, np.int64)
        rows = np.searchsorted(self.keys, keys).clip(max=len(self) - 1)
        return np.where(self.keys[rows] == keys, rows, -1)

    def vectors_of(self, texts: Sequence[str]) -> tuple[Float32, Bool]:
        """Vectors of the texts, (len(texts), d), NaN rows for those not in the table, and which are in it."""
        rows = self.find(texts)
        is_stored = rows >= 0
        vectors = np.full((len(texts), self.vectors.shape[1]), np.nan, np.float32)
        vectors[is_stored] = self.vectors[rows[is_stored]]
        return vectors, is_stored

    def with_texts(self, texts: Sequence[str], vectors: Float32) -> VectorTable:
        """This table and more texts, whose vectors are (len(texts), d); existing vectors stay."""
        keys, first = np.unique(np.concatenate([self.keys, text_keys(texts)]), return_index=True)
        return VectorTable(keys, np.concatenate([self.vectors, vectors])[first])

    def save(self, path: Path, fingerprint: str) -> None:
        """Write the table as safetensors, with the fingerprint of the encoder that it belongs to."""
        digits = np.array([list(bytes.fromhex(key)) for key in self.keys], np.uint8).reshape(len(self), 16)
        save_file({"hashes": digits, "vectors": self.vectors}, path, metadata={"encoder": fingerprint})


def empty_table(dim: int) -> VectorTable:
    """A table of no texts."""
    return VectorTable(np.zeros(0, "U32"), np.zeros((0, dim), np.float32))


def load_table(path: Path, fingerprint: str) -> VectorTable:
    """The table that `save` wrote. Raises ModelError where it is unreadable or of another encoder."""
    try:
        with safe_open(path, framework="numpy") as file:
            got = (file.metadata() or {}).get("encoder")
            digits, vectors = file.get_tensor("hashes"), file.get_tensor("vectors")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"vector table {str(path)!r} cannot be read: {error}") from error
    if got != fingerprint:
        raise ModelError(
            f"vector table {str(path)!r}: expected vectors of encoder {fingerprint!r}, got those of {got!r}; "
            "save the encoder again"
        )
    return VectorTable(np.array([bytes(row).hex() for row in digits], "U32"), vectors)


def text_keys(texts: Sequence[str]) -> Keys:
    """Hashes of the texts, (n,)."""
    return np.array([text_hash(text) for text in texts], "U32")
