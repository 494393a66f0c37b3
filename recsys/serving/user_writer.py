"""Users over HTTP: their attributes, row by row as posted, and their erasure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from features.online.events import id_problem
from features.online.state import OnlineState
from features.tables.rejects import FORGOTTEN_USER
from recsys.config import ServingConfig
from recsys.serving import schemas
from recsys.serving.errors import BadRequest
from recsys.serving.event_writer import Rejected, batch_answer, check_object, reason
from recsys.serving.prometheus import Telemetry
from recsys.serving.request_warnings import RequestWarnings


class UserWriter:
    """Writes users to the online state."""

    def __init__(self, state: OnlineState, settings: ServingConfig, telemetry: Telemetry) -> None:
        self._state = state
        self._settings = settings
        self._telemetry = telemetry

    def add_users(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Store rows of the users table: a row replaces the stored one, the last of several counts; those of forgotten
        users are rejected. Raises BadRequest for too many, StoreError where none is kept."""
        if len(rows) > self._settings.max_rows:
            raise BadRequest(
                f"expected at most {self._settings.max_rows:,} rows, got {len(rows):,}; send fewer", "users"
            )
        rejected: Rejected = {}
        warnings = RequestWarnings()
        users: list[tuple[int, str, bytes]] = []
        for index, row in enumerate(rows):
            try:
                user_id, attributes = _read_user(row)
            except (ValidationError, BadRequest) as error:
                rejected[index] = reason(error, schemas.User.model_fields)
                continue
            warnings.within(f"users.{index}.").check_id(user_id, "user_id")
            users.append((index, user_id, attributes))
        for position in self._state.add_users([(user_id, attributes) for _, user_id, attributes in users]):
            rejected[users[position][0]] = (
                FORGOTTEN_USER,
                "user_id: expected a user who is not forgotten; attributes have no time and may be from before",
            )
        self._telemetry.users.labels("accepted").inc(len(rows) - len(rejected))
        self._telemetry.users.labels("rejected").inc(len(rejected))
        return warnings.add_to(batch_answer(len(rows), rejected))

    def forget(self, user_id: str) -> dict[str, Any]:
        """Remove everything that is held under a user's id; forgotten says whether anything was. On disk on return."""
        erasure = self._state.forget_users([user_id], now=time.time_ns() // 1000)
        self._telemetry.forgotten.inc()
        return {"user_id": user_id, "forgotten": bool(erasure.known), "removed": dict(erasure.removed)}


def _read_user(row: Any) -> tuple[str, bytes]:
    """The id and the attributes of a row, as `recsys load-users` stores them."""
    check_object(row)
    user = schemas.User.model_validate(row)
    problem = id_problem("user_id", user.user_id)
    if problem is not None:
        raise BadRequest(problem[1].partition(": ")[2], "user_id")
    attributes = user.model_extra or {}
    for name, value in attributes.items():
        _check_attribute(name, value)
    return user.user_id, orjson.dumps(attributes)


def _check_attribute(name: str, value: object) -> None:
    cells = value if isinstance(value, list) else [value]
    if not all(cell is None or isinstance(cell, (str, int, float)) for cell in cells):
        raise BadRequest("expected text, a number, true, false, null, or a list of these, got an object", name)
    if sum(len(cell) for cell in cells if isinstance(cell, str)) > schemas.MAX_TEXT:
        raise BadRequest(f"expected at most {schemas.MAX_TEXT:,} characters", name)
