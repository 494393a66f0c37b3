"""A pass over everything in a Redis store, as it was when the pass began, while others write.

The server hands out the hash of values in pieces (HSCAN), each as it is now. What a change touched holds what it found,
see `features.stores.redis_scripts`: after each piece the pass reads what the changes since then found, which gives back
the values at its beginning. Memory is needed for the keys alone that change meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from features.errors import StoreError
from features.stores.redis_client import RedisClient

_AT_ONCE = 1000


class RedisPass:
    """One pass. before: of every key that changed since it began its value then, None for none."""

    def __init__(self, client: RedisClient, *, version_key: bytes, values_key: bytes, past_prefix: bytes) -> None:
        self._client = client
        self._version_key, self._values_key, self._past_prefix = version_key, values_key, past_prefix
        self.before: dict[bytes, bytes | None] = {}
        self._removed: set[bytes] = set()
        self._version: bytes = self._newest()

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values at the beginning; one that is removed meanwhile may come twice."""
        for page in self.pages():
            for key, value in page.items():
                then = self.before.get(key, value)
                if then is not None:
                    yield key, then
        for key in sorted(self._removed | self._absent()):
            then = self.before[key]
            if then is not None:
                yield key, then

    def pages(self) -> Iterator[dict[bytes, bytes]]:
        """Keys with their values as they are now; one that is there all the time is in one of the pages."""
        cursor: Any = 0
        while True:
            ((cursor, page),) = self._client.call(("HSCAN", self._values_key, cursor, "COUNT", _AT_ONCE))
            self.follow(self._newest())
            yield page
            if int(cursor) == 0:
                return

    def follow(self, version: bytes) -> None:
        """Read what the changes up to a version found. Raises StoreError where the server has forgotten that."""
        for number in range(_number(self._version) + 1, _number(version) + 1):
            (found,) = self._client.call(("HGETALL", self._past_prefix + b"%d" % number))
            base = found.pop(b"", None)
            if base is None or (number == _number(self._version) + 1 and base != self._version):
                raise StoreError(
                    f"online store {self._client.name!r}: expected to follow what others write meanwhile, got changes "
                    "that are forgotten already; try again when less is written"
                )
            for key, value in found.items():
                then = value[1:] if value[:1] == b"1" else None
                if key not in self.before:
                    self.before[key] = then
                elif then is None:
                    self._removed.add(key)
        self._version = version

    def _newest(self) -> bytes:
        (version,) = self._client.call(("GET", self._version_key))
        return bytes(version or b"")

    def _absent(self) -> set[bytes]:
        """The keys that changed and are not there now."""
        keys = list(self.before)
        absent: set[bytes] = set()
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            (values,) = self._client.call(("HMGET", self._values_key, *some))
            absent.update(key for key, value in zip(some, values, strict=True) if value is None)
        return absent


def _number(version: bytes) -> int:
    return int(version.partition(b" ")[0] or 0)
