"""Delimited text, streamed: CSV, TSV and their kin, every cell as bytes, so that ids keep their zeros.

An empty cell is null; a byte order mark is skipped; a line with more or fewer cells than the header is a reject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from features.errors import InputError
from features.log import Int64
from features.raw import RawBatch, explained
from features.rejects import Reject

_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Delimited:
    """Delimited text. names: of the columns, where the file has no header. quoted: cells may stand in double quotes,
    and then hold delimiters and line ends."""

    delimiter: str
    names: tuple[str, ...] = ()
    quoted: bool = True


def delimited_columns(file: Path, layout: Delimited) -> pa.Schema:
    """Names of the header, and the types that the first block looks like."""
    with _open_delimited(file, layout, lambda _: "skip", None) as reader:
        return reader.schema


def _open_delimited(
    file: Path, layout: Delimited, on_ragged: Callable[[arrow_csv.InvalidRow], str], columns: list[str] | None
) -> arrow_csv.CSVStreamingReader:
    compression = "gzip" if file.suffix.lower() == ".gz" else None
    return arrow_csv.open_csv(
        pa.input_stream(str(file), compression=compression),
        read_options=arrow_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, column_names=list(layout.names) or None
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char=layout.quoted and '"',
            newlines_in_values=layout.quoted,
            invalid_row_handler=on_ragged,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.large_binary() for name in columns or []},
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def delimited_batches(file: Path, columns: list[str], layout: Delimited) -> Iterator[RawBatch]:
    """The rows of a file of delimited text as large_binary cells; ragged lines are rejects."""
    ragged: list[int] = []
    waiting: list[Reject] = []

    def on_ragged(row: arrow_csv.InvalidRow) -> str:
        number = row.number - (0 if layout.names else 1)
        ragged.append(number)
        found = f"{row.actual_columns} cells, not {row.expected_columns}: {row.text}"
        waiting.append(Reject(str(file), number, "ragged_line", "", found))
        return "skip"

    done, last = 0, None
    with explained(file, "CSV" if layout.delimiter == "," else "TSV"):
        reader = _open_delimited(file, layout, on_ragged, columns)
    with reader:
        while True:
            with explained(file, "CSV" if layout.delimiter == "," else "TSV"):
                batch = next(reader, None)
            if batch is None:
                break
            rows = _numbers_beside(done, len(batch), ragged)
            done += len(batch)
            last = (int(rows[-1]), batch.slice(len(batch) - 1)) if len(batch) else last
            rejects, waiting[:] = tuple(waiting), []
            yield RawBatch(file, rows, batch, rejects, textual=True)
    if layout.quoted and last is not None:
        _check_closed(file, *last)
    if waiting:
        empty = pa.RecordBatch.from_arrays([pa.array([], pa.large_binary()) for _ in columns], columns)
        yield RawBatch(file, np.zeros(0, np.int64), empty, tuple(waiting), textual=True)


def _check_closed(file: Path, row: int, cells: pa.RecordBatch) -> None:
    """A quote that is never closed takes the rest of the file into its cell, the last line's end included."""
    if any((value or b"").endswith(b"\n") for (value,) in (column.to_pylist() for column in cells.columns)):
        raise InputError(
            f"file {str(file)!r}: expected every quoted cell to end with a quote, but one in row {row} goes on to the "
            "end of the file; close it, or double the quotes inside cells"
        )


def _numbers_beside(done: int, count: int, left_out: list[int]) -> Int64:
    """Row numbers of the good rows `done` to `done + count`, where the rows numbered `left_out` are not among them."""
    good = np.arange(done + 1, done + count + 1, dtype=np.int64)
    before = np.asarray(left_out, np.int64) - np.arange(len(left_out))
    return good + np.searchsorted(before, good, side="right")
