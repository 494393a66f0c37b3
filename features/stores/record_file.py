"""A store's keys and values in one file, for a backup and for the way into another store.

    16 bytes            b"recsys store\\0\\0\\0" and the number of the format, 1
    8 bytes a record    length of the key, length of the value; little endian
    ...                 the key, the value
    8 bytes             two times 0xFFFFFFFF: no more records
    8 bytes             number of records
    32 bytes            SHA-256 of everything before

A key may come twice, with the same value. A file appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from features.atomic_files import atomic_file
from features.errors import InputError

_MAGIC, _FORMAT = b"recsys store\0\0\0", 1
_LENGTHS, _COUNT = Struct("<II"), Struct("<Q")
_END = _LENGTHS.pack(0xFFFFFFFF, 0xFFFFFFFF)
_BUFFER = 2**20


def write_records(path: Path, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write keys and values into a new file, and that to disk; how many. Raises InputError where the file exists."""
    count, digest = 0, sha256()
    with atomic_file(path) as partial, partial.open("wb", buffering=_BUFFER) as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        write(_MAGIC + bytes((_FORMAT,)))
        for key, value in records:
            write(b"".join((_LENGTHS.pack(len(key), len(value)), key, value)))
            count += 1
        write(_END + _COUNT.pack(count))
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())
    return count


def check_record_file(path: Path) -> int:
    """Read a file through; how many records it has. Raises InputError where it is not one as it was written."""
    size, digest = path.stat().st_size, sha256()
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + 1)
        if len(head) <= len(_MAGIC) or head[: len(_MAGIC)] != _MAGIC:
            raise InputError(f"{str(path)!r}: expected a file that `recsys store export` wrote, found another")
        if head[len(_MAGIC)] != _FORMAT:
            raise InputError(
                f"{str(path)!r}: expected format {_FORMAT}, found {head[len(_MAGIC)]}; import it with the version of "
                "recsys that wrote it"
            )
        digest.update(head)
        left = size - len(head) - digest.digest_size
        end = b""
        while left > 0 and (data := file.read(min(left, _BUFFER))):
            digest.update(data)
            left -= len(data)
            end = (end + data)[-len(_END) - _COUNT.size :]
        if left or end[: len(_END)] != _END or file.read() != digest.digest():
            raise InputError(
                f"{str(path)!r}: expected the checksum that the export ends with, found another: the file was cut or "
                "changed; export the store again"
            )
    return int(_COUNT.unpack(end[len(_END) :])[0])


def read_records(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a file that `check_record_file` has passed."""
    with path.open("rb", buffering=_BUFFER) as file:
        file.seek(len(_MAGIC) + 1)
        while (lengths := _exactly(file, _LENGTHS.size)) != _END:
            key_length, value_length = _LENGTHS.unpack(lengths)
            yield _exactly(file, key_length), _exactly(file, value_length)


def _exactly(file: BinaryIO, n: int) -> bytes:
    data = file.read(n)
    if len(data) != n:
        raise InputError(f"{file.name!r}: expected {n} more bytes, found {len(data)}: the file has changed meanwhile")
    return data
