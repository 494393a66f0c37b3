"""`python -m benchmarks.overload`: what a server does with more requests than it can answer.

The client sends at a fixed rate, whether answers come or not, from one core; the server has another one. Latency counts
from the moment that a request was due. Capacity is the highest rate without a refusal. Trains on a simulated site with
the encoder's layers frozen; works in a temporary folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.report import Result, command
from benchmarks.server_process import ServerProcess
from benchmarks.serving import Site, ids_of, trained_site
from pipelines.load import load_events, load_items
from pipelines.process import one_blas_thread
from recsys.client.exchange import KEEP_ALIVE

CANDIDATES = 100
_FIRST_RATE, _STEP = 20.0, 1.2
_REFUSED = 503


@dataclass
class Answers:
    """Seconds from when a request was due to its answer, by status. failed: requests without one."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    failed: int = 0

    def percentile(self, status: int, share: float) -> float:
        """Milliseconds; NaN where no answer has this status."""
        seconds = self.seconds.get(status, [])
        return 1000 * float(np.quantile(seconds, share)) if seconds else float("nan")

    def count(self, status: int) -> int:
        """Answers of a status."""
        return len(self.seconds.get(status, []))


def measure(quick: bool) -> list[Result]:
    """Latency of accepted and refused requests at 80% and at 200% of capacity."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    one_blas_thread()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        uri = trained_site(Path("site"), quick=quick)
        load_items(Path("site/items.parquet"), "store", uri)
        load_events(Path("site/events.parquet"), "store", uri)
        site = Site(uri, ids_of(Path("site"), "user_id"), ids_of(Path("site"), "item_id"))
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-1:])
        with ServerProcess(uri, "store") as server:
            os.sched_setaffinity(0, cores[:1])
            return overload(server.port, [site.ranking(CANDIDATES) for _ in range(200)], seconds=4 if quick else 15)


def overload(port: int, bodies: Sequence[bytes], *, seconds: float) -> list[Result]:
    """`measure` of a running server. seconds: of each rate."""
    asyncio.run(send_at(port, bodies, _FIRST_RATE, seconds))  # learns how long its stages take
    capacity, rate = 0.0, _FIRST_RATE
    while not (answers := asyncio.run(send_at(port, bodies, rate, seconds))).count(_REFUSED) and not answers.failed:
        capacity, rate = rate, _STEP * rate
    if not capacity:
        raise RuntimeError(f"expected {_FIRST_RATE:g} rankings a second without a refusal, got {answers}")
    below = asyncio.run(send_at(port, bodies, 0.8 * capacity, seconds))
    above = asyncio.run(send_at(port, bodies, 2 * capacity, seconds))
    normal, accepted = below.percentile(200, 0.99), above.percentile(200, 0.99)
    sent = above.count(200) + above.count(_REFUSED) + above.failed
    return [
        Result("capacity", capacity, f"rankings of {CANDIDATES} candidates a second, none refused"),
        Result("p50_at_80_percent", below.percentile(200, 0.5), "ms"),
        Result("p99_accepted_at_200_percent", accepted, "ms, beside p99 at 80%", normal, accepted / normal),
        Result("p99_refused_at_200_percent", above.percentile(_REFUSED, 0.99), "ms"),
        Result("refused_at_200_percent", above.count(_REFUSED) / sent, "share of requests"),
        Result("failed", below.failed + above.failed, "requests without an answer, or with another status"),
    ]


async def send_at(port: int, bodies: Sequence[bytes], rate: float, seconds: float) -> Answers:
    """Send rate * seconds requests, evenly, each over a connection that is free or new."""
    answers, idle = Answers(), list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]]()
    started = time.perf_counter()

    async def send(body: bytes, due: float) -> None:
        try:
            while idle and time.perf_counter() - idle[-1][0] > KEEP_ALIVE:
                idle.pop()[2].close()
            reader, writer = idle.pop()[1:] if idle else await asyncio.open_connection("127.0.0.1", port)
            status, stays = await asyncio.wait_for(_post(reader, writer, body), 30)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            answers.failed += 1
            return
        if status in (200, _REFUSED):
            answers.seconds.setdefault(status, []).append(time.perf_counter() - due)
        else:
            answers.failed += 1
        if stays:
            idle.append((time.perf_counter(), reader, writer))
        else:
            writer.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(send(bodies[number % len(bodies)], due))
    for _, _, writer in idle:
        writer.close()
    return answers


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[int, bool]:
    """The status of an answer that was read to its end, and whether the connection stays."""
    head = f"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    await reader.readexactly(length)
    return int(lines[0].split()[1]), "connection: close" not in lines


if __name__ == "__main__":
    command(measure)
