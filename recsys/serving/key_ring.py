"""The API keys that a running server knows: checked in memory, read again when they have changed."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from features.errors import RecsysError
from recsys.serving.api_keys import ApiKey, KeySource, hash_key

logger = logging.getLogger(__name__)


class KeyRing:
    """The keys of a source. Reading them first raises InputError or StoreError where they cannot be read.

    A key that was added or revoked is noticed while `watching` runs, within `source.seconds`. Where the source cannot
    be read then, the last known keys hold, and the log says so once.
    """

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._stamp = source.stamp()
        self._keys = tuple(source.read().values())
        self._lost = False
        if not self._keys:
            logger.warning(
                "API keys %r: none yet, so that every request is refused; add one with `recsys keys add`", source.name
            )

    def find(self, key: bytes) -> ApiKey | None:
        """What is known of a key that a request brought; None for a wrong one.

        Takes as long for every wrong key: each stored hash is compared, in constant time.
        """
        digest = hash_key(key)
        found = None
        for known in self._keys:
            if hmac.compare_digest(known.sha256, digest):
                found = known
        return found

    def refresh(self) -> None:
        """Read the keys again where they have changed."""
        try:
            stamp = self._source.stamp()
            if stamp is not None and stamp == self._stamp and not self._lost:
                return
            self._keys = tuple(self._source.read().values())
        except RecsysError as error:
            if not self._lost:
                logger.warning("the last known API keys hold, since they cannot be read again: %s", error)
            self._lost = True
            return
        if self._lost:
            logger.info("API keys %r can be read again", self._source.name)
        self._stamp, self._lost = stamp, False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Refresh from a thread for as long as the block lasts."""
        stopped = Event()

        def watch() -> None:
            while not stopped.wait(self._source.seconds):
                try:
                    self.refresh()
                except Exception:
                    logger.exception("the API keys are not read again this time")

        thread = Thread(target=watch, name="api-keys", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(self._source.seconds)
