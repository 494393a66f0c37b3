"""Stored items over HTTP: one as it is stored, its removal, and titles by id or by words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from features.arrays import NO_TIME
from features.clock import format_time
from features.online.events import id_problem
from features.online.items import StoredItem
from features.online.state import OnlineState
from recsys.serving.errors import BadRequest, NotFound

_MOST_FOUND, _SEARCH_SECONDS, _AT_ONCE = 20, 0.5, 1000


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


def stored_titles(state: OnlineState, ids: Sequence[str]) -> dict[str, Any]:
    """The titles of the items of those ids that are stored. Raises BadRequest for what is no id."""
    for item_id in ids:
        _check_id(item_id)
    with state.snapshot() as view:
        return _found(view.items(ids).values(), complete=True)


def find_items(state: OnlineState, words: str, *, clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """The item of this id, and the first 20 whose title has every word, in any case; of any title without words.

    complete: false where there may be others, since 20 were found or half a second by `clock` was over.
    """
    wanted, until = words.casefold().split(), clock() + _SEARCH_SECONDS
    found: dict[str, StoredItem] = {}
    with state.snapshot() as view:
        if words and id_problem("item_id", words) is None:
            found.update(view.items([words]))
        last: str | None = None
        while items := view.first_items(_AT_ONCE, after=last):
            for item in items:
                title = item.title.casefold()
                if all(word in title for word in wanted):
                    found.setdefault(item.item_id, item)
                if len(found) > _MOST_FOUND:
                    return _found(list(found.values())[:_MOST_FOUND], complete=False)
            last = items[-1].item_id
            if len(items) == _AT_ONCE and clock() > until:
                return _found(found.values(), complete=False)
    return _found(found.values(), complete=True)


def _found(items: Iterable[StoredItem], *, complete: bool) -> dict[str, Any]:
    titles = [{"item_id": item.item_id, "title": item.title} for item in items]
    return {"items": titles, "complete": complete}


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
