"""A partition's Parquet file, whose bytes depend on its rows alone: row groups are cut by rows, not by batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 100_000


def write_partition(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables as one file, and have it on the disk."""
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for group in row_groups(tables, ROW_GROUP_ROWS):
                writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
        file.flush()
        os.fsync(file.fileno())


def row_groups(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of `tables` in order, in tables of one chunk with `rows` rows each; the last has what is left."""
    waiting: list[pa.Table] = []
    n_waiting = 0
    for table in tables:
        waiting.append(table)
        n_waiting += len(table)
        if n_waiting < rows:
            continue
        together = pa.concat_tables(waiting)
        full = n_waiting - n_waiting % rows
        for start in range(0, full, rows):
            yield together.slice(start, rows).combine_chunks()
        waiting, n_waiting = [together.slice(full)], n_waiting - full
    if n_waiting:
        yield pa.concat_tables(waiting).combine_chunks()
