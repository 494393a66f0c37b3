"""The folder of logged rankings: files that appear whole or not at all, and go when they are too old or too many.

Several workers and servers may share one folder: names have the time, the machine, the process and a random part.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from features.atomic_files import replaced_file
from features.clock import DAY, SECOND
from features.tables.logged_columns import PATTERN
from recsys.errors import ServerError

if TYPE_CHECKING:
    import pyarrow as pa

_GB = 10**9
_TIME = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"rankings-(?P<time>\d{8}T\d{6}\.\d{6}Z)-.+\.parquet")
_LEFT = f".{PATTERN}.new.partial"
_LEFT_AFTER = 3600
"""Seconds after which a file that is not finished was left by a process that was killed."""


@dataclass(frozen=True)
class _File:
    """time: of its writing, microseconds. size: bytes."""

    path: Path
    time: int
    size: int


class RankingFiles:
    """The files in `folder`, which is made. max_gb: of all together. days: that each is kept.

    Raises ServerError where the folder cannot be made or written into.
    """

    def __init__(self, folder: Path, *, max_gb: float, days: float) -> None:
        self._folder = folder
        self._most, self._longest = max_gb * _GB, days * DAY
        self._written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ServerError(
                f"folder {str(folder)!r} for logged rankings cannot be written: {error.strerror or error}; name "
                "another one with --log-rankings, or leave that out"
            ) from error
        host = re.sub(r"[^\w.]", "_", socket.gethostname()) or "host"
        self._writer = f"{host}-{os.getpid()}"

    def write(self, table: pa.Table, now: int) -> None:
        """Write a file. now: microseconds. Raises RecsysError or OSError where that cannot be done."""
        import pyarrow.parquet as pq

        moment = datetime.fromtimestamp(now / SECOND, UTC).strftime(_TIME)
        out = self._folder / f"rankings-{moment}-{self._writer}-{uuid.uuid4().hex[:8]}.parquet"
        with replaced_file(out) as partial:
            pq.write_table(table, partial, compression="zstd")
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
                self._written += file.seek(0, os.SEEK_END)

    @property
    def has_written_much(self) -> bool:
        """Whether this process has written a hundredth of the largest size since it last removed files."""
        return self._written >= self._most / 100

    def prune(self, now: int) -> None:
        """Remove files that are too old, then the oldest ones until the others are small enough together, and what
        killed processes left. now: microseconds. Raises OSError where that cannot be done."""
        self._written = 0
        files = sorted(self._files(), key=lambda file: (file.time, file.path))
        total = sum(file.size for file in files)
        for file in files:
            if total <= self._most and now - file.time <= self._longest:
                break
            file.path.unlink(missing_ok=True)  # another process may have been faster
            total -= file.size
        for path in self._folder.glob(_LEFT):
            try:
                if now / SECOND - path.stat().st_mtime > _LEFT_AFTER:
                    path.unlink()
            except FileNotFoundError:
                continue

    def _files(self) -> Iterator[_File]:
        """Files of this log; others in the folder are left alone."""
        for path in self._folder.glob(PATTERN):
            match = _NAME.fullmatch(path.name)
            if match is None:
                continue
            try:
                moment = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
                yield _File(path, round(moment.timestamp() * SECOND), path.stat().st_size)
            except (ValueError, FileNotFoundError):  # no time, or removed by another process
                continue
