"""Ids as numbers, for records in which text would take too much space."""

from __future__ import annotations

from hashlib import blake2b


def hash_id(text: str | None) -> int:
    """A number of 64 bits for an id, 0 for None."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1 if text is not None else 0
