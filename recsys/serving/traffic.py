"""Which of two versions answers a request: the champion, or for a share of the users the challenger.

Imports no model library: the command line and the client read it too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Variant = Literal["champion", "challenger"]


@dataclass(frozen=True)
class ChallengerOptions:
    """The challenger of a server. uri: names its versions. share: of the users whom it answers, 0 to 1. shadow: whether
    it also scores in the background what the champion answers."""

    uri: str
    share: float = 0.0
    shadow: bool = False


def is_in_share(user_id: str | None, request_id: str, share: float, salt: str) -> bool:
    """Whether the challenger answers a user, the same in every process and on every machine. A request without a user
    is decided by its own id. salt: another one gives another choice of users."""
    key = f"{salt}\0request\0{request_id}" if user_id is None else f"{salt}\0user\0{user_id}"
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53 < share
