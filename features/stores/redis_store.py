"""The online state on a Redis server, shared by any number of processes on any number of machines.

    store = RedisStore("redis://HOST:6379/0?prefix=news")

A change is written by one script (features.stores.redis_scripts), so whole or not at all, and only if nothing was
changed since it was read and no other writer has the lock: a writer that was paused until its lock expired cannot write
a change of an old state. A snapshot reads the current values until the next change; values that a change overwrites are
kept for a while, so that an older snapshot still reads them. Readers never wait, and never see
half a change.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from heapq import merge
from operator import itemgetter
from threading import Lock
from typing import Any, cast

from features.errors import StoreError, StoreMissing
from features.stores.base import (
    MAX_KEY_BYTES,
    SCANNED_PREFIXES,
    KeySearch,
    Result,
    StoreSnapshot,
    StoreUsage,
    Transaction,
)
from features.stores.redis_client import Command, RedisClient, UnreachableError, address_of, inspect_server
from features.stores.redis_hold import hold
from features.stores.redis_pass import RedisPass
from features.stores.redis_scripts import ACQUIRE, COMMIT, READ_PAST, READ_RANGE, RELEASE, RENEW, TAKE_OVER

logger = logging.getLogger(__name__)

_PAGE = 1000
_SAMPLED_VALUES = 1000
_DISK_MS = 5000
_QUEUE_MS = 500
_TEMPORARY_MS = 3_600_000
_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 0.02


class _ServerKeys:
    """The keys on the server that hold a store, see `features.stores.redis_scripts`."""

    def __init__(self, prefix: str) -> None:
        self.version, self.values, self.index, self.lock, self.next = (
            f"{{{prefix}}}:{name}".encode() for name in ("version", "values", "index", "lock", "next")
        )
        self.past = f"{{{prefix}}}:past:".encode()
        self.held = f"{{{prefix}}}:held:".encode()


class RedisSnapshot:
    """One version of the store. version: None until the first read decides it."""

    def __init__(self, client: RedisClient, names: _ServerKeys, version: bytes | None = None) -> None:
        self._client = client
        self._names = names
        self.version = version

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One round trip, two when another writer has just written."""
        if not keys:
            return []
        version: Command = ("GET", self._names.version)
        values: Command = ("HMGET", self._names.values, *keys)
        if self.version is None:
            before, stored, after = self._client.call(version, values, version)
            self.version = after or b""
            unchanged = before == after
        else:
            stored, after = self._client.call(values, version)
            unchanged = (after or b"") == self.version
        return list(stored) if unchanged else self._get_past(keys)

    def _get_past(self, keys: Sequence[bytes]) -> list[bytes | None]:
        names = (self._names.version, self._names.values, self._names.past)
        (stored,) = self._client.run(READ_PAST, names, (self.version, *keys))
        return self._unless_expired(stored)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """One round trip for every thousand keys. Raises ValueError for keys outside `SCANNED_PREFIXES`."""
        if start[:1] != end[:1] or start[:1] not in SCANNED_PREFIXES or not start:
            raise ValueError(
                f"expected a range within keys that begin with one of {SCANNED_PREFIXES!r}, got {start!r} to {end!r}"
            )
        names = (self._names.version, self._names.values, self._names.past, self._names.index)
        low: bytes = b"[" + start
        while low:
            version = b"*" if self.version is None else self.version
            (page,) = self._client.run(READ_RANGE, names, (version, low, b"(" + end, _PAGE))
            self.version, last, keys, values = self._unless_expired(page)
            entries = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
            yield from sorted(entries)
            low = b"(" + last if last else b""

    def _unless_expired(self, answer: Any) -> list[Any]:
        if answer == 0:
            raise StoreError(
                f"online store {self._client.name!r}: expected a read that ends before what it reads is overwritten "
                "and forgotten, got one that took too long; try again"
            )
        return list(answer)


class RedisTransaction(RedisSnapshot):
    """A change under way. base: the version that its writer read. written: what it has put and, as None, deleted.

    token: of the writer's lock, which each read renews before it expires. lock_ttl: seconds.
    """

    def __init__(self, client: RedisClient, names: _ServerKeys, base: bytes, token: bytes, lock_ttl: float) -> None:
        super().__init__(client, names, base)
        self.base = base
        self.token = token
        self.written: dict[bytes, bytes | None] = {}
        self._lock_ttl = lock_ttl
        self._renewed = time.monotonic()

    def _renew_lock(self) -> None:
        if time.monotonic() - self._renewed > self._lock_ttl / 3:
            self._client.run(RENEW, (self._names.lock,), (self.token, round(self._lock_ttl * 1000)))
            self._renewed = time.monotonic()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values with those that the transaction has written."""
        self._renew_lock()
        rest = [key for key in keys if key not in self.written]
        stored = dict(zip(rest, super().get_many(rest), strict=True))
        return [self.written[key] if key in self.written else stored[key] for key in keys]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values with those that the transaction has written."""
        self._renew_lock()
        written = sorted((k, v) for k, v in self.written.items() if v is not None and start <= k < end)
        rest = ((key, value) for key, value in super().scan(start, end) if key not in self.written)
        return merge(written, rest, key=itemgetter(0))

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set values; they are sent together when the transaction ends."""
        for key, value in items:
            if not 0 < len(key) <= MAX_KEY_BYTES:
                raise StoreError(f"expected a key of 1 to {MAX_KEY_BYTES} bytes, got one of {len(key)}: {key[:40]!r}")
            self.written[bytes(key)] = bytes(value)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Remove keys when the transaction ends."""
        self.written.update(dict.fromkeys(keys))


class RedisStore:
    """A store on a Redis server: any number of readers, one writer at a time, over all processes that share it."""

    rows_together = 5_000
    may_hang = True

    def __init__(
        self,
        url: str,
        *,
        create: bool = True,
        lock_ttl: float = 10.0,
        lock_timeout: float = 60.0,
        snapshot_ttl: float = 10.0,
        temporary_prefix: str | None = None,
    ) -> None:
        """create: take a store that has nothing in it yet. All in seconds: lock_ttl: after which the lock of a writer
        that died is free again. lock_timeout: that a writer waits for the lock. snapshot_ttl: that a snapshot can be
        read while others write. temporary_prefix: in place of the URL's, for a store that vanishes an hour after its
        last change.

        Raises StoreError where the server does not answer, or has no such store and none is to be made.
        """
        address = address_of(url)
        self.name = address.name
        self._client = RedisClient(address)
        self._names = _ServerKeys(temporary_prefix or address.prefix)
        self._expires = temporary_prefix is not None
        self._lock_ttl, self._lock_timeout, self._snapshot_ttl = lock_ttl, lock_timeout, snapshot_ttl
        self._writing = Lock()
        try:
            self.server = inspect_server(self._client)
            for warning in self.server.warnings:
                logger.warning("online store %r: %s", self.name, warning)
            if not create and self.is_empty():
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
        yield RedisSnapshot(self._client, self._names)

    def update(self, change: Callable[[Transaction], Result]) -> Result:
        """Run `change`, write it, return its result; on an error nothing of it is kept. It runs again, from the start,
        when another writer got its lock before it was written.

        Raises StoreError where the server refuses, and where its answer is lost: the change is then whole or not there.
        """
        deadline, lock_ttl = time.monotonic() + self._lock_timeout, self._lock_ttl
        with self._writing:
            while True:
                token = secrets.token_hex(8).encode()
                try:
                    base = self._acquire(token, lock_ttl, deadline)
                    transaction = RedisTransaction(self._client, self._names, base, token, lock_ttl)
                    result = change(transaction)
                    if self._commit(transaction):
                        return result
                except BaseException:
                    self._release(token)
                    raise
                self._release(token)
                logger.warning("online store %r: a change is made again, another writer came between", self.name)
                lock_ttl *= 2
                if time.monotonic() > deadline:
                    raise self._too_busy()

    def update_matching(self, search: KeySearch, change: Callable[[Transaction, list[bytes]], Result]) -> Result:
        """As `update`. All keys are looked at before the lock is had; those that others wrote meanwhile, after it."""
        one_pass = self._pass()
        found = {key for page in one_pass.pages() for key in page if search.seek(key) == key}

        def change_found(transaction: Transaction) -> Result:
            one_pass.follow(cast(RedisTransaction, transaction).base)
            meanwhile = {key for key in one_pass.before if search.seek(key) == key}
            return change(transaction, sorted(found | meanwhile))

        return self.update(change_found)

    def hold(self, name: str) -> AbstractContextManager[bool]:
        """As `redis_hold.hold`."""
        return hold(self._client, self._names.held + name.encode())

    def everything(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values, in the order of the server."""
        return self._pass().entries()

    def usage(self) -> StoreUsage:
        """The server's estimate of the memory of the store, from a sample of its values."""
        names = (self._names.version, self._names.values, self._names.index)
        sizes = self._client.call(*(("MEMORY", "USAGE", name, "SAMPLES", _SAMPLED_VALUES) for name in names))
        return StoreUsage("redis", sum(size or 0 for size in sizes), None)

    def is_empty(self) -> bool:
        """Whether nothing was ever written."""
        return not self._client.call(("EXISTS", self._names.version))[0]

    def take_over(self, temporary: RedisStore) -> None:
        """Become what a temporary store of the same server holds, at once; that one is gone then.

        Raises StoreError where this store is not empty.
        """
        source, target = temporary._names, self._names
        pairs = [(source.values, target.values), (source.index, target.index), (source.version, target.version)]
        (version,) = self._client.call(("GET", source.version))
        names = [name for pair in pairs for name in pair]
        taken, *then = self._client.run(TAKE_OVER, names, (version or b"",), *self._to_disk)
        if not taken:
            raise StoreError(f"online store {self.name!r}: expected an empty one, found one that holds something")
        self._check_disk(then)

    def discard(self) -> None:
        """Remove everything of this store."""
        names = self._names
        self._client.call(("UNLINK", names.version, names.values, names.index, names.lock, names.next))

    def _pass(self) -> RedisPass:
        names = self._names
        return RedisPass(self._client, version_key=names.version, values_key=names.values, past_prefix=names.past)

    def close(self) -> None:
        """Close the connections; the store stays."""
        self._client.close()

    def _acquire(self, token: bytes, lock_ttl: float, deadline: float) -> bytes:
        """Wait for the lock; the version of the store under it. Those who wait longest come first, mostly."""
        wait = _SHORTEST_WAIT
        names = (self._names.version, self._names.lock, self._names.next)
        while True:
            (version,) = self._client.run(ACQUIRE, names, (token, round(lock_ttl * 1000), _QUEUE_MS))
            if version != 0:
                return bytes(version)
            if time.monotonic() > deadline:
                raise self._too_busy()
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _commit(self, change: RedisTransaction) -> bool:
        """Write the change; False where its writer lost the lock, and nothing is kept."""
        if not change.written:
            self._release(change.token)
            return True
        number = int(change.base.partition(b" ")[0] or 0) + 1
        puts = [field for key, value in change.written.items() if value is not None for field in (key, value)]
        deletes = [key for key, value in change.written.items() if value is None]
        version, ttl = b"%d %s" % (number, change.token), round(self._snapshot_ttl * 1000)
        head = (change.token, change.base, version, ttl, SCANNED_PREFIXES, len(puts) // 2)
        names = self._names
        keys = (names.version, names.values, names.past, names.index, names.lock)
        after = self._to_disk
        if self._expires:
            after += [("PEXPIRE", name, _TEMPORARY_MS) for name in (names.version, names.values, names.index)]
        try:
            committed, *then = self._client.run(COMMIT, keys, (*head, *puts, *deletes), *after)
        except UnreachableError as error:
            raise StoreError(
                f"{error}; the change was kept whole or not at all: send it again, repeats count once"
            ) from error
        if committed:
            self._check_disk(then)
        return bool(committed)

    @property
    def _to_disk(self) -> list[Command]:
        """What asks for the disk after a change, where the server does not write each by itself."""
        return [("WAITAOF", 1, 0, _DISK_MS)] if self.server.waits else []

    def _check_disk(self, answers: list[Any]) -> None:
        """answers: to `_to_disk` and what came after it."""
        if self.server.waits and answers[0][0] < 1:
            raise StoreError(
                f"online store {self.name!r}: expected the change on the server's disk within {_DISK_MS // 1000} s, "
                "got no word of it; look after the disk and send it again, repeats count once"
            )

    def _release(self, token: bytes) -> None:
        """Let others write; where that fails they wait until the lock expires."""
        with suppress(StoreError):
            self._client.run(RELEASE, (self._names.lock, self._names.next), (token,))

    def _too_busy(self) -> StoreError:
        return StoreError(
            f"online store {self.name!r}: expected a turn to write within {self._lock_timeout:g} s, got none; "
            "other writers are at work, try again later"
        )
