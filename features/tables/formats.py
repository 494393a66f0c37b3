"""Files as they are: Parquet, CSV, TSV and JSON lines (text also as .gz), streamed as Arrow record batches.

A table is a file or a folder of files, which are read in the order of their names; folders inside called `name=value`
are columns. Nothing is converted here beyond what the format itself says: CSV and TSV cells stay bytes, so that ids
keep their zeros; an empty cell is null. Lines that the format cannot hold (ragged, broken quotes, not JSON) come back
as rejects beside the rows around them. Whatever is wrong with a file as a whole raises InputError.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import InputError
from features.tables.cells import is_text
from features.tables.delimited import CsvDialect, delimited_batches, delimited_columns
from features.tables.encodings import UTF8
from features.tables.json_lines import json_batches, json_columns
from features.tables.raw_batch import RawBatch, readable_file_errors
from features.tables.schema import Kind
from features.tables.sources import Source, is_hidden, partition_of

_TEXT_FORMATS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".json": "JSON lines"}
_SUFFIXES = (".parquet", *_TEXT_FORMATS, *(f"{suffix}.gz" for suffix in _TEXT_FORMATS))
_BATCH_ROWS = 131_072
_DIALECTS = {"CSV": CsvDialect(","), "TSV": CsvDialect("\t")}


def find_table(folder: Path, table: str) -> Path | None:
    """The file or folder of a table in a data directory, None where there is none.

    Raises InputError where `folder` is not a directory, or holds the table more than once.
    """
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise InputError(f"data directory {str(folder)!r}: expected a folder with items and impressions, found {got}")
    paths = [folder / table] if (folder / table).is_dir() else []
    paths += [path for suffix in _SUFFIXES if (path := folder / f"{table}{suffix}").exists()]
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise InputError(f"table {table!r} in {str(folder)!r}: expected one file or folder, found {names}; remove one")
    return paths[0] if paths else None


def files_of(path: Path, encoding: str = UTF8) -> list[Source]:
    """The files of a table, sorted by name. Files and folders that start with `.` or `_` are left out.

    Raises InputError where there is none, or where `path` is of no format that can be read.
    """
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file() and not is_hidden(file.relative_to(path).parts))
        sources = [Source(file, encoding, partition_of(file, path)) for file in sorted(files)]
        if not sources:
            raise InputError(f"folder {str(path)!r}: expected at least one of {_formats()}, found no file")
        return sources
    if not path.exists():
        raise InputError(f"file {str(path)!r} does not exist; expected one of {_formats()}")
    return [Source(path, encoding, partition_of(path, path))]


def columns_of(source: Source) -> dict[str, pa.DataType]:
    """Names and types of a file's columns, those that its folders name among them; in JSON lines, those of the first
    thousand.

    Raises InputError where the file is empty, corrupt or of an unknown format, or names a column twice.
    """
    return {**source.partition_types(), **_file_columns(source)}


def _file_columns(source: Source) -> dict[str, pa.DataType]:
    file = source.path
    file_format = _format(file)
    with readable_file_errors(source, file_format):
        if file.stat().st_size == 0:
            raise InputError(f"file {str(file)!r} is empty; expected a {file_format} table")
        if file_format == "Parquet":
            schema = pq.read_schema(file)
        elif file_format == "JSON lines":
            return json_columns(source)
        else:
            schema = delimited_columns(source, _DIALECTS[file_format])
        names = schema.names
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"file {str(file)!r}: expected every column once, found {repeated} more than once")
    return dict(zip(names, schema.types, strict=True))


def raw_batches(source: Source, columns: Mapping[str, Collection[Kind]]) -> Iterator[RawBatch]:
    """The rows of a file in order, with those of `columns` that it has.

    columns: each with what it is to be read as; in JSON lines, a value that cannot be read so rejects its row. Raises
    InputError as soon as the file turns out to be cut off or corrupt.
    """
    file_format = _format(source.path)
    with readable_file_errors(source, file_format):
        partition_columns = [name for name in source.partition if name in columns and name not in _file_columns(source)]
    read = {name: kinds for name, kinds in columns.items() if name not in partition_columns}
    batches = _READERS[file_format](source, read)
    while True:
        with readable_file_errors(source, file_format):
            batch = next(batches, None)
        if batch is None:
            return
        for name in partition_columns:
            column = source.partition_column(name, len(batch.rows))
            batch = replace(batch, data=batch.data.append_column(name, column))
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


def _parquet(source: Source, columns: Mapping[str, Collection[Kind]]) -> Iterator[RawBatch]:
    schema = pq.read_schema(source.path)
    ids = [name for name in schema.names if "id" in columns.get(name, ()) and is_text(schema.field(name).type)]
    # Parquet's own dictionary of ids is kept, so that each id is read once
    dictionaries = [name for name in ids if not pa.types.is_fixed_size_binary(schema.field(name).type)]
    with pq.ParquetFile(source.path, read_dictionary=dictionaries) as file:
        names = [name for name in columns if name in file.schema_arrow.names]
        done = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
            batch.validate()
            for column in batch.columns:
                _check_indices(source.path, column)
            yield RawBatch(source, np.arange(done + 1, done + 1 + len(batch)), batch)
            done += len(batch)


def _check_indices(file: Path, column: pa.Array) -> None:
    """The decoder does not look whether a damaged file's dictionary indices point into the dictionary."""
    if pa.types.is_dictionary(column.type):
        bounds = pc.min_max(column.indices).as_py()
        if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] < len(column.dictionary):
            raise InputError(
                f"file {str(file)!r}: expected a readable Parquet file, got damaged pages; "
                "write it again or take it away"
            )


_READERS: dict[str, Callable[[Source, Mapping[str, Collection[Kind]]], Iterator[RawBatch]]] = {
    "Parquet": _parquet,
    "JSON lines": json_batches,
    **{name: partial(delimited_batches, dialect=dialect) for name, dialect in _DIALECTS.items()},
}
