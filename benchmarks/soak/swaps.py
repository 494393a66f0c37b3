"""Changes of the version while lists are ranked; a version whose files are damaged comes in between."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import mlflow

from benchmarks.server_process import ServerProcess
from recsys.registry.names import Version

CLIENTS = 3
_BROKEN_EVERY = 10
"""Of so many changes one is tried with a damaged version first."""
_SECONDS = 300


@dataclass(frozen=True)
class Swaps:
    """What a campaign found. swaps: changes that came to serve. refused: damaged versions that did not. answers: of
    each version. failed: requests without an answer of one of the versions, on the full rung."""

    swaps: int
    refused: int
    answers: dict[str, int]
    failed: list[str]
    slowest_seconds: float


def swap_under_load(
    server: ServerProcess, alias: str, versions: Sequence[Version], body: dict[str, Any], swaps: int
) -> Swaps:
    """Let an alias name one version after the other. alias: what the server follows; names the first version before
    and whichever was last after. body: of a request to rank.

    Raises RuntimeError where the server does not follow.
    """
    refused, slowest = 0, 0.0
    with _load(server, body, {str(version) for version in versions}) as (answers, failed):
        for number in range(1, swaps + 1):
            before, after = versions[(number - 1) % len(versions)], versions[number % len(versions)]
            if number % _BROKEN_EVERY == 1:
                with _damaged(after):
                    _point(alias, after)
                    _wait(server, lambda said, v=after: said.get("refused", {}).get("version") == str(v))  # type: ignore[misc]
                    _point(alias, before)
                    _wait(server, lambda said: "refused" not in said)
                refused += 1
            started = time.monotonic()
            _point(alias, after)
            _wait(server, lambda said, v=after: said["model"]["ranker"] == str(v))  # type: ignore[misc]
            slowest = max(slowest, time.monotonic() - started)
    return Swaps(swaps, refused, dict(answers), failed, slowest)


def _point(alias: str, version: Version) -> None:
    mlflow.MlflowClient().set_registered_model_alias(version.name, alias, version.number)


def _wait(server: ServerProcess, arrived: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    with httpx.Client(base_url=server.address, timeout=60) as client:
        while not arrived(said := client.get("/health/ready").json()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"expected a server that follows its alias within {_SECONDS} s, got {said}")
            time.sleep(0.02)


@contextmanager
def _damaged(version: Version) -> Iterator[None]:
    """The registered file of golden rows is not that of the version while the context lasts."""
    path = Path(mlflow.artifacts.download_artifacts(version.uri)) / "artifacts" / "unit" / "golden.json"
    content = path.read_bytes()
    path.write_bytes(b"{}")
    try:
        yield
    finally:
        path.write_bytes(content)


@contextmanager
def _load(server: ServerProcess, body: dict[str, Any], versions: set[str]) -> Iterator[tuple[Counter[str], list[str]]]:
    """Threads that rank, as long as the context lasts: answers by version, and what was not one."""
    answers, failed, stop = Counter[str](), list[str](), Event()

    def rank() -> None:
        with httpx.Client(base_url=server.address, timeout=60) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/rank", json=body, headers={"X-Budget-Ms": "0"})
                    said = answer.json()
                    if answer.status_code == httpx.codes.OK and said["model"]["ranker"] in versions:
                        answers[said["model"]["ranker"]] += 1
                    else:
                        failed.append(answer.text[:300])
                except (httpx.HTTPError, ValueError) as error:
                    failed.append(repr(error))

    threads = [Thread(target=rank) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield answers, failed
    finally:
        stop.set()
        for thread in threads:
            thread.join()
