"""Records of an online store that no model in use reads: vectors of other encoders, and other collaborative snapshots.

Both are computed from what stays, so that a model that was forgotten here costs time and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from features.online.item_tables import completed_versions, owner_hash, owner_of
from features.online.keys import ITEM_TABLES, TEXT_VECTORS
from features.online.text_vectors import encoding_of
from features.stores.base import KeyValueStore

_AT_ONCE = 20_000
_KINDS = {TEXT_VECTORS: "vectors", ITEM_TABLES: "collaborative records"}


@dataclass(frozen=True)
class ModelsInUse:
    """encoders: fingerprints of their encoders. owners: of their collaborative snapshots, see `ItemTables`."""

    encoders: Collection[str]
    owners: Collection[str]


def drop_unused(store: KeyValueStore, models: ModelsInUse) -> Mapping[str, int]:
    """Remove what none of these models reads, a part at a time, so that writers get in between; how many, by kind."""
    owners = {owner_hash(owner) for owner in models.owners}

    def is_unused(key: bytes) -> bool:
        if key[:1] == TEXT_VECTORS:
            return encoding_of(key)[0] not in models.encoders
        return key[:1] == ITEM_TABLES and owner_of(key) not in owners

    pointers = [key for key, value in store.everything() if completed_versions(key, value) and is_unused(key)]
    _delete(store, pointers)  # first, so that nobody reads a snapshot of which a part is gone
    dropped: Counter[str] = Counter()
    unused = (key for key, _ in store.everything() if is_unused(key))
    while keys := list(islice(unused, _AT_ONCE)):
        _delete(store, keys)
        dropped.update(_KINDS[key[:1]] for key in keys)
    return dict(sorted(dropped.items()))


def _delete(store: KeyValueStore, keys: Sequence[bytes]) -> None:
    if keys:
        store.update(lambda transaction: transaction.delete_many(keys))
