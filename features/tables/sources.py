"""The files of a table: the path and encoding of each, and the columns that its folders name.

Folders called `name=value`, as Spark, Hive and pandas write them, are columns of the files inside: `%2F` and the like
are decoded, and `__HIVE_DEFAULT_PARTITION__` is null. Values are text, read as a text file's cells are. A file that
has a column of that name itself keeps its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from features.errors import InputError
from features.tables.encodings import UTF8
from features.tables.schema import TABLES

_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Source:
    """One file of a table. encoding: of its text. partition: column to value, of the folders that it is in."""

    path: Path
    encoding: str = UTF8
    partition: Mapping[str, str | None] = field(default_factory=dict)

    def partition_types(self) -> dict[str, pa.DataType]:
        """The type that each partition column looks like: text, or numbers where its value is one."""
        return {name: pa.float64() if _is_number(value) else pa.string() for name, value in self.partition.items()}

    def partition_column(self, name: str, rows: int) -> pa.Array:
        """A partition column over so many rows."""
        return pa.repeat(pa.scalar(self.partition[name], pa.large_string()), rows)


def partition_of(file: Path, root: Path) -> dict[str, str | None]:
    """The columns that the folders between a table's `root` and its file name, outermost first.

    Where `root` is itself a part of a table, such as `events/event_type=view`, its own name counts, and those right
    above it. Raises InputError where two folders name the same column.
    """
    if file == root:
        table_of_a_folder = file.name.partition(".")[0] in TABLES
        inside = [] if table_of_a_folder else _right_above(file.parent)
    else:
        inside = [*_right_above(root), *file.parent.relative_to(root).parts]
    partition: dict[str, str | None] = {}
    for part in inside:
        name, equals, value = part.partition("=")
        if not (name and equals):
            continue
        name = unquote(name)
        if name in partition:
            raise InputError(f"file {str(file)!r}: expected one folder for each column, found two of {name!r}")
        partition[name] = None if value in (_NULL, "") else unquote(value)
    return partition


def is_hidden(parts: Iterable[str]) -> bool:
    """Whether a file does not belong to the table, by the names of its folders and its own: `_SUCCESS`,
    `.part.csv`, `_delta_log/0.json`, but not `_day=1/part.csv`."""
    return any(part.startswith((".", "_")) and "=" not in part for part in parts)


def _right_above(folder: Path) -> list[str]:
    """Names of `folder` and the folders above it, outermost first, as far as they are `name=value`."""
    names = [path.name for path in (folder.absolute(), *folder.absolute().parents)]
    return list(takewhile(lambda name: "=" in name, names))[::-1]


def _is_number(value: str | None) -> bool:
    try:
        return value is not None and float(value) is not None
    except ValueError:
        return False
