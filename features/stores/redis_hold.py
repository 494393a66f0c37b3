"""A name that one process at a time has on a Redis server: a key that expires unless its holder renews it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from features.errors import StoreError
from features.stores.redis_client import RedisClient
from features.stores.redis_scripts import RELEASE, RENEW

SECONDS = 30
"""After which the name of a holder that died is free again."""


@contextmanager
def hold(client: RedisClient, key: bytes, *, seconds: float = SECONDS) -> Iterator[bool]:
    """Have a key while the block runs; False where another has it. Raises StoreError where the server does not answer.

    Where it stops answering for longer than `seconds`, another may have the key too before the block has ended.
    """
    token, milliseconds = secrets.token_hex(8).encode(), round(seconds * 1000)
    is_set = client.call(("SET", key, token, "NX", "PX", milliseconds))[0]
    if not is_set and client.call(("GET", key))[0] != token:  # a call whose answer was lost is made again
        yield False
        return
    ended = Event()

    def renew() -> None:
        while not ended.wait(seconds / 3):
            with suppress(StoreError):
                client.run(RENEW, (key,), (token, milliseconds))

    thread = Thread(target=renew, name="hold", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join()
        with suppress(StoreError):  # it expires
            client.run(RELEASE, (key,), (token,))
