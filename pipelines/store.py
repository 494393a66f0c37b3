"""`recsys store …`: what an online store holds, compaction, export, import, and the erasure of users.

All but the compaction of a store's file run beside servers on the same store, which see the change with their next
request. Reads and writes the store that `--store` names, and the files named below.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.online.expiry import drop_expired
from features.online.statistics import StoreStatistics, store_statistics
from features.online.transfer import export_store, import_store
from features.online.unused_records import ModelsInUse, drop_unused
from features.stores.open import compact_store
from recsys.collaborative.online import snapshots_owner
from recsys.online.open_state import open_existing_state
from recsys.registry import tracking
from recsys.registry.versions import load

_USERS_AT_ONCE = 1_000


@dataclass(frozen=True)
class CompactReport:
    """expired: records that were shortened or removed since they held something from beyond the horizon, by kind.
    dropped: records that no model in use reads, by kind. before, after: bytes of the file, None on a server."""

    expired: Mapping[str, int]
    dropped: Mapping[str, int]
    before: int | None
    after: int | None

    def as_dict(self) -> dict[str, Any]:
        """The report of `--json`."""
        records = {"expired": dict(self.expired), "dropped": dict(self.dropped)}
        return {**records, "bytes_before": self.before, "bytes_after": self.after}

    def lines(self) -> list[str]:
        """The report for a person."""
        lines = [f"beyond the horizon, removed from: {count:,} {kind}" for kind, count in self.expired.items()]
        lines += [f"dropped: {count:,} {kind}" for kind, count in self.dropped.items()]
        if self.before is not None:
            lines.append(f"the file had {self.before:,} bytes and has {self.after:,} now")
        return lines or ["nothing to drop; a store on a server has no file to shrink"]


@dataclass(frozen=True)
class TransferReport:
    """An export or import. action: its verb. records: keys with their values. size: bytes of the file."""

    action: str
    records: int
    size: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The report of `--json`."""
        return {"records": self.records, "bytes": self.size, "seconds": round(self.seconds, 3)}

    def lines(self) -> list[str]:
        """The report for a person."""
        return [f"{self.action} {self.records:,} records, {self.size:,} bytes, in {self.seconds:.1f} s"]


@dataclass(frozen=True)
class ForgetReport:
    """users: how many were asked for. known: of how many anything was held. removed: records, by kind."""

    users: int
    known: int
    removed: Mapping[str, int]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The report of `--json`; no id is in it."""
        counts = {"users": self.users, "known": self.known, "unknown": self.users - self.known}
        return {**counts, "removed": dict(self.removed), "seconds": round(self.seconds, 3)}

    def lines(self) -> list[str]:
        """The report for a person."""
        what = ", ".join(f"{count:,} {kind}" for kind, count in self.removed.items()) or "nothing"
        lines = [f"forgot {self.users:,} users in {self.seconds:.1f} s; removed {what}"]
        if self.known < self.users:
            unknown = self.users - self.known
            lines.append(f"of {unknown:,} of them the store held nothing; their earlier events stay out all the same")
        return lines


def stats(store: str) -> StoreStatistics:
    """What a store holds. Raises StoreError where there is none, or an empty one."""
    with open_existing_state(store) as state:
        return store_statistics(state)


def compact(store: str, models: Sequence[str]) -> CompactReport:
    """Remove what lies beyond the store's horizon, drop what none of some models reads, where any is named, and shrink
    the file.

    Raises StoreError where another process has the file open; what was dropped is gone then.
    """
    dropped: Mapping[str, int] = {}
    with open_existing_state(store) as state:
        expired = drop_expired(state)
        if models:
            dropped = drop_unused(state.store, _in_use(models))
    shrunk = compact_store(store)
    sizes = (None, None) if shrunk is None else (shrunk.before, shrunk.after)
    return CompactReport(expired, dropped, *sizes)


def export(path: Path, store: str) -> TransferReport:
    """Write a store as it is now into a new file; see `features.stores.record_file`."""
    started = time.perf_counter()
    with open_existing_state(store) as state:
        records = export_store(state.store, path)
    return TransferReport("exported", records, path.stat().st_size, time.perf_counter() - started)


def import_(path: Path, store: str) -> TransferReport:
    """Fill an empty store from a file that `export` wrote."""
    started = time.perf_counter()
    if not path.is_file():
        raise InputError(f"{str(path)!r}: expected a file that `recsys store export` wrote, found a folder")
    records = import_store(path, store)
    return TransferReport("imported", records, path.stat().st_size, time.perf_counter() - started)


def forget(store: str, users: Sequence[str], file: Path | None = None) -> ForgetReport:
    """Forget users, and those of a file with an id a line, a thousand in one transaction.

    Raises InputError for an id that can be no user's, where those of earlier transactions are forgotten already.
    """
    started, now = time.perf_counter(), time.time_ns() // 1000
    removed: Counter[str] = Counter()
    n_users = n_known = 0
    with open_existing_state(store) as state, _ids(users, file) as ids:
        while batch := list(dict.fromkeys(islice(ids, _USERS_AT_ONCE))):
            erasure = state.forget_users(batch, now=now)
            n_users += len(batch)
            n_known += len(erasure.known)
            removed.update(erasure.removed)
    if not n_users:
        raise InputError(f"users file {str(file)!r}: expected an id a line, found none")
    return ForgetReport(n_users, n_known, dict(sorted(removed.items())), time.perf_counter() - started)


@contextmanager
def _ids(users: Sequence[str], file: Path | None) -> Iterator[Iterator[str]]:
    """Ids that were named, then those of a file; empty lines do not count."""
    if file is None:
        yield iter(users)
        return
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as lines:
            stripped = (line.removesuffix("\n").removesuffix("\r") for line in lines)
            yield iter((*users, *(line for line in stripped if line)))
    except UnicodeDecodeError as error:
        raise InputError(f"users file {str(file)!r}: expected UTF-8, got other bytes: {error}") from error


def _in_use(uris: Sequence[str]) -> ModelsInUse:
    tracking.connect()
    encoders, owners = set(), set()
    for uri in uris:
        model = load(uri).ranking_model
        encoders.add(model.encoder.fingerprint)
        if model.settings.collaborative is not None:
            owners.add(snapshots_owner(model.settings.collaborative, encoder=model.encoder.fingerprint))
    return ModelsInUse(encoders, owners)
