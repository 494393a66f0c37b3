"""The examples of /docs: what the page fills in, so that every request runs as it stands, in the page's order.

They are about an item and a user of their own. The item is removed again by its own example; the user to forget is
another one, since a forgotten user stays forgotten and the examples would run only once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

_ITEM, _USER, _FORGOTTEN = "example-item", "example-user", "example-user-to-forget"
_TITLE = "Storm nears the coast"


def add_examples(document: dict[str, Any]) -> None:
    """Add an example to every body and parameter of an OpenAPI document that asks for one."""
    for path, body in _bodies().items():
        document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"] = body
    values = {"item_id": _ITEM, "user_id": _FORGOTTEN, "words": "storm"}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in values:
                    parameter["example"] = values[parameter["name"]]


def _bodies() -> dict[str, dict[str, Any]]:
    """By path. Times are those of this day's beginning: a store answers for now, and may have a horizon."""
    today = f"{datetime.now(UTC).date()}T00:00:00Z"
    item = {"item_id": _ITEM, "title": _TITLE, "description": "Ferries stay in port.", "published_at": today}
    event = {"user_id": _USER, "item_id": _ITEM, "timestamp": today, "event_type": "click", "event_id": "example-event"}
    other = {"item_id": "another-item", "title": "Late goal wins the cup final"}
    return {
        "/v1/rank": {"user_id": _USER, "candidates": [{"item_id": _ITEM, "title": _TITLE}, other], "explain": True},
        "/v1/events": {"events": [event]},
        "/v1/items": {"items": [item]},
        "/v1/users": {"users": [{"user_id": _USER, "country": "FI"}]},
    }
