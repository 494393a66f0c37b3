"""What each method of the client sends, what it reads back, and whether it may be sent twice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from recsys.client.answers import Ready
from recsys.client.retries import counts_once
from recsys.serving.schemas import BUDGET_HEADER, BatchAnswer, DeletedItem, Event, ForgottenUser, Item, RankAnswer
from recsys.serving.traffic import Variant

Content = TypeVar("Content", bound=BaseModel)
Id = str | int
Time = str | int | float | date
"""A time as the API takes it: ISO 8601, epoch s, ms or us; or a datetime, which is sent as ISO 8601."""
ItemLike = Id | Item | Mapping[str, Any]
"""An id that the server knows, or an item with its columns."""


@dataclass(frozen=True)
class Call(Generic[Content]):
    """One request. body: JSON, None for a request without. repeatable: sending it twice does what sending it once does.
    retried: whether to wait and send it again at all. headers: beside those of every call."""

    method: str
    path: str
    answer: type[Content]
    body: bytes | None = None
    repeatable: bool = True
    retried: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


def rank(
    user_id: Id | None,
    candidates: Sequence[ItemLike],
    *,
    history: Sequence[ItemLike] | None,
    query: str | None,
    timestamp: Time | None,
    top_k: int | None,
    explain: bool,
    variant: Variant | None,
    budget_ms: float | None,
) -> Call[RankAnswer]:
    """POST /v1/rank. What is None is left out. Raises ValueError for a budget below 0."""
    if budget_ms is not None and not 0 <= budget_ms < math.inf:
        raise ValueError(f"expected a budget of 0 or more milliseconds, got {budget_ms!r}")
    headers = {} if budget_ms is None else {BUDGET_HEADER: f"{budget_ms:g}"}
    given = {
        "history": history,
        "query": query,
        "timestamp": timestamp,
        "top_k": top_k,
        "explain": explain or None,
        "variant": variant,
    }
    body = {"user_id": user_id, "candidates": candidates} | {
        name: value for name, value in given.items() if value is not None
    }
    return Call("POST", "/v1/rank", RankAnswer, _json(body), headers=headers)


def add_events(events: Sequence[Event | Mapping[str, Any]]) -> Call[BatchAnswer]:
    """POST /v1/events."""
    rows = [_plain(event) for event in events]
    return Call("POST", "/v1/events", BatchAnswer, _json({"events": rows}), repeatable=all(map(counts_once, rows)))


def add_items(items: Sequence[Item | Mapping[str, Any]]) -> Call[BatchAnswer]:
    """POST /v1/items."""
    return Call("POST", "/v1/items", BatchAnswer, _json({"items": items}))


def add_users(users: Sequence[Mapping[str, Any]]) -> Call[BatchAnswer]:
    """POST /v1/users."""
    return Call("POST", "/v1/users", BatchAnswer, _json({"users": users}))


def get_item(item_id: Id) -> Call[Item]:
    """GET /v1/items/ID."""
    return Call("GET", f"/v1/items/{_segment(item_id)}", Item)


def delete_item(item_id: Id) -> Call[DeletedItem]:
    """DELETE /v1/items/ID."""
    return Call("DELETE", f"/v1/items/{_segment(item_id)}", DeletedItem)


def forget_user(user_id: Id) -> Call[ForgottenUser]:
    """DELETE /v1/users/ID."""
    return Call("DELETE", f"/v1/users/{_segment(user_id)}", ForgottenUser)


def ready() -> Call[Ready]:
    """GET /health/ready; what is asked is how the server is now, so that it is not asked again."""
    return Call("GET", "/health/ready", Ready, retried=False)


def _segment(value: Id) -> str:
    """An id as one segment of a path. A segment of dots would be taken for a folder above."""
    text = str(value)
    if not text:
        raise ValueError("expected an id, got an empty text")
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def _json(body: object) -> bytes:
    """Raises ValueError for NaN and infinities, which are no JSON, TypeError for what JSON has no form for."""
    return json.dumps(body, allow_nan=False, ensure_ascii=False, default=_plain, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """What JSON knows, for a value that it does not."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"expected a value that JSON has a form for, got {type(value).__name__}: {value!r}")
