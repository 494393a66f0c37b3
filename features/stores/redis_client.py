"""The connection to a Redis server: its address, calls of one round trip each, and its failures as StoreErrors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from features.errors import StoreError
from features.stores.redis_scripts import Script

SCHEMES = ("redis", "rediss", "unix")
PREFIX = "recsys"
_USABLE_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_SECONDS = {"socket_timeout": 10.0, "socket_connect_timeout": 2.0}
_OPTIONS = (
    "prefix",
    "db",
    *_SECONDS,
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)
_ANSWERS = {
    "OOM ": (
        "expected memory for this change, got a server at its maxmemory",
        "nothing of it was kept; raise maxmemory or free memory",
    ),
    "READONLY": ("expected a server that takes writes, got a read-only replica", "name the primary"),
    "MISCONF": (
        "expected a server that can write to its disk, got one that cannot",
        "free some disk space or see the server's log",
    ),
    "NOREPLICAS": ("expected a server with enough replicas, got too few", "start them or lower min-replicas-to-write"),
    "LOADING": ("expected a server with its data, got one that still reads it from disk", "try again in a moment"),
    "NOAUTH": ("expected a server without a password, got one that wants one", "put it into the URL as :PASSWORD@"),
    "WRONGPASS": ("expected the server's user and password, got others", "put them into the URL as USER:PASSWORD@"),
    "NOPERM": ("expected the right to every command on its keys", "ask for it in the server's ACL"),
    "MOVED": ("expected one server, got a node of a cluster", "name a server outside cluster mode"),
    "WRONGTYPE": ("expected keys of a store, got others of the same names", "choose another ?prefix= or database"),
    "BUSY ": ("expected an answer, got a server busy with a script", "try again in a moment"),
}
"""Beginnings of a server's errors, each with what was expected and got, and what to do."""
Command = tuple[Any, ...]
_WAITS_FOR_DISK = (7, 2)


class UnreachableError(StoreError):
    """No answer came: the server may have run the command, or not."""


@dataclass(frozen=True)
class Address:
    """url: as redis-py takes it. prefix: of the keys. name: for messages, without a password. holds: what is kept
    there, in words."""

    url: str
    prefix: str
    name: str
    holds: str = "online store"


def address_of(url: str, holds: str = "online store") -> Address:
    """The address in a `redis://`, `rediss://` or `unix://` URL. Raises StoreError for what is not usable.

    holds: what is kept there, in words, for messages.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    public_options = {key: value for key, value in options.items() if key in _OPTIONS}
    host = parts.netloc.rpartition("@")[2]
    name = f"{parts.scheme}://{host}{parts.path}" + (f"?{urlencode(public_options)}" if public_options else "")
    if parts.scheme not in SCHEMES:
        raise StoreError(
            f"{holds} {name!r}: expected a folder or a URL that begins with redis://, rediss:// or unix://"
        )
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise StoreError(f"{holds} {name!r}: expected options {sorted(_OPTIONS)}, got {unknown}")
    prefix = options.pop("prefix", PREFIX)
    if not _USABLE_PREFIX.fullmatch(prefix):
        raise StoreError(f"{holds} {name!r}: expected a prefix of 1 to 64 of A-Z a-z 0-9 _ . : -, got {prefix!r}")
    database = options.get("db", "" if parts.scheme == "unix" else parts.path.strip("/"))
    try:
        number = int(database or 0)
        port = parts.port
    except ValueError as error:
        raise StoreError(f"{holds} {name!r}: expected a database number and a port, got others: {error}") from error
    if number < 0 or (port is None and host.endswith(":")):
        raise StoreError(f"{holds} {name!r}: expected a database number of 0 or more and a port")
    query = f"?{urlencode(options)}" if options else ""
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path}{query}", prefix, name, holds)


class RedisClient:
    """Connections to one server, for any number of threads."""

    def __init__(self, address: Address) -> None:
        self.name, self._holds = address.name, address.holds
        try:
            # a call may be sent twice: redis-py reconnects where the server has closed the connection; each call of
            # this class has the same effect when it is repeated
            self._client = redis.Redis.from_url(
                address.url, **_SECONDS, retry=Retry(NoBackoff(), 1), client_name="recsys", decode_responses=False
            )
        except (ValueError, TypeError, redis.RedisError) as error:
            raise StoreError(f"{self._holds} {self.name!r}: expected a usable URL: {error}") from error

    def call(self, *commands: Command) -> list[Any]:
        """The answers to commands in one round trip, on one connection. Raises StoreError for the first error."""
        return self._checked(self.try_calls(commands))

    def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any], *after: Command) -> list[Any]:
        """The answers to a script and to further commands; the server is sent the script's text when it lacks it."""
        rest = (len(keys), *keys, *arguments)
        answers = self.try_calls([("EVALSHA", script.sha, *rest), *after])
        if isinstance(answers[0], redis.exceptions.NoScriptError):
            answers = self.try_calls([("EVAL", script.text, *rest), *after])
        return self._checked(answers)

    def _checked(self, answers: list[Any]) -> list[Any]:
        for answer in answers:
            if isinstance(answer, Exception):
                raise self.translate_error(answer) from answer
        return answers

    def try_calls(self, commands: Sequence[Command]) -> list[Any]:
        """As `call`, but errors are among the answers. Raises UnreachableError, or StoreError where the server rejects
        the connection."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = pipeline.execute(raise_on_error=False)
                return answers
        except (redis.RedisError, OSError) as error:
            raise self.translate_error(error) from error

    def translate_error(self, error: Exception) -> StoreError:
        """The StoreError for an error that a server answers, or for no answer."""
        code = getattr(error, "status_code", None)
        text = " ".join(f"{code or ''} {error}".split())
        for beginning, (problem, advice) in _ANSWERS.items():
            if text.startswith(beginning) or f"-{beginning}" in text:
                return StoreError(f"{self._holds} {self.name!r}: {problem}; {advice}")
        if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
            return UnreachableError(
                f"{self._holds} {self.name!r}: expected a Redis server that answers, got: {text.rstrip('.')}; "
                "start it, or check the address"
            )
        return StoreError(f"{self._holds} {self.name!r}: expected a Redis server that does what is asked, got: {text}")

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._client.connection_pool.disconnect()


@dataclass(frozen=True)
class Server:
    """How a server keeps changes.

    durable: whether a change is on disk when it is acknowledged. waits: whether a writer has to ask for that with
    WAITAOF. warnings: what its settings put at risk, one line each.
    """

    durable: bool
    waits: bool
    warnings: tuple[str, ...]


def inspect_server(client: RedisClient) -> Server:
    """How the server is configured. Raises StoreError where it does not answer."""
    (info,) = client.call(("INFO",))
    (answer,) = client.try_calls([("CONFIG GET", "appendfsync")])
    policy = None if isinstance(answer, Exception) else answer.get("appendfsync")
    version = tuple(int(part) for part in re.findall(r"\d+", str(info.get("redis_version", "")))[:2])
    appends = str(info.get("aof_enabled")) == "1"
    waits = appends and policy != "always" and version >= _WAITS_FOR_DISK
    durable = appends and (policy == "always" or waits)
    warnings = []
    if not durable:
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
    return Server(durable, waits, tuple(warnings))
