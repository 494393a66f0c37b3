"""Files of ids beside the tables: the users that a batch is asked about, and the items that it must leave out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.arrays import Strings
from features.tables.encodings import FileOptions
from features.tables.formats import columns_of, files_of, find_table
from features.tables.items import strings
from features.tables.rejects import Rejects
from features.tables.schema import CANONICAL, TABLES, ColumnSpec, Schema
from features.tables.table_reader import DEFAULT_FILES, TableReader

ASKED_USERS, EXCLUSIONS = "asked_users", "exclusions"
"""Names of these files in messages and in files of rejected rows."""
_USER = ColumnSpec("user_id", "id", required=True, non_null=True)
_ITEM = ColumnSpec("item_id", "id", required=True, non_null=True)


@dataclass(frozen=True)
class Exclusions:
    """items: ids that nobody may get. pair_users, pair_items: (n,) a user and an item that this user may not get."""

    items: Strings
    pair_users: Strings
    pair_items: Strings


def read_asked_users(path: Path, rejects: Rejects, files: FileOptions = DEFAULT_FILES) -> Strings:
    """The distinct values of the column user_id, in the order of the file, (n,). Rows without one are rejected. Raises
    InputError where the file cannot be read, or none of its rows used."""
    (users,) = _columns(path, Schema(ASKED_USERS, (_USER,)), rejects, files)
    return strings(users.unique())


def read_exclusions(
    path: Path, rejects: Rejects, files: FileOptions = DEFAULT_FILES, *, name: str = EXCLUSIONS
) -> Exclusions:
    """The items of a file with a column item_id, which may have no row. With a column user_id too, each row is about
    that user alone, and a row without one is rejected. name: of this file alone in `rejects`, whose share is of its own
    rows. Raises InputError where the file cannot be read, or it has rows of which none can be used."""
    nothing = np.zeros(0, object)
    if any(_USER.name in columns_of(file) for file in files_of(path, files.encoding)):
        users, items = _columns(path, Schema(name, (_USER, _ITEM), may_be_empty=True), rejects, files)
        return Exclusions(nothing, strings(users), strings(items))
    (items,) = _columns(path, Schema(name, (_ITEM,), may_be_empty=True), rejects, files)
    return Exclusions(strings(items.unique()), nothing, nothing)


def read_table_ids(folder: Path, table: str, files: FileOptions = DEFAULT_FILES) -> Strings:
    """The distinct ids of the items or the users table of a data directory, (n,); none where it has no such table.

    The directory has been read before, which reported what cannot be used.
    """
    path = find_table(folder, table)
    if path is None:
        return np.zeros(0, object)
    schema = Schema(table, TABLES[table].columns[:1])
    (ids,) = _columns(path, schema, Rejects(None), replace(files, max_rejects=1.0))
    return strings(ids.unique())


def _columns(path: Path, schema: Schema, rejects: Rejects, files: FileOptions) -> list[pa.ChunkedArray]:
    reader = TableReader(path, schema, timezone="UTC", rejects=rejects, files=files)
    batches = [checked.data for checked in reader]
    return [pa.chunked_array([batch.column(name) for batch in batches], CANONICAL["id"]) for name in schema.names]
