"""kill -9 of workers and of whole servers at random moments, while events are written and lists are ranked."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import httpx

from benchmarks.server_process import ServerProcess
from features.clock import DAY
from features.definitions.aggregates import CLICK, USER, Count
from features.online.reader import OnlineReader
from features.online.state import OnlineState
from features.stores.open import open_store

WRITERS, EVENTS_AT_ONCE = 3, 5
_SERVER_EVERY = 5
"""Of so many kills the first is of a whole server, the others of one worker; all of a server without workers."""


@dataclass
class Writes:
    """Batches of clicks that were sent, each by a user of its own. unsure: those without an answer."""

    acknowledged: list[list[dict[str, Any]]] = field(default_factory=list)
    unsure: list[list[dict[str, Any]]] = field(default_factory=list)

    def clicks(self) -> Counter[str]:
        """Of each user, all that were sent."""
        return Counter(click["user_id"] for batch in [*self.acknowledged, *self.unsure] for click in batch)


@dataclass(frozen=True)
class Kills:
    """What a campaign found. missing: acknowledged clicks that the store lacks, twice: those that it counts too often;
    both after those without an answer were sent again. failed: rankings that were answered otherwise, or not at all
    within a minute. unreached: those that found no server, or lost it."""

    workers: int
    servers: int
    acknowledged: int
    unsure: int
    rankings: int
    failed: int
    unreached: int
    missing: int
    twice: int


def kill_under_load(server: ServerProcess, items: Sequence[str], kills: int, generator: random.Random) -> Kills:
    """Kill workers, and at first and each fifth time the whole server. items: what is clicked and ranked.

    The server runs before and after. Raises RuntimeError where a worker is not replaced.
    """
    of_servers = of_workers = 0
    with _load(server, items) as (writes, ranked):
        for number in range(1, kills + 1):
            time.sleep(generator.uniform(0.1, 1.0))
            workers = server.workers()
            if number % _SERVER_EVERY == 1 or not workers:
                server.kill()
                server.start()
                of_servers += 1
            else:
                _kill_worker(server, generator.choice(sorted(workers)))
                of_workers += 1
    acknowledged, unsure = (sum(map(len, batches)) for batches in (writes.acknowledged, writes.unsure))
    with httpx.Client(base_url=server.address, timeout=60) as client:
        for batch in writes.unsure:
            client.post("/v1/events", json={"events": batch}).raise_for_status()
    server.stop()
    counted = _counted(server.store, sorted(writes.clicks()))
    differences = [counted[user] - sent for user, sent in writes.clicks().items()]
    server.start()
    missing, twice = -sum(min(0, one) for one in differences), sum(max(0, one) for one in differences)
    rankings = (ranked["answered"], ranked["failed"], ranked["unreached"])
    return Kills(of_workers, of_servers, acknowledged, unsure, *rankings, missing, twice)


def _kill_worker(server: ServerProcess, name: str) -> None:
    """Returns when another one is ready in its place."""
    pid = server.workers()[name]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while server.workers()[name] == pid:
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected a process in place of {name}, {pid}, got none: {server.log()[-2000:]}")
        time.sleep(0.05)


@contextmanager
def _load(server: ServerProcess, items: Sequence[str]) -> Iterator[tuple[Writes, Counter[str]]]:
    """Threads that write and one that ranks, as long as the context lasts."""
    writes, ranked, stop = Writes(), Counter[str](), Event()
    threads = [Thread(target=_write, args=(server, items, n, writes, stop)) for n in range(WRITERS)]
    threads.append(Thread(target=_rank, args=(server, items, ranked, stop)))
    for thread in threads:
        thread.start()
    try:
        yield writes, ranked
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _write(server: ServerProcess, items: Sequence[str], number: int, writes: Writes, stop: Event) -> None:
    n_batches = 0
    while not stop.is_set():
        batch = [
            {
                "user_id": f"soak-{number}-{n_batches}",
                "item_id": items[(n_batches + n) % len(items)],
                "event_type": "click",
                "timestamp": time.time(),
                "event_id": f"{number}-{n_batches}-{n}-{os.getpid()}",
            }
            for n in range(EVENTS_AT_ONCE)
        ]
        n_batches += 1
        try:
            answer = httpx.post(f"{server.address}/v1/events", json={"events": batch}, timeout=60)
        except httpx.TransportError:
            writes.unsure.append(batch)
            time.sleep(0.05)
            continue
        acknowledged = answer.status_code == httpx.codes.OK and answer.json()["accepted"] == len(batch)
        (writes.acknowledged if acknowledged else writes.unsure).append(batch)


def _rank(server: ServerProcess, items: Sequence[str], ranked: Counter[str], stop: Event) -> None:
    body = {"user_id": "soak-0", "candidates": list(items[:20])}
    while not stop.is_set():
        try:
            answer = httpx.post(f"{server.address}/v1/rank", json=body, timeout=60)
            ranked["answered" if answer.status_code == httpx.codes.OK else "failed"] += 1
        except httpx.TimeoutException:
            ranked["failed"] += 1
        except httpx.TransportError:
            ranked["unreached"] += 1
        time.sleep(0.02)


def _counted(store: str, users: Sequence[str]) -> dict[str, int]:
    """Clicks of each user in a store that no server has open."""
    with closing(open_store(store, create=False)) as opened:
        state, now = OnlineState.open(opened), time.time_ns() // 1000 + DAY
        with state.snapshot() as view:
            readers = {user: OnlineReader(view, user, None, ["any"], now=now) for user in users}
            return {user: int(reader.count(Count(CLICK, USER))[0]) for user, reader in readers.items()}
