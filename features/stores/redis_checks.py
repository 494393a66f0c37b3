"""What a Redis server has to be for a store to be safe on it: looked at when the store is opened, said in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from features.stores.redis_client import RedisLink

logger = logging.getLogger(__name__)

_WAITS_FOR_DISK = (7, 2)


@dataclass(frozen=True)
class Server:
    """How a server keeps what it is told.

    version: major and minor. on_disk: whether every answered write is on its disk already. waits: whether it can be
    asked to answer only then. warnings: what is not as it should be, a line each.
    """

    version: tuple[int, int]
    on_disk: bool
    waits: bool
    warnings: tuple[str, ...]

    @property
    def durable(self) -> bool:
        """Whether a change is on disk when it is acknowledged."""
        return self.on_disk or self.waits


def look_at(link: RedisLink) -> Server:
    """What the server says of itself. Raises StoreError where it cannot be asked."""
    (info,) = link.call(("INFO",))
    (fsync,) = link.try_calls([("CONFIG", "GET", "appendfsync")])
    version = _version(str(info.get("redis_version", "")))
    appends = str(info.get("aof_enabled")) == "1"
    policy = _setting(fsync, "appendfsync")
    on_disk = appends and policy == "always"
    waits = appends and not on_disk and version >= _WAITS_FOR_DISK
    warnings = []
    if not on_disk and not waits:
        got = f"appendonly yes with appendfsync {policy or 'unknown'}" if appends else "appendonly no"
        lost = "the last second or so" if appends else "everything since the server's last snapshot"
        warnings.append(
            f"{got}: acknowledged events may be lost when the server or its machine fails, {lost}; "
            "set appendonly yes and appendfsync always (from Redis 7.2 on, appendonly yes is enough)"
        )
    evicts = str(info.get("maxmemory_policy", "noeviction"))
    if int(info.get("maxmemory") or 0) > 0 and evicts != "noeviction":
        warnings.append(
            f"maxmemory-policy {evicts}: when memory is short the server may throw the store away; set noeviction"
        )
    if str(info.get("role")) in ("slave", "replica"):
        warnings.append("a read-only replica: it ranks, but takes no events and no items; name the primary")
    return Server(version, on_disk, waits, tuple(warnings))


def warn_of(server: Server, name: str) -> None:
    """Say in the log what is not as it should be. name: of the store."""
    for warning in server.warnings:
        logger.warning("online store %r: %s", name, warning)


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def _setting(answer: Any, name: str) -> str | None:
    """A setting from the answer to CONFIG GET; None where the server does not tell."""
    if isinstance(answer, Exception) or not answer:
        return None
    found = {_text(key): _text(value) for key, value in dict(answer).items()}
    return found.get(name)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
