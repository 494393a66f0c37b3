"""What a reading of the input tables should tell its user although it could go on: plain sentences with counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.log import Bool, Log
from features.tables.event_types import Doubt, canonical_type, doubt_of
from features.tables.impressions import LONGEST_LIST

_SAYS: dict[Doubt, str] = {
    "negative": "says that the user did not like the item",
    "seen": "says that the user only saw the item",
    "number": "is a bare number",
}


def item_warnings(log: Log, described: Bool) -> list[str]:
    """described: (n_items + 1,) True for items that the items table has."""
    catalog, shown = log.catalog, log.impressions.requests
    empty = int((described & (catalog.title == "")).sum())
    bare = int((described & (catalog.title == "") & (catalog.description == "")).sum())
    unknown = int((~described & (np.bincount(shown.item, minlength=len(described)) > 0)).sum())
    rows = int((~described[shown.item]).sum())
    acted = int((~described[log.events.item]).sum())
    return _said(
        (empty, f"{empty:,} items have an empty title, {bare:,} of them no description either"),
        (rows, f"{unknown:,} shown items are not in items: {rows:,} of {shown.n_rows:,} candidates have no text"),
        (acted, f"{acted:,} of {len(log.events):,} events are on items that are not in items"),
    )


def list_warnings(log: Log, repeats: int) -> list[str]:
    """repeats: rows whose item stood in their list already."""
    shown, n = log.impressions, len(log.impressions)
    if n == 0:
        return []
    both, sampled = int(shown.has_both().sum()), int(shown.sampled.sum())
    strangers = int((shown.requests.user < 0).sum())
    clicked = bool((shown.label > 0).any())
    lengths = shown.requests.lengths()
    long, longest = int((lengths > LONGEST_LIST).sum()), int(lengths.argmax())
    return _said(
        (not clicked, "no row of impressions has clicked above 0: its lists can train and test nothing"),
        (clicked and both < n, f"{both:,} of {n:,} lists have a clicked and an unclicked item; the rest train nothing"),
        (sampled, f"{sampled:,} of {n:,} lists are sampled: they count as impressions of no item"),
        (strangers, f"{strangers:,} of {n:,} lists have no user"),
        (
            long,
            f"{long:,} lists have more than {LONGEST_LIST:,} candidates, the longest is {shown.ids[longest]!r} with "
            f"{int(lengths[longest]):,}: the ranker learns from their clicked items and of the others from as many as "
            f"make {LONGEST_LIST:,}; they are scored and evaluated whole",
        ),
        (repeats, f"{repeats:,} rows repeat an item of their list; it keeps its largest label"),
    )


def click_warnings(
    log: Log, *, alone: int, unknown_lists: int, early: int, positive: tuple[str, ...] | None
) -> list[str]:
    """alone: clicks in events that no list shows. unknown_lists: events that name a list which is not there. early:
    clicks stamped before their list. positive: the event types that were named as clicks, if any."""
    missing = sorted({canonical_type(name) for name in positive or ()} - set(log.events.types))
    has_lists = len(log.impressions) > 0
    return _said(
        (has_lists and alone, f"{alone:,} clicks in events belong to no impression; they count all the same"),
        (unknown_lists, f"{unknown_lists:,} events name an impression_id that impressions does not have"),
        (early, f"{early:,} clicks are stamped before the list that they belong to; they count from the list's time"),
        (missing, f"positive_event_types names {missing}, which no event has; found {sorted(log.events.types)}"),
    )


def repeat_warnings(repeats: Mapping[str, int]) -> list[str]:
    """repeats: table to rows that a later one of the same id replaces."""
    return _said(
        *(
            (
                repeats[table],
                f"{repeats[table]:,} rows of {table} have an id that comes again; the last row of each counts",
            )
            for table in ("items", "users")
        )
    )


def type_warnings(types: Mapping[str, tuple[int, bool]], positive: tuple[str, ...] | None) -> list[str]:
    """types: event type to its rows and whether it counts as a click. positive: the types that were named as clicks."""
    doubts = {name: doubt_of(name) for name, (_, click) in types.items() if click}
    advice = "is that meant?" if positive else "if it is no click, name the types that are in data.positive_event_types"
    return _said(
        *(
            (doubt, f"{types[name][0]:,} events of type {name!r} count as clicks, but it {_SAYS[doubt]}; {advice}")
            for name, doubt in doubts.items()
            if doubt is not None
        )
    )


def _said(*sentences: tuple[object, str]) -> list[str]:
    return [sentence for said, sentence in sentences if said]
