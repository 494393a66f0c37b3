"""How many items one request may name, and how much text these may have; BadRequest names the field at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recsys.serving.errors import BadRequest
from recsys.serving.schemas import MAX_TEXT, Item, RankRequest
from recsys.settings.serving import ServingConfig


def check_lengths(request: RankRequest, limits: ServingConfig) -> None:
    """Raise BadRequest where a request to rank names too many candidates or has too long a history."""
    _check_length("candidates", request.candidates, limits.max_candidates, "candidates")
    _check_length("history", request.history or (), limits.max_history, "items")


def check_described_items(described: Mapping[str, tuple[str, Item]], most: int) -> None:
    """Raise BadRequest where a text of these items is too long, or all of them together.

    described: the path of its fields, `candidates.3.`, and the row of each item. most: characters.
    """
    total = 0
    for path, row in described.values():
        for name, value in row.columns().items():
            total += check_text(value, f"{path}{name}")
            _check_total(total, most, f"{path}{name}")


def check_posted_items(rows: Sequence[Any], most: int) -> None:
    """Raise BadRequest where posted rows, which may be anything yet, have too much text together. most: characters."""
    total = 0
    for index, row in enumerate(rows):
        for name, value in row.items() if isinstance(row, dict) else ():
            total += _characters(value)
            _check_total(total, most, f"items.{index}.{name}")


def check_text(value: object, field: str) -> int:
    """The characters of a text, or of a list of texts, 0 for other values. Raises BadRequest for too many."""
    characters = _characters(value)
    if characters > MAX_TEXT:
        raise BadRequest(f"expected at most {MAX_TEXT:,} characters, got {characters:,}", field)
    return characters


def _check_length(field: str, rows: Sequence[Any], most: int, noun: str) -> None:
    if len(rows) > most:
        raise BadRequest(f"expected at most {most:,} {noun}, got {len(rows):,}", field)


def _check_total(total: int, most: int, field: str) -> None:
    if total > most:
        raise BadRequest(
            f"expected at most {most:,} characters in all items of a request together, with this field it is more; "
            "send fewer items at once",
            field,
        )


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(len(part) for part in value if isinstance(part, str)) if isinstance(value, list) else 0
