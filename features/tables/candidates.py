"""A candidates file for batch scoring, streamed: requests of any number, each with its rows together.

Columns: impression_id or request_id, user_id, item_id; optional timestamp or time, and query; the same ones in every
file of a folder. The rows of one request have to be adjacent, so that a file larger than memory can be ranked in
one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from features.arrays import NO_TIME, Bool, Int32, Int64, Strings
from features.errors import InputError
from features.log import chunk_bounds
from features.tables.candidate_files import REQUEST_IDS, TIMES, CandidateFiles, find_candidates
from features.tables.encodings import FileOptions
from features.tables.formats import columns_of
from features.tables.items import strings
from features.tables.reading_warnings import reading_warnings
from features.tables.rejects import Reject, Rejects
from features.tables.schema import ColumnSpec, Schema
from features.tables.seen_requests import SeenRequests
from features.tables.sources import Source
from features.tables.table_reader import DEFAULT_FILES, TableReader

TABLE = "candidates"


@dataclass(frozen=True)
class CandidateChunk:
    """Whole requests. ids, user, time, query: one for each of n requests; user and query None where null, time NO_TIME
    where the file has none. offsets: (n + 1,) int64. item: (offsets[-1],) item ids, distinct in a request."""

    ids: Strings
    user: Strings
    time: Int64
    query: Strings
    offsets: Int64
    item: Strings

    def __len__(self) -> int:
        return len(self.ids)


class CandidateReader:
    """One pass over candidates, a file or a folder of files. Iterate it once, for `CandidateChunk`s of at most `rows`
    rows, or one request of more.

    path: the file or folder, or the files of one that are to be read.

    id_column: "impression_id" or "request_id", whichever the file has. n_rows, n_repeats: rows seen, and rows left out
    because their request has the item already; both are complete at the end of the pass. Raises InputError where a
    needed column is missing or given in two spellings, nothing can be used, more rows are rejected than `files` allows,
    or the rows of a request are not adjacent.
    """

    def __init__(
        self,
        path: Path | CandidateFiles,
        *,
        timezone: str = "UTC",
        rejects: Rejects | None = None,
        files: FileOptions = DEFAULT_FILES,
        rows: int = 50_000,
    ) -> None:
        found = path if isinstance(path, CandidateFiles) else find_candidates(Path(path), files.encoding)
        self.id_column, when = _spellings(found.path, found.sources)
        self.rejects = rejects or Rejects(None)
        self.n_repeats = 0
        self._chunk_rows = rows
        self._seen = SeenRequests()
        columns = (
            ColumnSpec("request", "id", required=True, non_null=True, source=self.id_column),
            ColumnSpec("user_id", "id", required=True),
            ColumnSpec("item_id", "id", required=True, non_null=True),
            ColumnSpec("timestamp", "time", is_event_time=True, source=when),
            ColumnSpec("query", "text"),
        )
        schema = Schema(TABLE, columns)
        self._table = TableReader(
            found.path, schema, timezone=timezone, rejects=self.rejects, files=files, sources=found.sources
        )

    @property
    def n_rows(self) -> int:
        """Rows seen so far, rejected ones included."""
        return self._table.n_rows

    @property
    def rejected(self) -> dict[str, int]:
        """Rows rejected so far, by reason."""
        return self.rejects.by_reason(TABLE)

    @property
    def units(self) -> dict[str, str]:
        """The unit or format of the times, by column."""
        return self._table.units

    def check(self) -> None:
        """Read up to the first usable rows. Raises InputError where there are none, or a column has an unusable type.
        The reader cannot be iterated after this."""
        next(iter(self._table), None)

    @property
    def warnings(self) -> list[str]:
        """Warnings about the rows read so far."""
        return reading_warnings({TABLE: self._table})

    def __iter__(self) -> Iterator[CandidateChunk]:
        waiting: list[pa.Table] = []
        n_waiting = 0
        for checked in self._table:
            origin = pa.array([str(checked.file)] * len(checked.rows)).dictionary_encode()
            table = pa.Table.from_batches([checked.data])
            table = table.append_column("row", pa.array(checked.rows)).append_column("file", origin)
            waiting.append(table)
            n_waiting += len(table)
            if n_waiting < self._chunk_rows:
                continue
            together = pa.concat_tables(waiting).unify_dictionaries()
            cut = int(_starts(together.column("request"))[-1])
            yield from self._chunks(together.slice(0, cut))
            waiting = [together.slice(cut)]
            n_waiting = len(together) - cut
        if n_waiting:
            yield from self._chunks(pa.concat_tables(waiting).unify_dictionaries())
        self._table.check_rejects()

    def _chunks(self, table: pa.Table) -> Iterator[CandidateChunk]:
        """`table`, which holds whole requests, in chunks of at most `rows` rows, or of one request."""
        offsets = np.append(_starts(table.column("request")), len(table))
        for first, end in chunk_bounds(offsets, self._chunk_rows):
            chunk = self._chunk(table.slice(offsets[first], offsets[end] - offsets[first]))
            if len(chunk):
                yield chunk

    def _chunk(self, table: pa.Table) -> CandidateChunk:
        self._remember(table.column("request"))
        table = table.filter(pa.array(self._consistent_rows(table)))
        request, item = (_codes(table.column(name)).astype(np.int64) for name in ("request", "item_id"))
        _, first = np.unique(request * (1 + item.max(initial=0)) + item, return_index=True)
        self.n_repeats += len(table) - len(first)
        table = table.take(np.sort(first)) if len(first) < len(table) else table
        starts = _starts(table.column("request"))
        heads = table.take(starts)
        time = heads.column("timestamp").cast(pa.int64()).fill_null(NO_TIME).to_numpy()
        offsets = np.append(starts, len(table)).astype(np.int64)
        ids, user, query = (strings(heads.column(name)) for name in ("request", "user_id", "query"))
        return CandidateChunk(ids, user, time, query, offsets, strings(table.column("item_id")))

    def _remember(self, request: pa.ChunkedArray) -> None:
        heads = strings(request.take(_starts(request)))
        again = self._seen.first_seen_before(pd.util.hash_array(heads))
        if again is not None:
            raise InputError(
                f"candidates {str(self._table.path)!r}: expected the rows of a request together, but request "
                f"{heads[again]!r} comes back after another one; sort the file by {self.id_column}"
            )

    def _consistent_rows(self, table: pa.Table) -> Bool:
        """(n,) False for the rows of requests that name two users, times or queries; they are rejected."""
        starts = _starts(table.column("request"))
        lengths = np.diff(np.append(starts, len(table)))
        differs = np.zeros(len(table), np.bool_)
        for name in ("user_id", "timestamp", "query"):
            codes = _codes(table.column(name))
            differs |= codes != np.repeat(codes[starts], lengths)
        wrong = np.repeat(np.logical_or.reduceat(differs, starts), lengths) if len(starts) else differs
        for index in np.flatnonzero(wrong):
            row, file, request = (table.column(name)[int(index)].as_py() for name in ("row", "file", "request"))
            self.rejects.add(TABLE, Reject(file, row, "conflicting_request", self.id_column, request))
        return ~wrong


def _spellings(path: Path, sources: Sequence[Source]) -> tuple[str, str]:
    """The names of the columns of request ids and of times. Raises InputError where a table has both spellings of one,
    in one file or in several, since one would have to be ignored, and where it has no request ids."""
    files_by_column = {name: file.path for file in sources for name in columns_of(file)}
    chosen = []
    for names, meaning in ((REQUEST_IDS, "request ids"), (TIMES, "times")):
        present = [name for name in names if name in files_by_column]
        if len(present) > 1:
            spellings = " and ".join(f"{name!r} in {str(files_by_column[name])!r}" for name in present)
            raise InputError(
                f"candidates {str(path)!r}: expected one column of {meaning}, got both {spellings}; take one away or "
                "give it another name"
            )
        chosen.append(present[0] if present else names[0])
    if chosen[0] not in files_by_column:
        raise InputError(
            f"file {str(path)!r}: expected a column 'impression_id' or 'request_id' in candidates, "
            f"found {sorted(files_by_column)}"
        )
    return chosen[0], chosen[1]


def _starts(request: pa.ChunkedArray) -> Int64:
    """Positions of the first row of each request."""
    return np.flatnonzero(np.diff(_codes(request), prepend=-1) != 0)


def _codes(column: pa.ChunkedArray) -> Int32:
    """The values of a column as codes, -1 for null, (n,)."""
    codes: Int32 = column.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    return codes
