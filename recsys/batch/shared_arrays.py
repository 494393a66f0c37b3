"""A large object for several processes of one machine: pickled once, with its arrays in a file that all of them map.

The arrays are in memory once, however many processes read them; what one of them writes is its own. The file is for the
processes of one command, which read what that command has just written; it is no format to keep.
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ALIGNED = 64


@dataclass(frozen=True)
class SharedObject:
    """An object in a file that this command wrote. Call it for the object, whose arrays are those of the file."""

    path: Path

    def __call__(self) -> Any:
        """Map the file."""
        with self.path.open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        start = int.from_bytes(mapped[-8:], "little")
        places, rest = pickle.loads(mapped[start:-8])
        return pickle.loads(rest, buffers=[mapped[first : first + size] for first, size in places])


@contextmanager
def shared_object(value: object, path: Path) -> Iterator[SharedObject]:
    """An object in a new file, which this user alone can read; it is gone when the block ends."""
    try:
        _save(value, path)
        yield SharedObject(path)
    finally:
        path.unlink(missing_ok=True)


def _save(value: object, path: Path) -> None:
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    path.touch(mode=0o600, exist_ok=False)
    with path.open("wb") as file:
        places = []
        for buffer in buffers:
            file.seek(-(-file.tell() // _ALIGNED) * _ALIGNED)
            with buffer.raw() as raw:
                places.append((file.tell(), raw.nbytes))
                file.write(raw)
        start = file.tell()
        pickle.dump((places, rest), file, protocol=5)
        file.write(start.to_bytes(8, "little"))
