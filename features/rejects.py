"""Rows that cannot be used: counted by reason, and written down where a folder is given.

Writes `<folder>/<table>.jsonl`, one line a row: file, row (the first data row is 1), reason, field, value. A file
appears whole or not at all: lines go to a temporary file beside it, which is renamed at the end. A table without
rejects leaves no file, and removes one of an earlier reading.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from features.errors import InputError, RecsysError

_LONGEST = 200


@dataclass(frozen=True)
class Reject:
    """One row that was left out. row: from 1, the header not counted. value: as text, cut after 200 characters."""

    file: str
    row: int
    reason: str
    field: str
    value: str | None


class Rejects:
    """Counts rejected rows by table and reason, and writes them as `folder`/<table>.jsonl unless folder is None.

    A context manager: the files get their names when it ends well or with an InputError, and vanish otherwise.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files: dict[str, TextIO] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._first: dict[str, Reject] = {}
        self._stack = ExitStack()

    def add(self, table: str, reject: Reject) -> None:
        """Count a row of `table`, and write it down."""
        self._counts.setdefault(table, Counter())[reject.reason] += 1
        self._first.setdefault(table, reject)
        if self._folder is None:
            return
        if table not in self._files:
            self._files[table] = self._open(self._folder / f"{table}.jsonl")
        line = asdict(reject)
        if reject.value is not None and len(reject.value) > _LONGEST:
            line["value"] = reject.value[:_LONGEST] + "…"
        try:
            self._files[table].write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise _unwritable(self._folder / f"{table}.jsonl", error) from error

    def by_reason(self, table: str) -> dict[str, int]:
        """How many rows of `table` were rejected, by reason, in alphabetical order."""
        return dict(sorted(self._counts.get(table, Counter()).items()))

    def first(self, table: str) -> Reject | None:
        """The first row of `table` that was rejected."""
        return self._first.get(table)

    def clear(self, tables: tuple[str, ...]) -> None:
        """Remove what an earlier reading wrote for `tables`."""
        if self._folder is not None:
            for table in tables:
                (self._folder / f"{table}.jsonl").unlink(missing_ok=True)

    def _open(self, path: Path) -> TextIO:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.with_name(f".{path.name}.part").open("w", encoding="utf-8", errors="replace")
        except OSError as error:
            raise _unwritable(path, error) from error
        self._stack.callback(Path(file.name).unlink, missing_ok=True)
        self._stack.callback(_close, file)
        return file

    def __enter__(self) -> Rejects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None or issubclass(kind, InputError):
                for file in self._files.values():
                    part = Path(file.name)
                    path = part.with_name(part.name[1:].removesuffix(".part"))
                    try:
                        file.close()
                        part.replace(path)
                    except OSError as problem:
                        raise _unwritable(path, problem) from problem


def _close(file: TextIO) -> None:
    """Close a file that is to be removed; what it could not write is of no interest."""
    with suppress(OSError):
        file.close()


def _unwritable(path: Path, error: OSError) -> RecsysError:
    return RecsysError(
        f"reject file {str(path)!r} cannot be written: {error.strerror}; free some space or name another folder"
    )
