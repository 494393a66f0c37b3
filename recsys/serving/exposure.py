"""Whether others than this machine reach an address, and what must hold before a server listens there."""

from __future__ import annotations

from ipaddress import ip_address

from recsys.errors import ServerError


def require_keys_beyond_loopback(address: str, *, has_keys: bool) -> None:
    """Raise ServerError where `address`, which a socket listens on, is reached from other machines without keys."""
    if has_keys or ip_address(address.partition("%")[0]).is_loopback:
        return
    raise ServerError(
        f"expected API keys, since {address} can be reached from other machines, got none: make one with `recsys keys "
        "add NAME --scope read` and serve with --keys keys.json, or answer everybody with --no-keys"
    )
