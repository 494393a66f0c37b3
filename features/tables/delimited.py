"""Delimited text such as CSV and TSV, streamed, every cell as bytes, so that ids keep their zeros.

An empty cell is null; a byte order mark is skipped. A line with more or fewer cells than the header is a reject, and so
is a row whose quotes break the rules of `features.tables.quoting`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from features.arrays import Int64
from features.errors import InputError
from features.tables.encodings import open_text
from features.tables.quoting import Block, Broken, WholeRows
from features.tables.raw_batch import RawBatch, readable_file_errors
from features.tables.rejects import Reject
from features.tables.sources import Source


@dataclass(frozen=True)
class CsvDialect:
    """Delimited text. names: of the columns, where the file has no header. quoted: cells may stand in double quotes,
    and then hold delimiters and line ends."""

    delimiter: str
    names: tuple[str, ...] = ()
    quoted: bool = True

    @property
    def format(self) -> str:
        """The format's name in messages."""
        return "CSV" if self.delimiter == "," else "TSV"


def delimited_columns(source: Source, dialect: CsvDialect) -> pa.Schema:
    """Names of the header, and the types that the first block looks like."""
    with open_text(source.path, source.encoding) as stream:
        rows = WholeRows(stream, dialect.delimiter, quoted=dialect.quoted, has_header=not dialect.names)
        names = _names(source, rows, dialect)
        first = next(iter(rows), Block(b""))
        return _parsed(first.text, names, None, dialect, [])[0].schema


def delimited_batches(source: Source, columns: Iterable[str], dialect: CsvDialect) -> Iterator[RawBatch]:
    """The rows of a file of delimited text with those of `columns` that it has, as large_binary cells.

    Ragged lines and broken quotes are rejects.
    """
    done = 0
    with readable_file_errors(source, dialect.format), open_text(source.path, source.encoding) as stream:
        rows = WholeRows(stream, dialect.delimiter, quoted=dialect.quoted, has_header=not dialect.names)
        names = _names(source, rows, dialect)
        chosen = [name for name in columns if name in names]
        for block in rows:
            ragged: list[arrow_csv.InvalidRow] = []
            data, positions = _parsed(block.text, names, chosen, dialect, ragged)
            first, after = done + 1, done + 1 + len(data) + len(ragged)
            rejects = [_ragged(source, done + line.number, line) for line in ragged]
            rejects += [_broken(source, after + index, line) for index, line in enumerate(block.broken)]
            yield RawBatch(source, first + positions, data, tuple(rejects), is_text_format=True, escaped=block.escaped)
            done = after - 1 + len(block.broken)


def _names(source: Source, rows: WholeRows, dialect: CsvDialect) -> list[str]:
    if dialect.names:
        return list(dialect.names)
    names: list[str] = _parsed(rows.header, None, None, dialect, [])[0].schema.names
    if any("\n" in name or "\r" in name for name in names):
        raise InputError(
            f"file {str(source.path)!r}: expected the names of the columns in the first row, got a quoted cell that "
            f"goes on over several lines: {next(name for name in names if len(name.splitlines()) > 1)[:60]!r}; close it"
        )
    return names


def _parsed(
    text: bytes,
    names: list[str] | None,
    columns: list[str] | None,
    dialect: CsvDialect,
    ragged: list[arrow_csv.InvalidRow],
) -> tuple[pa.RecordBatch, Int64]:
    """The rows of `text` with `columns`, all without conversion; None: all columns, with the types they look like.

    names: None where the first row holds them. Lines with another number of cells are added to `ragged`. The second
    value has the positions of the rows that are left, from 0.
    """

    def on_ragged(row: arrow_csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    if names is not None and not text.strip(b"\r\n"):
        chosen = names if columns is None else columns
        arrow_type = pa.null() if columns is None else pa.large_binary()
        return pa.RecordBatch.from_arrays([pa.array([], arrow_type)] * len(chosen), chosen), np.zeros(0, np.int64)
    table = arrow_csv.read_csv(
        pa.BufferReader(text),
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
        parse_options=arrow_csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quoted and '"',
            newlines_in_values=dialect.quoted,
            invalid_row_handler=on_ragged,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.large_binary() for name in columns or []},
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    data = pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)
    readable = np.ones(len(data) + len(ragged), np.bool_)
    readable[[row.number - 1 for row in ragged]] = False
    return data, np.flatnonzero(readable).astype(np.int64)


def _broken(source: Source, number: int, broken: Broken) -> Reject:
    return Reject(str(source.path), number, broken.reason, "", broken.line.decode("utf-8", "backslashreplace"))


def _ragged(source: Source, number: int, row: arrow_csv.InvalidRow) -> Reject:
    problem = f"{row.actual_columns} cells, not {row.expected_columns}: {row.text}"
    return Reject(str(source.path), number, "ragged_line", "", problem)
