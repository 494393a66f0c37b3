"""Rows as a file gave them, and errors of unreadable files as InputError."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.arrays import Bool, Int64
from features.errors import InputError
from features.tables.encodings import encoding_advice, is_utf8
from features.tables.rejects import Reject
from features.tables.sources import Source


@dataclass(frozen=True)
class RawBatch:
    """Some rows of one file. rows: (n,) int64, each row's number in the file, from 1. data: the requested columns
    that the file has. is_text_format: True where every cell is text only because the format knows nothing else.
    escaped: how many cells had quotes escaped by backslashes."""

    source: Source
    rows: Int64
    data: pa.RecordBatch
    rejects: tuple[Reject, ...] = ()
    is_text_format: bool = False
    escaped: int = 0

    @property
    def file(self) -> Path:
        """The file of the rows."""
        return self.source.path

    def value(self, index: int, field: str) -> str | None:
        """A cell as text, None where it is null or the file has no such column."""
        value = self.data.column(field)[index].as_py() if field in self.data.schema.names else None
        if isinstance(value, bytes):
            return value.decode("utf-8", "backslashreplace")
        return None if value is None else str(value)

    def rejected(self, bad: Bool, reason: str, field: str) -> list[Reject]:
        """The rows where the (n,) mask `bad` is True as rejects, for the value of `field`."""
        return [
            Reject(str(self.file), int(self.rows[index]), reason, field, self.value(int(index), field))
            for index in np.flatnonzero(bad)
        ]


@contextmanager
def readable_file_errors(source: Source, file_format: str) -> Iterator[None]:
    """Turns errors of Arrow, gzip and the system about a bad file into an InputError of one line that names it."""
    file = str(source.path)
    try:
        yield
    except InputError:
        raise
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x}" if is_utf8(source.encoding) else "other bytes"
        raise InputError(
            f"file {file!r}: expected {source.encoding.upper()} text, got {got} among the names of its columns; "
            f"{encoding_advice(source.encoding)}"
        ) from error
    except UnicodeError as error:
        raise InputError(
            f"file {file!r}: expected {source.encoding.upper()} text, got: {error}; {encoding_advice(source.encoding)}"
        ) from error
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        detail = (getattr(error, "strerror", None) or " ".join(str(error).split()))[:200]
        raise InputError(
            f"file {file!r}: expected a readable {file_format} file, got {detail!r}; write it again or take it away"
        ) from error
