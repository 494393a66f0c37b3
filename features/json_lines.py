"""JSON lines, streamed: one object a line, blank lines skipped, anything else a reject."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from features.errors import InputError
from features.raw import RawBatch
from features.rejects import Reject

_JSON_ROWS = 32_768
_PEEKED_LINES = 1_000


def json_columns(file: Path) -> dict[str, pa.DataType]:
    """Names and types of what stands in the first thousand lines."""
    _, rows, rejects = next(_json_blocks(file, _PEEKED_LINES), ([], [], []))
    if rejects and not rows:
        raise InputError(
            f"file {str(file)!r}: expected JSON lines, one object a line, got {(rejects[0].value or '')[:60]!r}"
        )
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _json_column([row.get(name) for row in rows], is_id=False).type for name in names}


def json_batches(file: Path, columns: list[str], ids: frozenset[str]) -> Iterator[RawBatch]:
    """The rows of a file with the fields `columns`. ids: those that hold ids, in which a fraction rejects its row."""
    for numbers, rows, rejects in _json_blocks(file, _JSON_ROWS):
        kept = [_id_problem(row, ids) for row in rows]
        for number, problem in zip(numbers, kept, strict=True):
            if problem is not None:
                rejects.append(Reject(str(file), number, *problem))
        if any(kept):
            numbers = [number for number, problem in zip(numbers, kept, strict=True) if problem is None]
            rows = [row for row, problem in zip(rows, kept, strict=True) if problem is None]
        arrays = [_json_column([row.get(name) for row in rows], is_id=name in ids) for name in columns]
        data = pa.RecordBatch.from_arrays(arrays, columns)
        yield RawBatch(file, np.array(numbers, np.int64), data, tuple(rejects))


def _json_blocks(file: Path, size: int) -> Iterator[tuple[list[int], list[dict[str, object]], list[Reject]]]:
    """Row numbers, objects and rejected lines, up to `size` lines at a time; blank lines count for nothing."""
    numbers: list[int] = []
    rows: list[dict[str, object]] = []
    rejects: list[Reject] = []
    number = 0
    with file.open("rb") as raw:
        for line in gzip.GzipFile(fileobj=raw) if file.suffix.lower() == ".gz" else raw:
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            if line.isspace():
                continue
            number += 1
            row = _json_object(line)
            if isinstance(row, dict):
                numbers.append(number)
                rows.append(row)
            else:
                rejects.append(Reject(str(file), number, row, "", line.decode("utf-8", "replace").strip()))
            if len(rows) + len(rejects) >= size:
                yield numbers, rows, rejects
                numbers, rows, rejects = [], [], []
    if rows or rejects:
        yield numbers, rows, rejects


def _json_object(line: bytes) -> dict[str, object] | str:
    """The object of a line, or the reason why there is none."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return "invalid_utf8"
        return "bad_json"
    return row if isinstance(row, dict) else "bad_json"


def _id_problem(row: dict[str, object], ids: frozenset[str]) -> tuple[str, str, str] | None:
    for name in ids:
        value = row.get(name)
        if value is not None and type(value) is not str and type(value) is not int:
            return "float_id" if isinstance(value, float) else "wrong_type", name, orjson.dumps(value).decode()
    return None


def _json_column(values: list[object], *, is_id: bool) -> pa.Array:
    """The column as Arrow sees it; as text where its values are of several types, or ids."""
    if not is_id:
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError):
            pass
    texts = [
        None if value is None else value if type(value) is str else orjson.dumps(value).decode() for value in values
    ]
    return pa.array(texts, pa.large_string())
