"""Files as they are: Parquet, CSV, TSV and JSON lines (text also as .gz), streamed as Arrow record batches.

A table is a file or a folder of files, which are read in the order of their names. Nothing is converted here beyond
what the format itself says: CSV and TSV cells stay bytes, so that ids keep their zeros; an empty cell is null. Lines
that the format cannot hold (ragged, not JSON, not UTF-8) come back as rejects beside the rows around them. Whatever
is wrong with a file as a whole raises InputError.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.cells import is_text
from features.delimited import Delimited, delimited_batches, delimited_columns
from features.errors import InputError
from features.json_lines import json_batches, json_columns
from features.raw import RawBatch, explained

_TEXT_FORMATS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".json": "JSON lines"}
_SUFFIXES = (".parquet", *_TEXT_FORMATS, *(f"{suffix}.gz" for suffix in _TEXT_FORMATS))
_BATCH_ROWS = 131_072
_LAYOUTS = {"CSV": Delimited(","), "TSV": Delimited("\t")}


def find_table(folder: Path, table: str) -> Path | None:
    """The file or folder of a table in a data directory, None where there is none.

    Raises InputError where `folder` is not a directory, or holds the table more than once.
    """
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise InputError(f"data directory {str(folder)!r}: expected a folder with items and impressions, found {what}")
    found = [path for path in (folder / f"{table}{suffix}" for suffix in ("", *_SUFFIXES)) if path.exists()]
    found = [path for path in found if path.suffix or path.is_dir()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"table {table!r} in {str(folder)!r}: expected one file or folder, found {names}; remove one")
    return found[0] if found else None


def files_of(path: Path) -> list[Path]:
    """The files of a table, sorted by name; files that start with `.` or `_` are left out.

    Raises InputError where there is none, or where `path` is of no format that can be read.
    """
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_")))
        if not inside:
            raise InputError(f"folder {str(path)!r}: expected at least one of {_formats()}, found no file")
        return inside
    if not path.exists():
        raise InputError(f"file {str(path)!r} does not exist; expected one of {_formats()}")
    return [path]


def columns_of(file: Path) -> dict[str, pa.DataType]:
    """Names and types of a file's columns; in JSON lines, those of the first thousand.

    Raises InputError where the file is empty, corrupt or of an unknown format, or names a column twice.
    """
    kind = _format(file)
    with explained(file, kind):
        if file.stat().st_size == 0:
            raise InputError(f"file {str(file)!r} is empty; expected a {kind} table")
        if kind == "Parquet":
            schema = pq.read_schema(file)
        elif kind == "JSON lines":
            return json_columns(file)
        else:
            schema = delimited_columns(file, _LAYOUTS[kind])
        names = schema.names
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"file {str(file)!r}: expected every column once, found {repeated} more than once")
    return dict(zip(names, schema.types, strict=True))


def raw_batches(file: Path, columns: list[str], ids: frozenset[str]) -> Iterator[RawBatch]:
    """The rows of a file in order, with those of `columns` that it has.

    ids: the columns that hold ids, in which JSON numbers with a fraction reject their row. Raises InputError as soon
    as the file turns out to be cut off or corrupt.
    """
    kind = _format(file)
    read = {"Parquet": _parquet, "JSON lines": json_batches}.get(kind, _csv)
    batches = read(file, columns, ids)
    while True:
        with explained(file, kind):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _formats() -> str:
    return f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"


def _format(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    last = suffixes[-1] if suffixes else ""
    if last == ".parquet":
        return "Parquet"
    if last == ".gz" and len(suffixes) > 1:
        last = suffixes[-2]
    if last not in _TEXT_FORMATS:
        raise InputError(f"file {str(file)!r}: expected a name that ends in {_formats()}")
    return _TEXT_FORMATS[last]


def _parquet(file: Path, columns: list[str], ids: frozenset[str]) -> Iterator[RawBatch]:
    schema = pq.read_schema(file)
    coded = [name for name in schema.names if name in ids and is_text(schema.field(name).type)]
    with pq.ParquetFile(file, read_dictionary=coded) as source:
        wanted = [name for name in columns if name in source.schema_arrow.names]
        done = 0
        for batch in source.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
            batch.validate()
            for column in batch.columns:
                _check_indices(file, column)
            yield RawBatch(file, np.arange(done + 1, done + 1 + len(batch)), batch)
            done += len(batch)


def _csv(file: Path, columns: list[str], ids: frozenset[str]) -> Iterator[RawBatch]:
    found = columns_of(file)
    return delimited_batches(file, [name for name in columns if name in found], _LAYOUTS[_format(file)])


def _check_indices(file: Path, column: pa.Array) -> None:
    """The decoder does not look whether a damaged file's dictionary indices point into the dictionary."""
    if pa.types.is_dictionary(column.type):
        bounds = pc.min_max(column.indices).as_py()
        if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] < len(column.dictionary):
            raise InputError(
                f"file {str(file)!r}: expected a readable Parquet file, got damaged pages; "
                "write it again or take it away"
            )
