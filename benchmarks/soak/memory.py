"""Growth of a server's memory over rankings and events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from benchmarks.server_process import ServerProcess, private_bytes

EVENTS_AT_ONCE, CANDIDATES = 100, 20
_WARM = 0.1
"""Share of the requests after which the first figure is taken."""


@dataclass(frozen=True)
class Growth:
    """Bytes of each process for itself (USS) after a tenth of the requests and after all of them."""

    first: list[int]
    last: list[int]

    @property
    def largest_ratio(self) -> float:
        """Of one process, last over first."""
        return max(last / first for first, last in zip(self.first, self.last, strict=True))


def growth(server: ServerProcess, users: Sequence[str], items: Sequence[str], requests: int, events: int) -> Growth:
    """Rank lists of 20 items, and write events among them, evenly. Raises HTTPStatusError for an error."""
    first: list[int] = []
    with httpx.Client(base_url=server.address, timeout=60) as client:
        written = 0
        for number in range(requests):
            candidates = [items[(number + n) % len(items)] for n in range(CANDIDATES)]
            body = {"user_id": users[number % len(users)], "candidates": candidates}
            client.post("/v1/rank", json=body).raise_for_status()
            if written < (number + 1) * events // requests - EVENTS_AT_ONCE:
                client.post("/v1/events", json={"events": _clicks(users, items, written)}).raise_for_status()
                written += EVENTS_AT_ONCE
            if number == int(_WARM * requests):
                first = [private_bytes(pid) for pid in server.processes()]
    return Growth(first, [private_bytes(pid) for pid in server.processes()])


def _clicks(users: Sequence[str], items: Sequence[str], start: int) -> list[dict[str, object]]:
    now = time.time()
    return [
        {
            "user_id": users[n % len(users)],
            "item_id": items[n % len(items)],
            "event_type": "click",
            "timestamp": now,
            "event_id": f"memory-{now}-{n}",
        }
        for n in range(start, start + EVENTS_AT_ONCE)
    ]
