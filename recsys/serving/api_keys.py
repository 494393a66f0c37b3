"""API keys: made, listed and revoked in a file of mode 0600 or on a Redis server.

    with open_keys("keys.json") as source:          # or redis://…
        key = create_key(source, "shop", "read")    # the only time that the key itself is seen
        source.read()["shop"].scope

Only the SHA-256 of a key is stored. A key is 256 random bits, so nobody can guess it, and a salt or a slow hash would
add nothing: these protect passwords, which people choose. A fast hash lets every request be checked.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from features.atomic_files import locked_output, replaced_file
from features.errors import InputError, StoreError

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each may do what those before it may."""

FORMAT = 1
"""Of the file and of a value in Redis."""
_NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")
_KEY_BYTES = 32
_SHOWN = 4


class ApiKey(BaseModel, frozen=True, extra="forbid"):
    """What is stored of a key. sha256: of the key, in hex. ends_with: its last characters, to recognise it by."""

    scope: Scope
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    ends_with: str
    created: AwareDatetime

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs this scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class KeySource(Protocol):
    """Where keys are kept. seconds: how often a server looks for changes."""

    name: str
    seconds: float

    def read(self) -> dict[str, ApiKey]:
        """All keys by name. Raises InputError or StoreError where they cannot be read."""

    def stamp(self) -> object:
        """Differs after a change; None where only reading can tell."""

    def add(self, name: str, key: ApiKey) -> bool:
        """Store a key; False where another has the name."""

    def remove(self, name: str) -> bool:
        """Remove a key; False where there is none of the name."""

    def close(self) -> None:
        """Close all connections."""


@contextmanager
def open_keys(place: str) -> Iterator[KeySource]:
    """The keys in a file or at a `redis://`, `rediss://` or `unix://` URL; nothing is read yet."""
    source: KeySource = RedisKeys(place) if "://" in place else KeyFile(Path(place))
    try:
        yield source
    finally:
        source.close()


def check_key_name(name: str) -> str:
    """The name. Raises InputError where no key can have it."""
    if not _NAME.fullmatch(name):
        raise InputError(f"name of an API key: expected 1 to 64 of A-Z a-z 0-9 . _ - (no - first), got {name[:80]!r}")
    return name


def create_key(source: KeySource, name: str, scope: Scope) -> str:
    """Make a key and store what is kept of it; the key itself. Raises InputError where the name is not usable or is
    taken."""
    check_key_name(name)
    key = secrets.token_urlsafe(_KEY_BYTES)
    created = datetime.now(UTC).replace(microsecond=0)
    stored = ApiKey(scope=scope, sha256=hash_key(key.encode()), ends_with=key[-_SHOWN:], created=created)
    if not source.add(name, stored):
        raise InputError(
            f"API keys {source.name!r}: expected a new name, {name!r} is there already; choose another one, or "
            f"`recsys keys revoke {name}` first"
        )
    return key


def revoke_key(source: KeySource, name: str) -> None:
    """Remove a key. Raises InputError where there is none of the name."""
    if not source.remove(name):
        names = sorted(source.read())
        raise InputError(f"API keys {source.name!r}: expected one of the names {names}, got {name!r}")


def hash_key(key: bytes) -> str:
    """What is stored of a key, in place of it."""
    return sha256(key).hexdigest()


class KeyFile:
    """Keys in a JSON file that only its owner may read."""

    seconds = 1.0

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def read(self) -> dict[str, ApiKey]:
        """All keys by name. Raises InputError where the file is absent, open to others or not such a file."""
        try:
            with self._path.open("rb") as file:
                self._require_private(os.fstat(file.fileno()).st_mode)
                content = file.read()
        except OSError as error:
            raise self._unreadable(error) from error
        return _keys_in(_json_object(content, self.name), self.name)

    def stamp(self) -> object:
        """Of the file as it is now; raises InputError where it is absent."""
        try:
            now = self._path.stat()
        except OSError as error:
            raise self._unreadable(error) from error
        return now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size

    def add(self, name: str, key: ApiKey) -> bool:
        """Store a key, in a new file where there is none; False where another has the name."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked_output(self._path):
            keys = self.read() if self._path.exists() else {}
            if name in keys:
                return False
            self._write({**keys, name: key})
        return True

    def remove(self, name: str) -> bool:
        """Remove a key; False where there is none of the name."""
        self.read()
        with locked_output(self._path):
            keys = self.read()
            if keys.pop(name, None) is None:
                return False
            self._write(keys)
        return True

    def close(self) -> None:
        """Nothing stays open."""

    def _unreadable(self, error: OSError) -> InputError:
        if isinstance(error, FileNotFoundError):
            return InputError(
                f"API keys {self.name!r}: expected a file, found none; make one with "
                f"`recsys keys add NAME --scope read --keys {shlex.quote(self.name)}`"
            )
        return InputError(f"API keys {self.name!r} cannot be read: {error.strerror}")

    def _require_private(self, mode: int) -> None:
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(
                f"API keys {self.name!r}: expected a file that only its owner may read (mode 0600), got mode "
                f"{stat.S_IMODE(mode):04o}; run `chmod 600 {shlex.quote(self.name)}`"
            )

    def _write(self, keys: Mapping[str, ApiKey]) -> None:
        content = {"format": FORMAT, "keys": {name: key.model_dump(mode="json") for name, key in keys.items()}}
        with replaced_file(self._path) as partial:
            partial.unlink(missing_ok=True)
            with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                json.dump(content, file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())


class RedisKeys:
    """Keys in one hash on a Redis server, for servers on several machines."""

    seconds = 3.0

    def __init__(self, url: str) -> None:
        try:
            from features.stores.redis_hash import RedisHash
        except ImportError as error:
            raise StoreError(
                "API keys on a Redis server: expected the package redis, found none; install it with "
                "`pip install 'recsys[redis]'`"
            ) from error
        self._hash = RedisHash(url, "api-keys", holds="API keys")
        self.name = self._hash.name

    def read(self) -> dict[str, ApiKey]:
        """All keys by name. Raises StoreError where the server does not answer, InputError for other values."""
        keys: dict[str, ApiKey] = {}
        for name, value in self._hash.read().items():
            content = _json_object(value, self.name)
            keys |= _keys_in({"format": content.pop("format", None), "keys": {name: content}}, self.name)
        return keys

    def stamp(self) -> object:
        """None: reading the hash is as much work as asking whether it has changed."""
        return None

    def add(self, name: str, key: ApiKey) -> bool:
        """Store a key; False where another has the name."""
        return self._hash.add(name, json.dumps({"format": FORMAT, **key.model_dump(mode="json")}).encode())

    def remove(self, name: str) -> bool:
        """Remove a key; False where there is none of the name."""
        found = name in self._hash.read()
        self._hash.remove(name)
        return found

    def close(self) -> None:
        """Close all connections."""
        self._hash.close()


_KEYS = TypeAdapter(dict[str, ApiKey])


def _json_object(content: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise InputError(f"API keys {place!r}: expected JSON that `recsys keys add` wrote, got: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"API keys {place!r}: expected an object that `recsys keys add` wrote, got {value!r:.60}")
    return value


def _keys_in(content: Mapping[str, Any], place: str) -> dict[str, ApiKey]:
    """The keys of {"format": …, "keys": {…}}. Raises InputError for another format, or for no such object."""
    if content.get("format") != FORMAT:
        raise InputError(
            f"API keys {place!r}: expected format {FORMAT}, got {content.get('format')!r:.60}; make new keys with this "
            "release of recsys, or use the one that wrote them"
        )
    try:
        return _KEYS.validate_json(json.dumps(content.get("keys")))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in ("keys", *problem["loc"]))
        raise InputError(f"API keys {place!r}: field {field!r}: {problem['msg']}; make the key again") from error
