"""The store that a folder or a URL names."""

from __future__ import annotations

from pathlib import Path

from features.errors import StoreError
from features.stores.base import KeyValueStore
from features.stores.lmdb_store import LmdbStore


def open_store(store: str, *, create: bool) -> KeyValueStore:
    """The store in a folder of this machine, or on the Redis server that a URL names.

    create: make it where there is none. Raises StoreError where it cannot be opened.
    """
    if "://" not in store:
        return LmdbStore(Path(store), create=create)
    try:
        from features.stores.redis_store import RedisStore
    except ImportError as error:
        raise StoreError(
            "a store on a Redis server: expected the package redis, found none; "
            "install it with `pip install 'recsys[redis]'`"
        ) from error
    return RedisStore(store, create=create)
