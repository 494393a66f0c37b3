"""Stored items over HTTP: one as it is stored, and its removal."""

from __future__ import annotations

from typing import Any

from features.arrays import NO_TIME
from features.clock import format_time
from features.online.events import id_problem
from features.online.items import StoredItem
from features.online.state import OnlineState
from recsys.serving.errors import BadRequest, NotFound


def read_item(state: OnlineState, item_id: str) -> dict[str, Any]:
    """The row of an item, as `POST /v1/items` takes it. Raises NotFound where none is stored."""
    _check_id(item_id)
    with state.snapshot() as view:
        item = view.items([item_id]).get(item_id)
    if item is None:
        raise NotFound(f"item {item_id!r} is not stored; POST /v1/items stores it", "item_id")
    return _row(item)


def remove_item(state: OnlineState, item_id: str) -> dict[str, Any]:
    """Remove an item's row; deleted says whether it was stored."""
    _check_id(item_id)
    return {"item_id": item_id, "deleted": state.remove_item(item_id)}


def _check_id(item_id: str) -> None:
    problem = id_problem("item_id", item_id)
    if problem is not None:
        raise BadRequest(problem[1].partition(": ")[2], "item_id")


def _row(item: StoredItem) -> dict[str, Any]:
    published = {} if item.published_at == NO_TIME else {"published_at": format_time(item.published_at)}
    return {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        **published,
        **{column: list(item.values(column)) for column in item.categories},
        **item.numbers,
        **{column: vector.tolist() for column, vector in item.vectors.items()},
        **item.texts,  # a column that is read in several ways, as its text
    }
