"""What an online store was made for: written into it at its creation, compared whenever it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from features.definitions.aggregates import Aggregate, Count, First, Last
from features.errors import StoreError
from features.tables.event_types import canonical_type, is_click

FORMAT = 1
_READS: dict[str, type[Last] | type[First]] = {"last": Last, "first": First}


@dataclass(frozen=True)
class StoreSettings:
    """How events are counted. reads: every question that the store answers. positive_event_types: what is a click, None
    for all but view and impression. event_delay, click_window: microseconds. timezone: of hour and weekday.
    history_length: items that a history holds. categories, numbers: item columns that features read. vectors: vector
    columns and their widths.
    """

    reads: tuple[Aggregate, ...]
    positive_event_types: tuple[str, ...] | None = None
    event_delay: int = 0
    click_window: int = 30 * 60 * 1_000_000
    history_length: int = 50
    timezone: str = "UTC"
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    vectors: tuple[tuple[str, int], ...] = ()

    def is_positive(self, event_type: str) -> bool:
        """Whether events of a type count as clicks; `history` always does."""
        return is_click(event_type, self.positive_event_types)

    def to_bytes(self) -> bytes:
        """The settings as JSON, for the store."""
        return orjson.dumps(self._as_dict())

    def check_serves(self, wanted: StoreSettings) -> None:
        """Raise StoreError unless a store of these settings answers whatever one of `wanted` would."""
        own, other = (_canonical(one.positive_event_types) for one in (self, wanted))
        self._check_equal("positive_event_types", own, other)
        for name in ("event_delay", "click_window", "history_length", "timezone"):
            self._check_equal(name, getattr(self, name), getattr(wanted, name))
        for name in ("categories", "numbers", "vectors", "reads"):
            missing = [value for value in getattr(wanted, name) if value not in getattr(self, name)]
            if missing:
                raise StoreError(
                    f"the online store was made for {name} {list(getattr(self, name))!r}, "
                    f"but {missing!r} is wanted too; "
                    "load items and events into a new store"
                )

    def _check_equal(self, name: str, own: object, wanted: object) -> None:
        if own != wanted:
            raise StoreError(
                f"the online store was made with {name} {own!r}, but {wanted!r} is wanted; "
                "load items and events into a new store"
            )

    def _as_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "reads": [_read_as_list(read) for read in self.reads],
            "positive_event_types": self.positive_event_types,
            "event_delay": self.event_delay,
            "click_window": self.click_window,
            "history_length": self.history_length,
            "timezone": self.timezone,
            "categories": self.categories,
            "numbers": self.numbers,
            "vectors": self.vectors,
        }


def settings_from(data: bytes) -> StoreSettings:
    """The settings of `StoreSettings.to_bytes`; StoreError for another format."""
    tree = orjson.loads(data)
    if tree["format"] != FORMAT:
        raise StoreError(
            f"the online store has format {tree['format']!r}, expected {FORMAT}; load items and events into a new store"
        )
    positive = tree["positive_event_types"]
    return StoreSettings(
        tuple(_read_from_list(*read) for read in tree["reads"]),
        None if positive is None else tuple(positive),
        tree["event_delay"],
        tree["click_window"],
        tree["history_length"],
        tree["timezone"],
        tuple(tree["categories"]),
        tuple(tree["numbers"]),
        tuple((column, width) for column, width in tree["vectors"]),
    )


def _canonical(types: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if types is None else tuple(sorted({canonical_type(one) for one in types}))


def _read_as_list(read: Aggregate) -> list[Any]:
    if isinstance(read, Count):
        return ["count", read.event_type, read.key, read.window]
    return ["last" if isinstance(read, Last) else "first", read.event_type, read.key, None]


def _read_from_list(name: str, what: str, by: list[str], window: int | None) -> Aggregate:
    return Count(what, tuple(by), window) if name == "count" else _READS[name](what, tuple(by))
