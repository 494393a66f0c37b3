"""A whole online store into a file and back: the same answers, to the last bit, from either kind of store."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from features.online.state import OnlineState
from features.stores.base import KeyValueStore
from features.stores.open import new_store
from features.stores.record_file import check_record_file, read_records, write_records

_AT_ONCE = 10_000


def export_store(store: KeyValueStore, path: Path) -> int:
    """Write all that a store holds at this moment into a new file; how many records. Others go on meanwhile."""
    return write_records(path, store.everything())


def import_store(path: Path, store: str) -> int:
    """Fill an empty store, which appears whole or not at all, from a file of `export_store`; how many records.

    Raises InputError for a file that was cut or changed, before anything is written, and for a folder that is not
    empty; StoreError for a store on a server that is not empty, and for one that this version cannot read.
    """
    count = check_record_file(path)
    with new_store(store) as opened:
        records = read_records(path)
        while batch := list(islice(records, _AT_ONCE)):
            _put(opened, batch)
        OnlineState.open(opened)
    return count


def _put(store: KeyValueStore, batch: list[tuple[bytes, bytes]]) -> None:
    store.update(lambda transaction: transaction.put_many(batch))
