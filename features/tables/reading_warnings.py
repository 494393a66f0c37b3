"""Warnings about table files that could be read: sentences with counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from features.tables.null_words import MISSING
from features.tables.quoting import AFTER_QUOTE, SWALLOWED, UNCLOSED
from features.tables.table_reader import TableReader

_BROKEN = {
    UNCLOSED: "it has a quoted cell that is not closed; close it, or double the quotes inside",
    AFTER_QUOTE: "it has text after the closing quote of a cell; double the quotes inside cells",
    SWALLOWED: "a quoted cell goes on over lines that look like rows; close it where it ends",
}


def reading_warnings(readers: Mapping[str, TableReader]) -> list[str]:
    """The warnings about each table's files and cells. readers: by table, read to the end."""
    return [
        sentence
        for table, reader in readers.items()
        for sentence in (
            *_misspelt(table, reader),
            *_broken_quotes(table, reader),
            *_escaped(reader),
            *_null_words(table, reader),
            *_bracketed(table, reader),
            *reader.observed.warnings(),
        )
    ]


def _misspelt(table: str, reader: TableReader) -> Iterator[str]:
    """Optional columns that no file has, where a file has a column of a similar name."""
    column_names = dict.fromkeys(name for columns in reader.columns for name in columns)
    read_names = {column.field for column in reader.schema.columns}
    unread = {_plain(name): name for name in column_names if name not in read_names}
    for column in reader.schema.columns:
        near = get_close_matches(_plain(column.field), unread, n=1, cutoff=0.85)
        if column.field not in column_names and near:
            yield (
                f"{table} has no column {column.field!r}, and nothing reads its column {unread[near[0]]!r}; if that is "
                f"meant, call it {column.field!r}"
            )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _broken_quotes(table: str, reader: TableReader) -> Iterator[str]:
    counts = reader.rejects.by_reason(table)
    for reason, problem in _BROKEN.items():
        first = reader.rejects.first(table, reason)
        if first is not None:
            yield f"{first.file!r}: {counts[reason]:,} rows are left out, the first of them row {first.row}: {problem}"


def _escaped(reader: TableReader) -> Iterator[str]:
    for file, cells in reader.escaped.items():
        if cells:
            yield f"{str(file)!r}: {cells:,} cells have quotes escaped by backslashes, which are read as quotes"


def _bracketed(table: str, reader: TableReader) -> Iterator[str]:
    for name, cells in reader.bracketed.items():
        if cells:
            yield (
                f"{table}.{name}: {cells:,} of {reader.n_rows:,} rows have a list written as text, '[…]', read "
                "as one value; separate values by '|'"
            )


def _null_words(table: str, reader: TableReader) -> Iterator[str]:
    for name, words in reader.words.counts.items():
        missing = words.get(MISSING, 0)
        if missing:
            yield f"{table}.{name}: {missing:,} of {reader.n_rows:,} rows have {MISSING}, read as a missing value"
        listed = ", ".join(f"{word!r} x {n:,}" for word, n in sorted(words.items()) if word != MISSING)
        if listed:
            yield (
                f"{table}.{name}: words for nothing are read as text: {listed} in {reader.n_rows:,} rows; leave those "
                "cells empty if nothing is meant"
            )
