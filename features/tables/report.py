"""The report of reading the input tables: counts, rejects by reason, warnings, and a fingerprint of the content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Bool, Strings
from features.clock import format_time
from features.log import Log
from features.tables.event_types import Doubt, canonical_type, doubt_of
from features.tables.impressions import LONGEST_LIST

_SAYS: dict[Doubt, str] = {
    "negative": "says that the user did not like the item",
    "seen": "says that the user only saw the item",
    "number": "is a bare number",
}


@dataclass(frozen=True)
class TableCounts:
    """Rows of one table: rows = kept + the rejected ones + repeats.

    rejected: reason to number of rows. repeats: rows that repeat another row, or that a later row of the same item or
    user replaces. emptied: optional date column to cells that cannot be read, and count as missing.
    """

    rows: int
    kept: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    repeats: int = 0
    emptied: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TableReport:
    """The outcome of reading a data directory.

    tables: by name, those that exist. items: described items. undescribed: items shown or acted on without a row in
    items. users: known users. events: events in the log, clicked rows included. clicks: the positive ones.
    impressions, candidates: impressions and their rows. matched, added: clicked rows that match an event, and clicked
    rows without one, added as clicks. first, last: span of the dated events and impressions, microseconds or None.
    time_units: how the times of "table.column" are written. categories: item columns taken as categories. event_types:
    type to its rows in events and whether it counts as a click. warnings: plain sentences. fingerprint: a hash of the
    content, the same whatever file format it came in.
    """

    tables: Mapping[str, TableCounts]
    items: int = 0
    undescribed: int = 0
    users: int = 0
    events: int = 0
    clicks: int = 0
    impressions: int = 0
    candidates: int = 0
    matched: int = 0
    added: int = 0
    first: int | None = None
    last: int | None = None
    time_units: Mapping[str, str] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    event_types: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def rejected(self) -> int:
        """Rows rejected over all tables."""
        return sum(sum(counts.rejected.values()) for counts in self.tables.values())

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values; times are ISO 8601."""
        return asdict(self) | {
            "rejected": self.rejected,
            "first": _iso(self.first),
            "last": _iso(self.last),
            "categories": list(self.categories),
            "event_types": {name: {"events": n, "click": click} for name, (n, click) in self.event_types.items()},
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        lines = [f"{'table':<12} {'rows':>12} {'kept':>12} {'rejected':>10} {'repeats':>10}"]
        for name, counts in self.tables.items():
            rejected = sum(counts.rejected.values())
            lines.append(f"{name:<12} {counts.rows:>12,} {counts.kept:>12,} {rejected:>10,} {counts.repeats:>10,}")
            lines += [f"  rejected: {count:,} x {reason}" for reason, count in counts.rejected.items()]
        lines.append(
            f"{self.items:,} described items, {self.undescribed:,} without a description, {self.users:,} users, "
            f"{self.impressions:,} lists with {self.candidates:,} candidates"
        )
        lines.append(
            f"{self.events:,} events, {self.clicks:,} of them clicks; {self.matched:,} clicked impression rows "
            f"matched an event; {self.added:,} had none and were added"
        )
        lines.append(f"from {_iso(self.first) or 'no time'} to {_iso(self.last) or 'no time'}")
        if self.time_units:
            lines.append("times: " + ", ".join(f"{name} {unit}" for name, unit in sorted(self.time_units.items())))
        if self.event_types:
            types = (
                f"{name} {n:,} ({'click' if click else 'no click'})" for name, (n, click) in self.event_types.items()
            )
            lines.append("event types: " + ", ".join(types))
        if self.categories:
            lines.append("categories: " + ", ".join(self.categories))
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines.append(f"fingerprint {self.fingerprint}")
        return lines


def _iso(micros: int | None) -> str | None:
    return None if micros is None else format_time(micros)


def fingerprint(log: Log) -> str:
    """32 hexadecimal digits that change when anything in the log does; the users table's attributes do not count."""
    catalog, impressions, events = log.catalog, log.impressions, log.events
    digest = hashlib.blake2b(digest_size=16)
    for words in (catalog.ids, catalog.title, catalog.description, log.users, impressions.ids):
        _add_words(digest, words)
    _add_words(
        digest,
        () if impressions.requests.query is None else ("" if q is None else q for q in impressions.requests.query),
    )
    for name, texts in sorted(catalog.texts.items()):
        _add_words(digest, (name, *texts))
    for name, category in sorted(catalog.categories.items()):
        _add_words(digest, (name, *category.values))
        _add_arrays(digest, category.codes.offsets, category.codes.codes)
    columns: tuple[Mapping[str, npt.NDArray[np.generic]], ...] = (catalog.numbers, catalog.vectors)
    for name, values in (pair for arrays in columns for pair in sorted(arrays.items())):
        _add_words(digest, (name,))
        _add_arrays(digest, values)
    _add_words(digest, events.types)
    requests = impressions.requests
    _add_arrays(digest, catalog.published_at, events.user, events.item, events.time, events.type, events.positive)
    _add_arrays(digest, requests.user, requests.time, requests.offsets, requests.item)
    _add_arrays(digest, impressions.sampled, impressions.label, impressions.position)
    return digest.hexdigest()


def _add_words(digest: hashlib.blake2b, words: Iterable[str] | Strings) -> None:
    text = "\x1f".join(words).encode("utf-8")
    digest.update(len(text).to_bytes(8, "little") + text)


def _add_arrays(digest: hashlib.blake2b, *arrays: npt.NDArray[np.generic]) -> None:
    for array in arrays:
        digest.update(len(array).to_bytes(8, "little") + np.ascontiguousarray(array).tobytes())


def item_warnings(log: Log, described: Bool) -> list[str]:
    """described: (n_items + 1,) True for items that the items table has."""
    catalog, requests = log.catalog, log.impressions.requests
    empty = int((described & (catalog.title == "")).sum())
    bare = int((described & (catalog.title == "") & (catalog.description == "")).sum())
    unknown = int((~described & (np.bincount(requests.item, minlength=len(described)) > 0)).sum())
    rows = int((~described[requests.item]).sum())
    acted = int((~described[log.events.item]).sum())
    return nonzero_messages(
        (empty, f"{empty:,} items have an empty title, {bare:,} of them no description either"),
        (rows, f"{unknown:,} shown items are not in items: {rows:,} of {requests.n_rows:,} candidates have no text"),
        (acted, f"{acted:,} of {len(log.events):,} events are on items that are not in items"),
    )


def impression_warnings(log: Log, repeats: int) -> list[str]:
    """repeats: rows whose item their impression has already."""
    impressions, n = log.impressions, len(log.impressions)
    if n == 0:
        return []
    both, sampled = int(impressions.has_both().sum()), int(impressions.sampled.sum())
    without_user = int((impressions.requests.user < 0).sum())
    clicked = bool((impressions.label > 0).any())
    lengths = impressions.requests.lengths()
    long, longest = int((lengths > LONGEST_LIST).sum()), int(lengths.argmax())
    return nonzero_messages(
        (not clicked, "no row of impressions has clicked above 0: its lists can train and test nothing"),
        (clicked and both < n, f"{both:,} of {n:,} lists have a clicked and an unclicked item; the rest train nothing"),
        (sampled, f"{sampled:,} of {n:,} lists are sampled: they count as impressions of no item"),
        (without_user, f"{without_user:,} of {n:,} lists have no user"),
        (
            long,
            f"{long:,} lists have more than {LONGEST_LIST:,} candidates, the longest is {impressions.ids[longest]!r} "
            f"with {int(lengths[longest]):,}: the ranker learns from their clicked items and of the others from as "
            f"many as make {LONGEST_LIST:,}; they are scored and evaluated whole",
        ),
        (repeats, f"{repeats:,} rows repeat an item of their list; it keeps its largest label"),
    )


def click_warnings(
    log: Log, *, unmatched: int, unknown_impressions: int, early: int, positive: tuple[str, ...] | None
) -> list[str]:
    """unmatched: click events that match no impression. unknown_impressions: events whose impression_id no impression
    has. early: clicks stamped before their impression. positive: the event types configured as clicks, if any."""
    missing = sorted({canonical_type(name) for name in positive or ()} - set(log.events.types))
    has_lists = len(log.impressions) > 0
    return nonzero_messages(
        (has_lists and unmatched, f"{unmatched:,} click events match no impression; they are still counted"),
        (unknown_impressions, f"{unknown_impressions:,} events name an impression_id that impressions does not have"),
        (early, f"{early:,} clicks are stamped before the list that they belong to; they count from the list's time"),
        (missing, f"positive_event_types names {missing}, which no event has; found {sorted(log.events.types)}"),
    )


def repeat_warnings(repeats: Mapping[str, int]) -> list[str]:
    """repeats: table to rows that a later one of the same id replaces."""
    return [
        f"{repeats[table]:,} rows of {table} have an id that comes again; the last row of each counts"
        for table in ("items", "users")
        if repeats[table]
    ]


def type_warnings(types: Mapping[str, tuple[int, bool]], positive: tuple[str, ...] | None) -> list[str]:
    """types: event type to its rows and whether it counts as a click. positive: the types configured as clicks."""
    advice = "is that meant?" if positive else "if it is no click, name the types that are in data.positive_event_types"
    return [
        f"{n:,} events of type {name!r} count as clicks, but it {_SAYS[doubt]}; {advice}"
        for name, (n, click) in types.items()
        if click and (doubt := doubt_of(name))
    ]


def nonzero_messages(*sentences: tuple[object, str]) -> list[str]:
    """The sentences whose count, the first of each pair, is not 0."""
    return [sentence for count, sentence in sentences if count]
