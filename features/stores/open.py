"""The store that a folder or a URL names."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from features.atomic_files import atomic_folder
from features.errors import StoreError
from features.stores.base import KeyValueStore
from features.stores.lmdb_compaction import Compaction, compact_folder
from features.stores.lmdb_store import LmdbStore

if TYPE_CHECKING:
    from features.stores.redis_store import RedisStore


def open_store(store: str, *, create: bool) -> KeyValueStore:
    """The store in a folder of this machine, or on the Redis server that a URL names.

    create: make it where there is none. Raises StoreError where it cannot be opened.
    """
    if is_folder(store):
        return LmdbStore(Path(store), create=create)
    return _redis_store()(store, create=create)


def is_folder(store: str) -> bool:
    """Whether a store is a folder of this machine."""
    return "://" not in store


def compact_store(store: str) -> Compaction | None:
    """Shrink the file of a store in a folder, which nobody may have open; None for a store on a server."""
    return compact_folder(Path(store)) if is_folder(store) else None


@contextmanager
def new_store(store: str) -> Iterator[KeyValueStore]:
    """An empty store to be filled, which is at `store` when the block ends; nothing stays when the block fails.

    Raises InputError for a folder with files in it, StoreError for a store on a server that is not empty.
    """
    if is_folder(store):
        with atomic_folder(Path(store)) as partial, closing(LmdbStore(partial)) as opened:
            yield opened
        return
    redis_store = _redis_store()
    with (
        closing(redis_store(store)) as target,
        closing(redis_store(store, temporary_prefix=f"recsys-import-{secrets.token_hex(8)}")) as temporary,
    ):
        if not target.is_empty():
            raise StoreError(f"online store {target.name!r}: expected an empty one, found one that holds something")
        try:
            yield temporary
            target.take_over(temporary)
        finally:
            temporary.discard()


def _redis_store() -> type[RedisStore]:
    try:
        from features.stores.redis_store import RedisStore
    except ImportError as error:
        raise StoreError(
            "a store on a Redis server: expected the package redis, found none; "
            "install it with `pip install 'recsys[redis]'`"
        ) from error
    return RedisStore
