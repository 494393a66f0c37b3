"""Items of request bodies, read as the items table is; the model says which columns it reads, and of which kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from features.arrays import NO_TIME, Float32
from features.online.items import StoredItem, split_values
from features.online.settings import StoreSettings
from features.tables.timestamps import EXPECTED, parse_time
from recsys.ranker.model import Settings
from recsys.serving import schemas
from recsys.serving.errors import BadRequest
from recsys.serving.request_warnings import RequestWarnings

_PLAIN = ("title", "description")
_SEPARATOR = "|"
_MOST_VALUES = 1000


@dataclass(frozen=True)
class RequestItemColumns:
    """The item columns that are read. vectors: column to its width. texts: beside title and description."""

    categories: frozenset[str]
    numbers: frozenset[str]
    vectors: Mapping[str, int]
    texts: frozenset[str]
    timezone: str

    def merge(
        self, stored: StoredItem | None, row: schemas.Item, field: str = "", warnings: RequestWarnings | None = None
    ) -> StoredItem:
        """The stored item with the columns that came along. field: path of the row, for errors and warnings.

        A text or number in published_at that is no date counts as missing, as in the items table. Raises BadRequest
        where a column that is read has a wrong type; other columns are not checked.
        """
        item = stored or StoredItem(row.item_id)
        columns = row.columns()
        changes: dict[str, Any] = {name: columns[name] for name in _PLAIN if name in columns}
        if "published_at" in columns:
            path = f"{field}published_at"
            changes["published_at"] = _date(columns["published_at"], self.timezone, path, warnings or RequestWarnings())
        for field_name, names, read in (
            ("categories", self.categories, _values),
            ("numbers", self.numbers, _number),
            ("texts", self.texts, cell_text),
        ):
            parsed = {name: read(columns[name], f"{field}{name}") for name in names if name in columns}
            if parsed:
                changes[field_name] = {**getattr(item, field_name), **parsed}
        vectors = {
            name: _vector(columns[name], self.vectors[name], f"{field}{name}")
            for name in self.vectors
            if name in columns
        }
        if vectors:
            changes["vectors"] = {**item.vectors, **vectors}
        return replace(item, **changes) if changes else item


def item_columns(settings: Settings, store: StoreSettings) -> RequestItemColumns:
    """The columns that a ranking model of these settings reads and those that its store keeps: an item that is posted
    while one version serves has what the next one reads too."""
    columns = settings.item_columns
    return RequestItemColumns(
        frozenset((*columns.named_categories, *store.categories)),
        frozenset((*columns.numbers, *store.numbers)),
        dict(store.vectors),
        frozenset((*columns.texts, *(store.texts or ()))),
        settings.data.timezone,
    )


def _date(value: object, timezone: str, field: str, warnings: RequestWarnings) -> int:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise BadRequest(f"expected {EXPECTED}, got {_short(value)}", field)
    timestamp = parse_time(value, timezone)
    if timestamp is None:
        warnings.add("is no date and counts as missing", field, value)
        return NO_TIME
    warnings.check_date(timestamp, field, value)
    return timestamp


def _values(value: object, field: str) -> tuple[str, ...]:
    if isinstance(value, str):
        values = split_values(value)
        if len(values) > _MOST_VALUES:  # each costs a read of every counter by the column
            raise BadRequest(f"expected at most {_MOST_VALUES} values, got {len(values):,}", field)
        return values
    if isinstance(value, list) and all(isinstance(element, str) for element in value):
        return _values(_SEPARATOR.join(value), field)
    if isinstance(value, (int, float)):
        return (cell_text(value, field),)
    raise BadRequest(f"expected text, several values separated by '|', got {_short(value)}", field)


def _number(value: object, field: str) -> float:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRequest(f"expected a finite number, got {_short(value)}", field)
    return number


def cell_text(value: object, field: str) -> str:
    """A value of a text column as the items table would have it. Raises BadRequest where it is no such value."""
    if isinstance(value, list) and all(isinstance(element, str) for element in value):
        return _SEPARATOR.join(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise BadRequest(f"expected text, got {_short(value)}", field)


def _vector(value: object, width: int, field: str) -> Float32:
    numeric = isinstance(value, list) and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value)
    if not numeric or len(value) != width:  # type: ignore[arg-type]
        raise BadRequest(f"expected a list of {width} numbers, got {_short(value)}", field)
    try:
        vector = np.array(value, np.float32)
    except OverflowError:
        vector = np.array([np.inf], np.float32)
    if not np.isfinite(vector).all():
        raise BadRequest("expected finite numbers of at most 3e38", field)
    return vector


def _short(value: object) -> str:
    text = f"a list of {len(value)}" if isinstance(value, list) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
