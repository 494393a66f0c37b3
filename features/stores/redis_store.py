"""The online state on a Redis server, shared by any number of processes on any number of machines.

    store = RedisStore("redis://HOST:6379/0?prefix=news")

A change is written by one script (features.stores.redis_scripts), so whole or not at all, and only if nothing was
changed since it was read and nobody else has the lock by now: a writer that was paused until its lock went to another
cannot write what it made of an old state. A snapshot reads the current values as long as nobody writes; what a change
overwrites is kept for a while, so that an older snapshot still reads what it was. Readers never wait, and never see
half a change.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import merge
from operator import itemgetter
from threading import Lock
from typing import Any

from features.errors import StoreError, StoreMissing
from features.stores import redis_scripts
from features.stores.base import MAX_KEY_BYTES, SCANNED_PREFIXES, Result, StoreSnapshot, Transaction
from features.stores.redis_client import (
    Command,
    RedisLink,
    Script,
    Server,
    UnreachableError,
    address_of,
    inspect_server,
    log_warnings,
)

logger = logging.getLogger(__name__)

_READ_PAST = Script(redis_scripts.READ_PAST)
_READ_RANGE = Script(redis_scripts.READ_RANGE)
_ACQUIRE = Script(redis_scripts.ACQUIRE)
_RENEW = Script(redis_scripts.RENEW)
_RELEASE = Script(redis_scripts.RELEASE)
_COMMIT = Script(redis_scripts.COMMIT)

_PAGE = 1000
_DISK_MS = 5000
_QUEUE_MS = 500
_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 0.02


class _Names:
    """The server's keys that hold a store, see `features.stores.redis_scripts`."""

    def __init__(self, prefix: str) -> None:
        self.version, self.values, self.index, self.lock, self.next = (
            f"{{{prefix}}}:{part}".encode() for part in ("version", "values", "index", "lock", "next")
        )
        self.past = f"{{{prefix}}}:past:".encode()


class RedisSnapshot:
    """One version of the store. at: the version, None until the first read decides it."""

    def __init__(self, link: RedisLink, names: _Names, at: bytes | None = None) -> None:
        self._link = link
        self._names = names
        self._at = at

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One round trip, two when somebody has just written."""
        if not keys:
            return []
        version: Command = ("GET", self._names.version)
        values: Command = ("HMGET", self._names.values, *keys)
        if self._at is None:
            before, found, after = self._link.call(version, values, version)
            self._at = after or b""
            unchanged = before == after
        else:
            found, after = self._link.call(values, version)
            unchanged = (after or b"") == self._at
        return list(found) if unchanged else self._get_past(keys)

    def _get_past(self, keys: Sequence[bytes]) -> list[bytes | None]:
        names = (self._names.version, self._names.values, self._names.past)
        (found,) = self._link.run(_READ_PAST, names, (self._at, *keys))
        return self._remembered(found)

    def between(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """One round trip for every thousand keys. Raises ValueError for keys of another kind than `RANGED`."""
        if start[:1] != end[:1] or start[:1] not in SCANNED_PREFIXES or not start:
            raise ValueError(
                f"expected a range within keys that begin with one of {SCANNED_PREFIXES!r}, got {start!r} to {end!r}"
            )
        names = (self._names.version, self._names.values, self._names.past, self._names.index)
        low: bytes = b"[" + start
        while low:
            at = b"*" if self._at is None else self._at
            (page,) = self._link.run(_READ_RANGE, names, (at, low, b"(" + end, _PAGE))
            self._at, last, keys, values = self._remembered(page)
            found = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
            yield from sorted(found)
            low = b"(" + last if last else b""

    def _remembered(self, found: Any) -> list[Any]:
        if found == 0:
            raise StoreError(
                f"online store {self._link.name!r}: expected a read that ends before what it reads is overwritten and "
                "forgotten, got one that took too long; try again"
            )
        return list(found)


class RedisTransaction(RedisSnapshot):
    """A change under way: the version that its writer found, and what it has put and deleted since."""

    def __init__(self, link: RedisLink, names: _Names, at: bytes, renew: Callable[[], None]) -> None:
        super().__init__(link, names, at)
        self.base = at
        self.written: dict[bytes, bytes | None] = {}
        self._renew = renew

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As it will be."""
        self._renew()
        rest = [key for key in keys if key not in self.written]
        found = dict(zip(rest, super().get_many(rest), strict=True))
        return [self.written[key] if key in self.written else found[key] for key in keys]

    def between(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """As it will be."""
        self._renew()
        own = sorted((k, v) for k, v in self.written.items() if v is not None and start <= k < end)
        rest = ((key, value) for key, value in super().between(start, end) if key not in self.written)
        return merge(own, rest, key=itemgetter(0))

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set values, all of them once the change is whole."""
        for key, value in items:
            if not 0 < len(key) <= MAX_KEY_BYTES:
                raise StoreError(f"expected a key of 1 to {MAX_KEY_BYTES} bytes, got one of {len(key)}: {key[:40]!r}")
            self.written[bytes(key)] = bytes(value)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Remove keys once the change is whole."""
        self.written.update(dict.fromkeys(keys))


class RedisStore:
    """A store on a Redis server: any number of readers, one writer at a time, over all processes that share it."""

    def __init__(
        self, url: str, *, create: bool = True, lease: float = 10.0, patience: float = 60.0, past: float = 10.0
    ) -> None:
        """create: take a store that has nothing in it yet. lease: seconds after which a writer that died makes way.
        patience: seconds that a writer waits for others. past: seconds that a snapshot can be read beside writers.

        Raises StoreError where the server does not answer, or has no such store and none is to be made.
        """
        address = address_of(url)
        self.name = address.name
        self._link = RedisLink(address)
        self._names = _Names(address.prefix)
        self._lease, self._patience, self._past = lease, patience, past
        self._writing = Lock()
        try:
            self.server: Server = inspect_server(self._link)
            log_warnings(self.server, self.name)
            if not create and not self._link.call(("EXISTS", self._names.version))[0]:
                raise StoreMissing(
                    f"online store {self.name!r}: expected a database with a store under prefix {address.prefix!r}, "
                    "found none; fill one with `recsys load-items` and `recsys load-events`"
                )
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[StoreSnapshot]:
        """A snapshot of the last finished change at its first read."""
        yield RedisSnapshot(self._link, self._names)

    def update(self, change: Callable[[Transaction], Result]) -> Result:
        """Run `change`, write it, return its result; on an error nothing of it is kept. It runs again, from the start,
        when its lock was lost to another writer meanwhile.

        Raises StoreError where the server refuses, and where its answer is lost: the change is then whole or not there.
        """
        deadline, lease = time.monotonic() + self._patience, self._lease
        with self._writing:
            while True:
                token = secrets.token_hex(8).encode()
                try:
                    base = self._acquire(token, lease, deadline)
                    under_way = RedisTransaction(self._link, self._names, base, self._renewal(token, lease))
                    result = change(under_way)
                    if self._commit(token, under_way):
                        return result
                except BaseException:
                    self._release(token)
                    raise
                self._release(token)
                logger.warning("online store %r: a change is made again, another writer came between", self.name)
                lease *= 2
                if time.monotonic() > deadline:
                    raise self._too_busy()

    def close(self) -> None:
        """Close the connections; the store stays."""
        self._link.close()

    def _acquire(self, token: bytes, lease: float, deadline: float) -> bytes:
        """Wait for the lock; the version of the store under it. Those who wait longest come first, mostly."""
        wait = _SHORTEST_WAIT
        names = (self._names.version, self._names.lock, self._names.next)
        while True:
            (version,) = self._link.run(_ACQUIRE, names, (token, round(lease * 1000), _QUEUE_MS))
            if version != 0:
                return bytes(version)
            if time.monotonic() > deadline:
                raise self._too_busy()
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _renewal(self, token: bytes, lease: float) -> Callable[[], None]:
        """A function that keeps the lock from expiring while the change reads."""
        renewed = time.monotonic()

        def renew() -> None:
            nonlocal renewed
            if time.monotonic() - renewed > lease / 3:
                self._link.run(_RENEW, (self._names.lock,), (token, round(lease * 1000)))
                renewed = time.monotonic()

        return renew

    def _commit(self, token: bytes, change: RedisTransaction) -> bool:
        """Whether the change is kept; not so when its writer lost the lock."""
        if not change.written:
            self._release(token)
            return True
        number = int(change.base.partition(b" ")[0] or 0) + 1
        puts = [part for key, value in change.written.items() if value is not None for part in (key, value)]
        deletes = [key for key, value in change.written.items() if value is None]
        past = round(self._past * 1000)
        arguments = (
            token,
            change.base,
            b"%d %s" % (number, token),
            past,
            SCANNED_PREFIXES,
            len(puts) // 2,
            *puts,
            *deletes,
        )
        own = self._names
        keys = (own.version, own.values, own.past, own.index, own.lock)
        after: list[Command] = [("WAITAOF", 1, 0, _DISK_MS)] if self.server.waits else []
        try:
            kept, *on_disk = self._link.run(_COMMIT, keys, arguments, *after)
        except UnreachableError as error:
            raise StoreError(
                f"{error}; the change was kept whole or not at all: send it again, repeats count once"
            ) from error
        if kept and on_disk and on_disk[0][0] < 1:
            raise StoreError(
                f"online store {self.name!r}: expected the change on the server's disk within {_DISK_MS // 1000} s, "
                "got no word of it; look after the disk and send it again, repeats count once"
            )
        return bool(kept)

    def _release(self, token: bytes) -> None:
        """Let others write; where that fails they wait for the lease to end."""
        with suppress(StoreError):
            self._link.run(_RELEASE, (self._names.lock, self._names.next), (token,))

    def _too_busy(self) -> StoreError:
        return StoreError(
            f"online store {self.name!r}: expected a turn to write within {self._patience:g} s, got none; "
            "other writers are at work, try again later"
        )
