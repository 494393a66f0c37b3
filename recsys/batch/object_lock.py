"""A lock in an object store, which cannot lock: an object with an expiry, created only where it is absent.

The lock of `s3://bucket/nightly` is the object of the highest number in `s3://bucket/.nightly.lock/`. It names its
holder and when it expires; the holder renews it until it releases it. Whoever finds it released or expired creates the
next number, which the store gives to one of them only (`If-None-Match`). A holder that finds a higher number, or could
not renew in time, has lost the lock. The last object stays, released: without it, one who has seen it and one who has
not would create different numbers.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from features.clock import format_time
from features.errors import InputError, RecsysError

logger = logging.getLogger(__name__)

EXPIRY_SECONDS = 60.0
"""A machine whose clock is ahead by more than this takes a lock that is held."""


@dataclass(frozen=True)
class _Claim:
    """What an object of the lock holds. expires: Unix time in seconds."""

    holder: str
    token: str
    expires: float
    released: bool = False


class ObjectLock:
    """The lock of one batch. place: its URL, for a person. folder: of its objects. seconds: until it expires."""

    def __init__(self, files: Any, folder: str, place: str, *, seconds: float = EXPIRY_SECONDS) -> None:
        self._files, self._folder, self._place, self._seconds = files, folder, place, seconds
        self._holder, self._token = f"{socket.gethostname()}, process {os.getpid()}", uuid.uuid4().hex
        self._number = 0
        self._renewed = 0.0
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None

    def acquire(self) -> None:
        """Raises InputError where another run holds it."""
        number, claim = self._latest()
        if claim is not None and not claim.released and claim.expires > time.time():
            raise self._taken(claim)
        self._number = number + 1
        self._renewed = time.monotonic()
        try:
            self._files.pipe_file(self._path(self._number), self._claim(), mode="create")
        except Exception as error:
            found = self._read(self._number)
            if found is None:
                raise
            if found.token != self._token:  # else a retry of the store's client, after its first try had arrived
                raise self._taken(found) from error
        else:
            found = self._read(self._number)
            if found is None or found.token != self._token:
                raise self._taken(found)
        if claim is not None and not claim.released:
            logger.info("took over the lock of %s, which ended without releasing it", claim.holder)
        self._renewing = threading.Thread(target=self._renew_until_ended, daemon=True, name="batch-lock")
        self._renewing.start()

    def check(self) -> None:
        """Raises RecsysError where the lock is lost: another run may be writing the batch."""
        if time.monotonic() - self._renewed > self._seconds or self._latest()[0] != self._number:
            raise RecsysError(
                f"output {self._place!r}: the lock could not be renewed for {self._seconds:g} s, and another run may "
                "write this batch now"
            )

    def release(self) -> None:
        """Let others have it, and remove the older objects."""
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()
        if self._latest()[0] == self._number:
            self._files.pipe_file(self._path(self._number), self._claim(released=True))
        for number in self._numbers():
            if number < self._number:
                self._files.rm_file(self._path(number))

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._seconds / 4):
            try:
                if self._latest()[0] != self._number:
                    return
                begun = time.monotonic()
                self._files.pipe_file(self._path(self._number), self._claim())
                self._renewed = begun
            except Exception as error:  # a store that does not answer for a moment
                logger.warning("warning: the lock of %r could not be renewed: %s", self._place, error)

    def _claim(self, *, released: bool = False) -> bytes:
        claim = _Claim(self._holder, self._token, time.time() + self._seconds, released)
        return json.dumps(asdict(claim)).encode()

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"

    def _numbers(self) -> list[int]:
        try:
            names = self._files.ls(self._folder, detail=False)
        except FileNotFoundError:
            return []
        stems = (name.rpartition("/")[2].removesuffix(".json") for name in names)
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _latest(self) -> tuple[int, _Claim | None]:
        numbers = self._numbers()
        return (numbers[-1], self._read(numbers[-1])) if numbers else (0, None)

    def _read(self, number: int) -> _Claim | None:
        try:
            return _Claim(**json.loads(self._files.cat_file(self._path(number))))
        except FileNotFoundError:
            return None

    def _taken(self, claim: _Claim | None) -> InputError:
        by = "" if claim is None else f", {claim.holder}, until {format_time(int(claim.expires * 1e6))} unless renewed"
        return InputError(
            f"output {self._place!r}: another command is writing it at this moment{by}; wait for that one, or name "
            "another place"
        )
