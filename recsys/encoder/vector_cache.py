"""Vectors of texts on disk, so that no text goes through the same transformer twice on one machine.

A vector's key is a hash of all that it depends on: the transformer's weights and settings, the libraries that compute
it, pooling, arithmetic and the text's tokens. On a GPU, where it depends on the texts beside it too, nothing is kept.
Training, loading, batch scoring and serving share one file in the folder that the environment variable RECSYS_CACHE
names, by default `recsys` in the user's cache folder; empty, there is none. It holds no texts. A cache that cannot be
opened, read or written costs time and nothing else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from threading import Lock
from zlib import crc32

import lmdb
import numpy as np

from features.arrays import Bool, Float32
from recsys.encoder.text import Tokens

logger = logging.getLogger(__name__)
VARIABLE = "RECSYS_CACHE"
MOST_BYTES = 4 * 2**30
"""Size at which a cache begins anew: 1.2 million vectors of 384 numbers."""
WRITTEN_TOGETHER = 64
"""Fewer vectors are not kept: a request with a new text does not wait for the disk."""
_AT_ONCE = 20_000
_EMPTIED = b"emptied"
_CHECKSUM = Struct("<I")
"""Before each vector: one that a failing disk has changed is computed again."""
_opened: dict[tuple[int, Path], VectorCache | None] = {}
_opening = Lock()


class VectorCache:
    """Vectors by key, for any number of threads and processes. Raises lmdb.Error or OSError where the folder cannot be
    used; later failures are logged, and nothing is kept any more."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._environment: lmdb.Environment | None = lmdb.open(os.fspath(folder), map_size=most_bytes, max_readers=1024)
        self._environment.reader_check()  # processes that were killed keep pages from being used again

    def read(self, keys: Sequence[bytes], dim: int) -> tuple[Float32, Bool]:
        """Vectors of some keys, (n, dim), and which were here, (n,)."""
        vectors, found = np.zeros((len(keys), dim), np.float32), np.zeros(len(keys), np.bool_)
        environment = self._environment
        if environment is None:
            return vectors, found
        try:
            with environment.begin() as transaction:
                for row, key in enumerate(keys):
                    value = transaction.get(key)
                    vector = None if value is None else _unpack(value)
                    if vector is not None and len(vector) == 4 * dim:
                        vectors[row], found[row] = np.frombuffer(vector, "<f4"), True
        except lmdb.Error as error:
            self._give_up(error)
        return vectors, found

    def write(self, keys: Sequence[bytes], vectors: Float32) -> None:
        """Keep vectors, (n, dim), if there are enough of them. A full cache is emptied first."""
        if len(keys) < WRITTEN_TOGETHER:
            return
        for start in range(0, len(keys), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            rows = [
                (key, _pack(row.tobytes()))
                for key, row in zip(keys[part], vectors[part].astype("<f4", copy=False), strict=True)
            ]
            try:
                try:
                    self._put(rows)
                except lmdb.MapFullError:
                    logger.info("the cache of vectors in %s is full and begins anew", self.folder)
                    self._put(rows, anew=True)
            except lmdb.Error as error:
                self._give_up(error)

    def _put(self, rows: Sequence[tuple[bytes, bytes]], *, anew: bool = False) -> None:
        environment = self._environment
        if environment is None:
            return
        if anew:
            environment.reader_check()
            with environment.begin(write=True) as transaction:
                transaction.drop(environment.open_db(), delete=False)
            with environment.begin(write=True) as transaction:
                transaction.put(_EMPTIED, b"")  # the pages of what was dropped are free two changes later
        with environment.begin(write=True) as transaction:
            for key, value in rows:
                transaction.put(key, value)

    def _give_up(self, error: Exception) -> None:
        logger.warning("vectors are no longer kept in %s: %s", self.folder, error)
        self._environment = None


def _pack(vector: bytes) -> bytes:
    return _CHECKSUM.pack(crc32(vector)) + vector


def _unpack(value: bytes) -> bytes | None:
    """The vector of a value; None for one that is damaged."""
    vector = value[_CHECKSUM.size :]
    return vector if value[: _CHECKSUM.size] == _CHECKSUM.pack(crc32(vector)) else None


def vector_keys(tower: bytes, tokens: Tokens) -> list[bytes]:
    """The key of each text. tower: what identifies the rest that its vector depends on."""
    ids = tokens.ids.astype("<i4", copy=False)
    return [
        blake2b(ids[start:end].tobytes(), key=tower[:64], digest_size=20).digest()
        for start, end in zip(tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True)
    ]


def shared_cache() -> VectorCache | None:
    """The cache of this user, None where there is none to be had; one for each process."""
    folder = cache_folder()
    if folder is None:
        return None
    with _opening:
        key = (os.getpid(), folder)
        if key not in _opened:
            try:
                _opened[key] = VectorCache(folder)
            except (OSError, lmdb.Error) as error:
                logger.info("vectors are not kept in %s: %s", folder, error)
                _opened[key] = None
        return _opened[key]


def cache_folder() -> Path | None:
    """The folder of the cache, None where it is switched off or there is no home."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named).expanduser().resolve() / "vectors" if named else None
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home
        return None
    return home / "recsys" / "vectors"
