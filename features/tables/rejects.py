"""Rows that cannot be used: counted by reason, and written to a folder where one is given.

Writes `<folder>/<table>.jsonl`, one line a row: file, row (the first data row is 1), reason, field, value. A file
appears whole or not at all: lines go to a temporary file beside it, which is renamed at the end. A table without
rejects leaves no file, and removes one of an earlier reading.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from features.atomic_files import replaced_file
from features.errors import InputError
from features.tables.encodings import FileOptions, encoding_advice, reason_for

_LONGEST = 200
FORGOTTEN_USER = "forgotten_user"
"""Reason of rows of a user whom the online store has forgotten."""
_NO_DAMAGE = ("duplicate_id", "unlabelled", FORGOTTEN_USER)
"""Reasons of rows that are left out although they can be read."""


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

    A context manager: the files get their names when it ends well or with an InputError, and vanish otherwise. Raises
    RecsysError where they cannot be written.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files: dict[str, TextIO] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._first: dict[str, dict[str, Reject]] = {}
        self._stack = ExitStack()

    def add(self, table: str, reject: Reject) -> None:
        """Count a row of `table`, and write it to the file."""
        self._counts.setdefault(table, Counter())[reject.reason] += 1
        self._first.setdefault(table, {}).setdefault(reject.reason, reject)
        if self._folder is None:
            return
        if table not in self._files:
            partial = self._stack.enter_context(replaced_file(self._folder / f"{table}.jsonl"))
            file = partial.open("w", encoding="utf-8", errors="replace")
            self._files[table] = self._stack.enter_context(file)
        line = asdict(reject) | {"value": _cut(reject.value)}
        self._files[table].write(json.dumps(line, ensure_ascii=False) + "\n")

    def by_reason(self, table: str) -> dict[str, int]:
        """How many rows of `table` were rejected, by reason, in alphabetical order."""
        return dict(sorted(self._counts.get(table, Counter()).items()))

    def first(self, table: str, reason: str | None = None) -> Reject | None:
        """The first row of `table` that was rejected, for `reason` where one is named."""
        by_reason = self._first.get(table, {})
        return next(iter(by_reason.values()), None) if reason is None else by_reason.get(reason)

    def check_share(
        self, table: str, path: Path, n_rows: int, options: FileOptions, *, none_kept: bool = False, more: int = 0
    ) -> None:
        """Raises InputError where more of a table's rows were rejected than the options allow, or all.

        n_rows: rows seen. none_kept: True where not one row can be used, whatever is allowed. more: rejected rows
        beside those that were added here.
        """
        name, first = f"{table} table {str(path)!r}", self.first(table)
        counts = {reason: n for reason, n in self.by_reason(table).items() if reason not in _NO_DAMAGE}
        damaged = sum(counts.values()) + more
        if not none_kept and damaged <= options.max_rejects * n_rows:
            return
        if n_rows == 0 or first is None:
            raise InputError(f"{name}: expected at least one row, found none")
        if none_kept:
            problem, way_out = f"none of its {n_rows:,} rows can be used", ""
        else:
            listed = ", ".join(f"{n:,} x {reason}" for reason, n in counts.items())
            problem = (
                f"{damaged:,} of its {n_rows:,} rows cannot be used ({listed}), more than the share of "
                f"{options.max_rejects:g} that is allowed"
            )
            way_out = f"; --max-rejects {math.ceil(100 * damaged / n_rows) / 100} would leave them out"
        if counts and max(counts, key=counts.__getitem__) == reason_for(options.encoding):
            way_out = f"; {encoding_advice(options.encoding)}{way_out}"
        of_file = "" if first.file == str(path) else f" of {first.file!r}"
        raise InputError(
            f"{name}: {problem}; the first: row {first.row}{of_file}, {first.reason}, "
            f"field {first.field!r}, value {_cut(first.value)!r}{way_out}"
        )

    def clear(self, tables: tuple[str, ...]) -> None:
        """Remove what an earlier reading wrote for `tables`."""
        if self._folder is not None:
            for table in tables:
                (self._folder / f"{table}.jsonl").unlink(missing_ok=True)

    def __enter__(self) -> Rejects:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error_type is None or issubclass(error_type, InputError):
            self._stack.close()
        else:
            self._stack.__exit__(error_type, error, trace)


def _cut(value: str | None) -> str | None:
    return value if value is None or len(value) <= _LONGEST else value[:_LONGEST] + "…"
