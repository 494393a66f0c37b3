"""One hash on a Redis server: small values by name, which several machines read and few commands write."""

from __future__ import annotations

from collections.abc import Mapping

from features.stores.redis_client import Command, RedisClient, address_of, inspect_server

_DISK_MS = 5_000
"""How long a writer waits for the server's disk."""


class RedisHash:
    """The hash `{PREFIX}-NAME`, which no store's keys (`{PREFIX}:…`) begin like. url: as of an online store.

    holds: what the values are, in words, for messages. Nothing is opened before the first call. Every call raises
    StoreError where the server does not answer or refuses.
    """

    def __init__(self, url: str, name: str, *, holds: str) -> None:
        address = address_of(url, holds)
        self.name = address.name
        self._client = RedisClient(address)
        self._key = f"{{{address.prefix}}}-{name}".encode()

    def read(self) -> Mapping[str, bytes]:
        """All values by name."""
        (answer,) = self._client.call(("HGETALL", self._key))
        pairs = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
        return {name.decode("utf-8", "replace"): bytes(value) for name, value in pairs}

    def add(self, name: str, value: bytes) -> bool:
        """Write a value whose name is new; False where another value has the name."""
        self._write(("HSETNX", self._key, name, value))
        (written,) = self._client.call(("HGET", self._key, name))  # not HSETNX's answer: it may have been sent twice
        return bool(written == value)

    def remove(self, name: str) -> None:
        """Remove a value, if there is one."""
        self._write(("HDEL", self._key, name))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _write(self, command: Command) -> None:
        """Run a command; it is on the server's disk on return where the server can say so."""
        after: list[Command] = [("WAITAOF", 1, 0, _DISK_MS)] if inspect_server(self._client).waits else []
        self._client.call(command, *after)
