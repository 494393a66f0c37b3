"""Text files as UTF-8 bytes, whatever encoding they are written in, and how files are read at all.

A file that begins with a byte order mark is in the encoding that this says, UTF-8 or UTF-16, whatever else is named.
Bytes that the named encoding does not have become bytes that are no UTF-8 either, so that one rule rejects their row.
"""

from __future__ import annotations

import codecs
import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from features.errors import InputError

UTF8 = "utf-8"
INVALID = "invalid_utf8"
_LONE = "features.tables.encodings.lone_surrogate"
_CHARACTERS = 1 << 20
_MARKS = ((codecs.BOM_UTF8, UTF8), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class FileOptions:
    """How files are read. encoding: of text files, a name that Python knows. max_rejects: the largest share of a
    table's rows that may be rejected, ratio 0 to 1; more is an error.

    Raises InputError for an unknown encoding, ValueError for a share out of range.
    """

    encoding: str = UTF8
    max_rejects: float = 0.5

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        if not 0 <= self.max_rejects <= 1:
            raise ValueError(f"max_rejects: expected a share from 0 to 1, got {self.max_rejects!r}")


def check_encoding(name: str) -> str:
    """The usual spelling of a text encoding's name; InputError where there is none of that name."""
    try:
        "".encode(name)
        codec_name = codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        raise InputError(
            f"encoding: expected the name of a text encoding such as 'utf-8', 'gb18030' or 'cp1252', got {name!r}"
        ) from error
    return UTF8 if codec_name in ("ascii", "utf-8-sig") else codec_name


def is_utf8(encoding: str) -> bool:
    """Whether text of an encoding can be read as UTF-8."""
    return check_encoding(encoding) == UTF8


def reason_for(encoding: str) -> str:
    """Why a row is rejected whose bytes are not of an encoding: `invalid_utf8`, `invalid_gb18030`."""
    return INVALID if is_utf8(encoding) else f"invalid_{check_encoding(encoding)}"


def encoding_advice(encoding: str) -> str:
    """What to do about a file that is not in `encoding`, for an error."""
    if is_utf8(encoding):
        return "name the encoding of the file, such as --encoding gb18030 or cp1252, or write it again as UTF-8"
    return f"it seems to be in another encoding than --encoding {encoding}; name that one, or write it again as UTF-8"


def open_text(file: Path, encoding: str) -> BinaryIO:
    """The UTF-8 bytes of a text file in `encoding`, or what its byte order mark says, unpacked where its name ends in
    .gz. Close it after use."""
    raw = cast(BinaryIO, gzip.GzipFile(file, "rb")) if file.suffix.lower() == ".gz" else file.open("rb")
    beginning = raw.read(3)
    raw.seek(0)
    encoding = next((name for mark, name in _MARKS if beginning.startswith(mark)), encoding)
    if is_utf8(encoding):
        return raw
    text = io.TextIOWrapper(raw, encoding=encoding, errors=_LONE, newline="")
    return io.BufferedReader(_AsUtf8(text), 1 << 20)


class _AsUtf8(io.RawIOBase):
    """The characters of a text stream as a stream of UTF-8 bytes."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._waiting:
            self._waiting = self._text.read(_CHARACTERS).encode(UTF8, "surrogatepass")
        n = min(len(buffer), len(self._waiting))
        buffer[:n], self._waiting = self._waiting[:n], self._waiting[n:]
        return n

    def close(self) -> None:
        self._text.close()
        super().close()


def _lone_surrogate(error: UnicodeError) -> tuple[str, int]:
    """A character that UTF-8 cannot hold in place of bytes that cannot be decoded."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udc80", error.end


codecs.register_error(_LONE, _lone_surrogate)
