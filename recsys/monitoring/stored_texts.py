"""The texts of items in an online store, as a version reads them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from features.online.items import StoredItem, local_catalog
from features.online.state import OnlineState, StateSnapshot
from recsys.encoder.text import item_texts
from recsys.monitoring.texts import MOST_TEXTS

_AT_ONCE = 5_000


def texts_of_items(state: OnlineState, ids: Sequence[str], template: str) -> list[str]:
    """The texts of the stored ones among some items. template: of an item's text."""
    with state.snapshot() as view:
        return _texts(state, list(view.items(ids).values()), template)


def texts_of_store(state: OnlineState, template: str, *, seed: int) -> list[str]:
    """The texts of all items of a store, or of as many as are measured, drawn at random."""
    chance, kept = random.Random(seed), []
    with state.snapshot() as view:
        for number, item in enumerate(_every_item(view)):
            if number < MOST_TEXTS:
                kept.append(item)
            elif (place := chance.randrange(number + 1)) < MOST_TEXTS:
                kept[place] = item
    return _texts(state, kept, template)


def _every_item(view: StateSnapshot) -> Iterator[StoredItem]:
    after: str | None = None
    while items := view.first_items(_AT_ONCE, after=after):
        yield from items
        after = items[-1].item_id


def _texts(state: OnlineState, items: Sequence[StoredItem], template: str) -> list[str]:
    by_id = {item.item_id: item for item in items}
    settings = state.settings
    catalog = local_catalog(sorted(by_id), by_id, categories=settings.categories, numbers=settings.numbers, vectors={})
    return item_texts(catalog, template)[:-1]
