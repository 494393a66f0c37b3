"""`recsys load-users`: the attributes of users into the online store, in bulk; see `pipelines.load`."""

from __future__ import annotations

from pathlib import Path

import orjson

from features.online.state import OnlineState
from features.tables.encodings import FileOptions
from features.tables.load import ReadOptions
from features.tables.rejects import FORGOTTEN_USER
from features.tables.table_reader import DEFAULT_FILES
from pipelines.loading import Load, LoadReport
from recsys.online.open_state import open_existing_state


def load_users(
    path: Path, store: str, *, rejects: Path | None = None, files: FileOptions = DEFAULT_FILES
) -> LoadReport:
    """Keep the attributes of a users table in a store that `load_items` has made; as `load_items`."""
    with open_existing_state(store) as state:
        report = users_into(state, path, rejects=rejects, files=files)
    report.require_any(path)
    return report


def users_into(
    state: OnlineState, path: Path, *, rejects: Path | None = None, files: FileOptions = DEFAULT_FILES
) -> LoadReport:
    """`load_users` with everything open."""
    seen: set[str] = set()
    with Load("users", path, ReadOptions(state.settings.data, files=files), rejects) as load:
        for checked in load.batches():
            rows = checked.data.to_pylist()
            users = [row.pop("user_id") for row in rows]
            load.report.repeats += len(users) - len(set(users) - seen)
            seen.update(users)
            pairs = zip(users, rows, strict=True)
            refused = state.add_users([(user, orjson.dumps(row, default=str)) for user, row in pairs])
            for row_number in refused:  # without the id, which must not stay anywhere
                load.reject(checked, row_number, FORGOTTEN_USER, "user_id", "a user who was forgotten")
            load.done(len(rows), len(rows) - len(refused))
    return load.report
