"""Text columns as integer codes, batch by batch, without a Python object per row.

Each batch is dictionary-encoded as it arrives; the dictionaries become one at the end. Codes are int32, -1 for null.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.arrays import Int32, Int64, Strings

_DICTIONARY = pa.dictionary(pa.int32(), pa.large_string())


@dataclass(frozen=True)
class DictionaryColumn:
    """values: distinct text, in order of first appearance. codes: (n,) int32 positions in `values`, -1 for null."""

    values: pa.Array
    codes: Int32

    def recode(self, vocabulary: pa.Array) -> Int32:
        """The codes in another vocabulary, (n,); -1 for null and for what it lacks."""
        positions = pc.index_in(self.values, value_set=vocabulary).fill_null(-1).to_numpy(zero_copy_only=False)
        return np.append(positions, -1).astype(np.int32)[self.codes]

    def decoded(self) -> Strings:
        """The column as Python strings, None for null, (n,)."""
        rows = pa.array(self.codes, mask=self.codes < 0)
        texts: Strings = self.values.take(rows).to_numpy(zero_copy_only=False)
        return texts.astype(object)

    def used(self) -> pa.Array:
        """The values that some row has."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))
        return self.values.filter(pa.array(counts > 0))

    def __getitem__(self, rows: npt.NDArray[np.generic] | slice) -> DictionaryColumn:
        """The same column at `rows`: positions, a mask or a slice."""
        return DictionaryColumn(self.values, self.codes[rows])


def dictionary_encode(batches: Iterable[pa.Array]) -> DictionaryColumn:
    """The column that `batches` of large_string make, encoded."""
    chunks = [batch.dictionary_encode() for batch in batches]
    whole = pa.chunked_array(chunks, _DICTIONARY).unify_dictionaries()
    if whole.num_chunks == 0:
        return DictionaryColumn(pa.array([], pa.large_string()), np.zeros(0, np.int32))
    codes = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in whole.chunks]
    return DictionaryColumn(whole.chunk(0).dictionary, np.concatenate(codes).astype(np.int32, copy=False))


def sorted_union(arrays: Iterable[pa.Array]) -> pa.Array:
    """The distinct values of all arrays, sorted by code point, without null; large_string."""
    whole = pa.chunked_array(list(arrays), pa.large_string())
    distinct = pc.unique(whole).drop_null()
    return distinct.take(pc.sort_indices(distinct))


def value_counts(texts: pa.Array) -> dict[str, int]:
    """The count of each value in a column."""
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(texts).to_pylist()}


class SourceRows:
    """The file and row number of each usable row of a table, for rejects after its batches are joined."""

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._starts: list[int] = [0]
        self._rows: list[Int64 | int] = []

    def add(self, file: Path, rows: Int64) -> None:
        """Add the next usable rows: those numbered `rows` in `file`."""
        contiguous = len(rows) > 0 and int(rows[-1]) - int(rows[0]) == len(rows) - 1
        self._files.append(file)
        self._starts.append(self._starts[-1] + len(rows))
        self._rows.append(int(rows[0]) if contiguous else rows)

    def locate(self, index: int) -> tuple[str, int]:
        """File and row number of a usable row. index: from 0, in the order of the rows."""
        batch = int(np.searchsorted(self._starts, index, side="right")) - 1
        rows, offset = self._rows[batch], index - self._starts[batch]
        return str(self._files[batch]), rows + offset if isinstance(rows, int) else int(rows[offset])
