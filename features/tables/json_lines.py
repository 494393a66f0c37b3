"""JSON lines, streamed: one object a line, blank lines skipped, anything else a reject.

A field is read value by value as its column needs it, so that a value's meaning does not depend on the rows around
it: texts and numbers may alternate, and so may a text and a list of texts. A value that the column cannot
hold rejects its row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import compress
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from features.errors import InputError
from features.tables.encodings import open_text, reason_for
from features.tables.raw_batch import RawBatch
from features.tables.rejects import Reject
from features.tables.schema import WORDS, Kind
from features.tables.sources import Source

_JSON_ROWS = 32_768
_PEEKED_LINES = 1_000
_SCALARS = (str, int, float, bool)
_Lines = tuple[list[int], list[dict[str, Any]], list[Reject]]


def json_columns(source: Source) -> dict[str, pa.DataType]:
    """Names and types of the fields in the first thousand lines; text where the values are of several types."""
    _, rows, rejects = next(_json_blocks(source, _PEEKED_LINES), ([], [], []))
    if rejects and not rows:
        raise InputError(
            f"file {str(source.path)!r}: expected JSON lines, one object a line, got {(rejects[0].value or '')[:60]!r}"
        )
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _typed([row.get(name) for row in rows]).type for name in names}


def json_batches(source: Source, columns: Mapping[str, Collection[Kind]]) -> Iterator[RawBatch]:
    """The rows of a file with the fields `columns`, each with what it is to be read as."""
    for numbers, rows, rejects in _json_blocks(source, _JSON_ROWS):
        usable = [True] * len(rows)
        for name, kinds in columns.items():
            for index, row in enumerate(rows):
                problem = None if row.get(name) is None else _problem(row[name], kinds)
                if problem is not None and usable[index]:
                    usable[index] = False
                    rejects.append(Reject(str(source.path), numbers[index], problem, name, _written(row[name])))
        numbers, rows = list(compress(numbers, usable)), list(compress(rows, usable))
        arrays = [_column([row.get(name) for row in rows], kinds) for name, kinds in columns.items()]
        data = pa.RecordBatch.from_arrays(arrays, list(columns))
        yield RawBatch(source, np.array(numbers, np.int64), data, tuple(rejects))


def _json_blocks(source: Source, size: int) -> Iterator[_Lines]:
    """Row numbers, objects and rejected lines, up to `size` lines at a time; blank lines count for nothing."""
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    number = 0
    with open_text(source.path, source.encoding) as lines:
        for line in lines:
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            if line.isspace():
                continue
            number += 1
            row = _json_object(line, source.encoding)
            if isinstance(row, dict):
                numbers.append(number)
                rows.append(row)
            else:
                value = line.decode("utf-8", "replace").strip()
                rejects.append(Reject(str(source.path), number, row, "", value))
            if len(rows) + len(rejects) >= size:
                yield numbers, rows, rejects
                numbers, rows, rejects = [], [], []
    if rows or rejects:
        yield numbers, rows, rejects


def _json_object(line: bytes, encoding: str) -> dict[str, Any] | str:
    """The object of a line, or the reason why there is none."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return reason_for(encoding)
        return "bad_json"
    return row if isinstance(row, dict) else "bad_json"


def _problem(value: object, kinds: Collection[Kind]) -> str | None:
    """Why a column of these kinds cannot hold a value, None where it can."""
    if type(value) is str:
        return None
    if "id" in kinds and type(value) is not int:
        return "float_id" if isinstance(value, float) else "wrong_type"
    if isinstance(value, _SCALARS) or "any" in kinds:
        return None
    if isinstance(value, list):
        flat = all(element is None or isinstance(element, _SCALARS) for element in value)
        return None if flat and ("vector" in kinds or not WORDS.isdisjoint(kinds)) else "wrong_type"
    return "wrong_type"


def _column(values: list[Any], kinds: Collection[Kind]) -> pa.Array:
    """A column of values that its kinds can hold: of lists where one is a list, as Arrow sees it where it can."""
    if not WORDS.isdisjoint(kinds):
        if any(type(value) is list for value in values):
            lists = [None if value is None else _texts(value) for value in values]
            return pa.array(lists, pa.large_list(pa.large_string()))
        return _as_text(values, _text)
    return _as_text(values, _written) if "id" in kinds else _typed(values)


def _texts(value: object) -> list[str]:
    """A list's values as text, those that are null left out; one value is a list of itself."""
    elements = value if isinstance(value, list) else [value]
    return [_text(element) for element in elements if element is not None]


def _text(value: object) -> str:
    """One value as text, a float as Arrow writes it."""
    if type(value) is str:
        return value
    if isinstance(value, float):
        return str(pa.scalar(value).cast(pa.string()).as_py())
    return orjson.dumps(value).decode()


def _typed(values: list[Any]) -> pa.Array:
    """The column as Arrow sees it; as text where its values are of several types."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return _as_text(values, _written)


def _as_text(values: list[Any], write: Callable[[object], str]) -> pa.Array:
    return pa.array([None if value is None else write(value) for value in values], pa.large_string())


def _written(value: object) -> str:
    return value if type(value) is str else orjson.dumps(value).decode()
