"""Opens the online state that a ranking model needs in a named store.

A new store counts everything that the built-in catalogue reads of the model's item columns, also what the model itself
does not read, so that it answers later versions too: those that need as much or less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from features.definitions.builtin import required_aggregates
from features.errors import StoreMismatch
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from features.stores.base import KeyValueStore
from features.stores.open import open_store
from recsys.ranker.features import feature_set

if TYPE_CHECKING:
    from recsys.ranker.model import Settings


@contextmanager
def open_state(
    store: str, settings: Settings, *, create: bool, widths: Mapping[str, int] | None = None
) -> Iterator[OnlineState]:
    """The state at `store`, a folder or a `redis://` URL, for a ranking model of these settings; closed at the end.

    create: make the store where there is none, or an empty one. widths: of the vector columns, needed to make one that
    holds any. Raises StoreError where it cannot be opened, StoreMismatch where it was made for something else.
    """
    opened = open_store(store, create=create)
    try:
        if not create:
            OnlineState.open(opened)  # an empty store is none either
        columns = _widths(opened, settings, widths or {})
        yield OnlineState.open(
            opened, required_store_settings(settings, columns), new=new_store_settings(settings, columns)
        )
    finally:
        opened.close()


@contextmanager
def open_existing_state(store: str) -> Iterator[OnlineState]:
    """The state in an existing store, for any model; closed at the end. Raises StoreError."""
    opened = open_store(store, create=False)
    try:
        yield OnlineState.open(opened)
    finally:
        opened.close()


def check_state(state: OnlineState, settings: Settings) -> None:
    """Raise StoreMismatch unless an open state answers a ranking model of these settings."""
    state.settings.check_serves(
        required_store_settings(settings, _widths(state.store, settings, dict(state.settings.vectors)))
    )


def new_store_settings(settings: Settings, widths: Mapping[str, int]) -> StoreSettings:
    """What a new store is made to answer and hold: `required_store_settings`, and the counts of the whole catalogue."""
    features = feature_set(settings.categories, settings.inputs, settings.custom)
    return required_store_settings(settings, widths).model_copy(update={"reads": required_aggregates(features)})


def required_store_settings(settings: Settings, widths: Mapping[str, int]) -> StoreSettings:
    """What a store has to answer and hold for a ranking model. widths: of its vector columns."""
    columns = settings.item_columns
    return StoreSettings(
        reads=required_aggregates(settings.all_features()),
        data=settings.data,
        history_length=settings.history_length,
        categories=columns.named_categories,
        numbers=columns.numbers,
        vectors=tuple((column, widths[column]) for column in columns.vectors),
        texts=columns.texts,
    )


def _widths(store: KeyValueStore, settings: Settings, widths: Mapping[str, int]) -> Mapping[str, int]:
    """The width of each vector column: the store's where it has been made already, else as given."""
    complete, vectors = dict(widths), settings.item_columns.vectors
    if any(column not in complete for column in vectors):
        complete = dict(OnlineState.open(store).settings.vectors) | complete
    missing = [column for column in vectors if column not in complete]
    if missing:
        raise StoreMismatch(
            f"online store {store.name!r}: expected vectors of items in columns {missing!r}, which the model "
            "reads; fill a new store with `recsys load-items` and `recsys load-events`"
        )
    return complete
