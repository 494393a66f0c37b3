"""Settings of an online store: written into it at its creation, compared whenever it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator

from features.definitions.aggregates import Aggregate, Count, First, Last
from features.errors import StoreError, StoreMismatch
from features.tables.data_settings import DataSettings, settings_from_json, settings_to_json
from features.tables.event_types import canonical_type, is_click

_REBUILD = "load items and events into a new store with `recsys load-items` and `recsys load-events`"
_SHOWN = 5
_AGGREGATES: dict[str, type[Aggregate]] = {"count": Count, "last": Last, "first": First}


def _to_list(aggregate: Aggregate) -> list[Any]:
    name = next(name for name, aggregate_type in _AGGREGATES.items() if type(aggregate) is aggregate_type)
    return [name, aggregate.event_type, aggregate.key, aggregate.window if isinstance(aggregate, Count) else None]


def _from_list(value: Aggregate | list[Any]) -> Aggregate:
    if not isinstance(value, list):
        return value
    name, event_type, key, window = value
    arguments = (event_type, tuple(key), window) if name == "count" else (event_type, tuple(key))
    return _AGGREGATES[name](*arguments)


class StoreSettings(BaseModel):
    """How events are counted. reads: every aggregate that the store answers. data: how its events are understood.
    history_length: items that a history holds. categories, numbers: item columns that features read. vectors: vector
    columns and their widths. texts: columns of an item's text beside title and description; None for a store that was
    made before this was written down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reads: tuple[Annotated[Aggregate, PlainSerializer(_to_list), PlainValidator(_from_list)], ...]
    data: DataSettings = DataSettings()
    history_length: int = 50
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    vectors: tuple[tuple[str, int], ...] = ()
    texts: tuple[str, ...] | None = None

    def is_positive(self, event_type: str) -> bool:
        """Whether events of a type count as clicks; `history` always does."""
        return is_click(event_type, self.data.positive_event_types)

    def to_bytes(self) -> bytes:
        """The settings as JSON, for the store."""
        return settings_to_json(self).encode()

    def check_serves(self, required: StoreSettings) -> None:
        """Raise StoreMismatch unless a store of these settings answers all reads of one of `required`: it may count
        more, keep more columns and have longer histories."""
        for (name, stored), expected in zip(self._to_equal().items(), required._to_equal().values(), strict=True):
            if stored != expected:
                raise StoreMismatch(
                    f"the online store was made with {name} {stored!r}, but {expected!r} is wanted; {_REBUILD}"
                )
        if self.history_length < required.history_length:
            raise StoreMismatch(
                f"the online store was made with history_length {self.history_length}, but {required.history_length} "
                f"is wanted; {_REBUILD}"
            )
        for name in ("categories", "numbers", "vectors", "texts", "reads"):
            kept, wanted = getattr(self, name), getattr(required, name)
            missing = [] if kept is None else [value for value in wanted or () if value not in kept]
            if missing:
                raise StoreMismatch(
                    f"the online store was made for {name} {_short(kept)}, but {_short(missing)} is wanted too; "
                    f"{_REBUILD}"
                )

    def _to_equal(self) -> dict[str, Any]:
        """The settings that have to be equal in a store and for its reader; times in microseconds."""
        positive = self.data.positive_event_types
        return {
            "positive_event_types": None if positive is None else tuple(sorted({*map(canonical_type, positive)})),
            "positive": self.data.positive,
            "event_delay": self.data.event_delay,
            "click_window": self.data.click_window,
            "timezone": self.data.timezone,
            "horizon_days": self.data.horizon_days,
        }


def stored_format(data: bytes) -> int:
    """The number of the format that settings are stored in."""
    return int(orjson.loads(data).get("format", 1))


def settings_from(data: bytes) -> StoreSettings:
    """The settings of `StoreSettings.to_bytes`, of format 1 too; StoreError for another format."""
    try:
        return settings_from_json(StoreSettings, data)
    except ValueError as error:
        raise StoreError(
            f"settings of the online store: {error}; fill a new store with `recsys load-items` and `recsys load-events`"
        ) from error


def _short(values: Sequence[object]) -> str:
    """Some values, the first few of many: there are more than a hundred reads."""
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f"{list(values[:_SHOWN])!r}{more}"
