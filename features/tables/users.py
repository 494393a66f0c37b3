"""The users table: the last row of a user counts, as in a log of changes."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from features.tables.items import last_of_each
from features.tables.table_reader import TableReader


def read_users(reader: TableReader) -> tuple[pa.Table, int]:
    """The last row of each user, and how many rows are left out."""
    users = pa.concat_tables(
        [pa.Table.from_batches([checked.data]) for checked in reader], promote_options="permissive"
    )
    last_rows = last_of_each(users.column("user_id"))
    return users.take(last_rows), len(users) - len(last_rows)


def attributes(users: pa.Table, user_ids: pa.Array) -> pd.DataFrame:
    """The users table by user code: row i is user i, missing where the table does not have it."""
    frame: pd.DataFrame = users.to_pandas().set_index("user_id")
    return frame.reindex(pd.Index(user_ids.to_pylist(), dtype="str")).reset_index(drop=True)
