"""`recsys keys add|list|revoke`: the API keys of `recsys serve --keys`, in a file or on a Redis server."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from recsys.serving.api_keys import ApiKey, Scope, create_key, open_keys, revoke_key

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CreatedKey:
    """A new key, which is shown this once."""

    name: str
    scope: Scope
    key: str

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys keys add --json`."""
        return {"name": self.name, "scope": self.scope, "key": self.key}

    def lines(self) -> list[str]:
        """The key alone, so that a script may take it."""
        return [self.key]


@dataclass(frozen=True)
class KeyList:
    """The keys of a place by name, without the keys themselves."""

    keys: dict[str, ApiKey]

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys keys list --json`."""
        rows = [
            {"name": name, **key.model_dump(mode="json", include={"scope", "created", "ends_with"})}
            for name, key in sorted(self.keys.items())
        ]
        return {"keys": rows}

    def lines(self) -> list[str]:
        """The report for a person."""
        width = max([4, *map(len, self.keys)])
        rows = [
            f"{name:<{width}}  {key.scope:<5}  {key.created:%Y-%m-%d %H:%M}  …{key.ends_with}"
            for name, key in sorted(self.keys.items())
        ]
        return [f"{'name':<{width}}  scope  created (UTC)     ends with", *rows] if rows else ["no keys"]


@dataclass(frozen=True)
class RevokedKey:
    """A key that no server takes any more."""

    name: str

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys keys revoke --json`."""
        return {"revoked": self.name}

    def lines(self) -> list[str]:
        """The report for a person."""
        return [f"key {self.name!r} is revoked; running servers notice within seconds"]


def add_key(place: str, name: str, scope: Scope) -> CreatedKey:
    """Make a key of a new name; it is stored as a hash. place: file, or URL of a Redis server."""
    with open_keys(place) as source:
        key = create_key(source, name, scope)
        log.info("API key %r of scope %s is stored in %r; the key itself is shown this once:", name, scope, source.name)
    return CreatedKey(name, scope, key)


def list_keys(place: str) -> KeyList:
    """The keys of a place."""
    with open_keys(place) as source:
        return KeyList(source.read())


def revoke(place: str, name: str) -> RevokedKey:
    """Remove a key by its name."""
    with open_keys(place) as source:
        revoke_key(source, name)
    return RevokedKey(name)
