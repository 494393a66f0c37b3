"""`recsys load-users`: the attributes of users into the online store, in bulk; see `pipelines.load`."""

from __future__ import annotations

from pathlib import Path

import orjson

from features.online import OnlineState
from features.tables import read_table_rows
from pipelines.loading import Load, LoadReport
from recsys.serving.states import open_filled_state


def load_users(path: Path, store: str, *, rejects: Path | None = None) -> LoadReport:
    """Keep the attributes of a users table in a store that `load_items` has made; as `load_items`."""
    with open_filled_state(store) as state:
        report = users_into(state, path, rejects=rejects)
    report.require_any(path)
    return report


def users_into(state: OnlineState, path: Path, *, rejects: Path | None = None) -> LoadReport:
    """`load_users` with everything open."""
    report = LoadReport("users")
    with Load(report, path, rejects) as load_:
        reader = read_table_rows(path, "users", timezone=state.settings.timezone, rejects=load_.rejects)
        for checked in load_.batches(reader):
            rows = checked.data.to_pylist()
            state.add_users([(row.pop("user_id"), orjson.dumps(row, default=str)) for row in rows])
            load_.done(len(rows), len(rows))
    return report
