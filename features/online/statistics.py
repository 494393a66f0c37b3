"""What an online store holds, counted in one pass over its keys and in little memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Any

from features.arrays import NO_TIME
from features.clock import format_time
from features.online.click_ledger import ENTRY_BYTES
from features.online.counter_records import CounterLayout, counter_layouts
from features.online.expiry import Entry, expiry_of
from features.online.item_tables import completed_versions, owner_of
from features.online.keys import (
    COUNTERS,
    EVENT_TYPES,
    FORGOTTEN,
    HISTORIES,
    ITEM_CHANGES,
    ITEM_TABLES,
    ITEMS,
    LEDGERS,
    META,
    PENDING,
    SEEN,
    SETTINGS,
    TEXT_VECTORS,
    USERS,
    VALUES,
)
from features.online.settings import stored_format
from features.online.state import OnlineState
from features.online.text_vectors import encoding_of, without_text
from features.stores.base import StoreUsage

_AT_ONCE = 5_000
_SETTINGS = "settings"
_NAMES: Mapping[bytes, str] = {
    META: _SETTINGS,
    SETTINGS: _SETTINGS,
    EVENT_TYPES: _SETTINGS,
    ITEMS: "items",
    ITEM_CHANGES: "last changes of items",
    VALUES: "items by category value",
    USERS: "attributes of users",
    HISTORIES: "histories",
    LEDGERS: "ledgers",
    PENDING: "pending changes",
    SEEN: "seen event ids and lists",
    ITEM_TABLES: "collaborative records",
    FORGOTTEN: "marks of forgotten users",
}
"""The kinds of keys by their first byte, but for those that have several."""


@dataclass
class KindCount:
    """Keys of one kind. size: bytes of these and their values."""

    keys: int = 0
    size: int = 0


@dataclass(frozen=True)
class CollaborativeTables:
    """The complete collaborative snapshots of one model. owner: identifies what they depend on. built: as of which
    times, microseconds."""

    owner: str
    built: tuple[int, ...]


@dataclass
class StoreStatistics:
    """usage: what the store takes on disk or in the server. fingerprint: of the settings. kinds: name to count.
    ledger_entries: events and clicked rows in ledgers. latest_event_time: microseconds, None without events.
    horizon_days: how far back reads look, None for no limit. beyond_horizon: records with something older, and the
    bytes that would be saved without it.
    """

    name: str
    usage: StoreUsage
    latest_event_time: int | None
    format: int = 0
    fingerprint: str = ""
    kinds: dict[str, KindCount] = field(default_factory=dict)
    ledger_entries: int = 0
    horizon_days: float | None = None
    beyond_horizon: KindCount = field(default_factory=KindCount)
    collaborative: list[CollaborativeTables] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many keys of a kind there are."""
        return self.kinds[kind].keys if kind in self.kinds else 0

    @property
    def forgotten(self) -> int:
        """Users that were forgotten; one key more is their salt."""
        return max(0, self.count(_NAMES[FORGOTTEN]) - 1)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        latest = self.latest_event_time
        return {
            "store": self.name,
            "kind": self.usage.kind,
            "bytes": self.usage.size,
            "free_bytes": self.usage.free,
            "format": self.format,
            "settings_fingerprint": self.fingerprint,
            "newest_event": None if latest is None else format_time(latest),
            "items": self.count(_NAMES[ITEMS]),
            "users_with_history": self.count(_NAMES[HISTORIES]),
            "users_with_attributes": self.count(_NAMES[USERS]),
            "ledger_entries": self.ledger_entries,
            "horizon_days": self.horizon_days,
            "beyond_horizon": {"keys": self.beyond_horizon.keys, "bytes": self.beyond_horizon.size},
            "pending_changes": self.count(_NAMES[PENDING]),
            "forgotten_users": self.forgotten,
            "collaborative": [
                {"owner": tables.owner, "built": [format_time(time) for time in tables.built]}
                for tables in self.collaborative
            ],
            "kinds": {name: {"keys": kind.keys, "bytes": kind.size} for name, kind in self._sorted()},
        }

    def lines(self) -> list[str]:
        """For a person."""
        usage, latest = self.usage, self.latest_event_time
        place = "memory of the server" if usage.free is None else f"file, {_size(usage.free)} of it unused"
        lines = [
            f"{self.name}: {_size(usage.size)} {place}",
            f"format {self.format}, settings {self.fingerprint}, "
            f"newest event {'none' if latest is None else format_time(latest)}",
            "",
            f"{'':<42}{'keys':>14}{'size':>12}",
        ]
        for name, kind in self._sorted():
            lines.append(f"{name:<42}{kind.keys:>14,}{_size(kind.size):>12}")
        lines += ["", f"{self.ledger_entries:,} entries in ledgers, {self.forgotten:,} forgotten users"]
        if self.horizon_days is not None:
            beyond = self.beyond_horizon
            lines.append(
                f"horizon {self.horizon_days:g} days; {beyond.keys:,} records hold something from beyond it, "
                f"{_size(beyond.size)} that `recsys store compact` removes"
            )
        for tables in self.collaborative:
            times = ", ".join(format_time(time) for time in tables.built)
            lines.append(f"collaborative snapshots of model {tables.owner} as of {times}")
        return lines

    def _sorted(self) -> list[tuple[str, KindCount]]:
        return sorted(self.kinds.items(), key=lambda entry: (-entry[1].size, entry[0]))


def store_statistics(state: OnlineState) -> StoreStatistics:
    """Count what a store holds. Reads all of it, while others read and write."""
    store = state.store
    with state.snapshot() as view:
        latest = view.meta.latest_event_time
    statistics = StoreStatistics(store.name, store.usage(), None if latest == NO_TIME else latest)
    layouts = counter_layouts(state.settings.reads, state.settings.data.horizon)
    statistics.horizon_days = state.settings.data.horizon_days
    kinds: dict[bytes, KindCount] = {}
    for key, value in _counting_expired(state, statistics.beyond_horizon):
        first = key[:1]
        head = key[:2] if first == COUNTERS else without_text(key) if first == TEXT_VECTORS else first
        kind = kinds.get(head)
        if kind is None:
            name = _kind_of(key, layouts)
            kind = kinds[head] = statistics.kinds.setdefault(name, KindCount())
        kind.keys += 1
        kind.size += len(key) + len(value)
        if first == LEDGERS:
            statistics.ledger_entries += len(value) // ENTRY_BYTES
        elif first == SETTINGS:
            statistics.format = stored_format(value)
            statistics.fingerprint = sha256(value).hexdigest()[:16]
        elif first == ITEM_TABLES and (built := completed_versions(key, value)):
            statistics.collaborative.append(CollaborativeTables(owner_of(key), built))
    return statistics


def _counting_expired(state: OnlineState, beyond: KindCount) -> Iterator[Entry]:
    """All keys and values of a store; adds to `beyond` what lies beyond the horizon."""
    entries, expiry = state.store.everything(), expiry_of(state)
    while batch := list(islice(entries, _AT_ONCE)):
        if expiry is not None:
            for (key, value), kept in zip(batch, expiry.remaining(batch), strict=True):
                if kept != value:
                    beyond.keys += 1
                    beyond.size += len(key) + len(value) if kept is None else len(value) - len(kept)
        yield from batch


def _kind_of(key: bytes, layouts: Sequence[CounterLayout]) -> str:
    first = key[:1]
    if first == COUNTERS and key[1] < len(layouts):
        names = [part.rstrip("\0") for part in layouts[key[1]].key]
        return f"counters by {' and '.join(names)}" if names else "counters of everything"
    if first == TEXT_VECTORS:
        encoder, dtype = encoding_of(key)
        return f"vectors of encoder {encoder[:8]}, {dtype}"
    return _NAMES.get(first, "unknown")


def _size(n_bytes: int) -> str:
    """Bytes for a person: 1.5 MB is 1,500,000."""
    size, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
