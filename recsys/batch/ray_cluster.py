"""The partitions of a batch, written by actors of a Ray cluster: the same bytes as on one machine.

An actor opens the scorer once, the models among it, and gets one task at a time. One whose process or machine dies is
replaced, and its task is given to another: what it had written and the manifest does not list is written again.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from features.errors import RecsysError
from recsys.batch.run import Task, write_task
from recsys.errors import WorkerDied

if TYPE_CHECKING:
    from recsys.batch.run import PartitionScorer
    from recsys.batch.storage import PartitionWriter, Written

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Actors that may die with the same task: it is likely what kills them."""


@dataclass(frozen=True)
class RayCluster:
    """A cluster that this process is connected to. cpus: of all its nodes."""

    ray: Any
    cpus: int

    def share(self, value: object) -> Callable[[], Any]:
        """Put an object into the cluster's memory, once a node; what fetches it in an actor. Its arrays are
        read-only there."""
        return partial(_fetched, self.ray.put(value))


def _fetched(reference: Any) -> Any:
    import ray

    return ray.get(reference)


@contextmanager
def ray_cluster(address: str | None) -> Iterator[RayCluster]:
    """Connect to the cluster at an address, or start one on this machine where it is None, until the block ends.

    address: as `ray.init` takes it: HOST:PORT, ray://HOST:PORT or auto. Raises RecsysError where Ray is missing or does
    not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise RecsysError("--engine ray: Ray is not installed; pip install 'recsys[ray]'") from error
    options = {"log_to_driver": False, "logging_level": logging.WARNING}
    try:
        if address is None:
            ray.init("local", include_dashboard=False, **options)
        else:
            ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise RecsysError(
            f"--ray-address {address}: no Ray cluster can be used there: {' '.join(str(error).split())[:300]}"
        ) from error
    try:
        yield RayCluster(ray, max(1, int(ray.cluster_resources().get("CPU", 1))))
    finally:
        ray.shutdown()


class RayActors(Generic[Task]):
    """`Workers` of a cluster. scorer: opens what scores, once in each actor; it is pickled. number: of actors. cpus:
    that one of them takes."""

    def __init__(
        self, cluster: RayCluster, scorer: Callable[[], PartitionScorer[Task]], *, number: int, cpus: int
    ) -> None:
        self._ray, self._scorer, self._number = cluster.ray, scorer, number
        self._class = self._ray.remote(num_cpus=cpus, max_restarts=0, max_task_retries=0)(_PartitionActor)
        self._running: dict[Any, tuple[Any, tuple[int, Task] | None]] = {}
        self._died = Counter[int | None]()

    def written(
        self, todo: Iterator[tuple[int, Task]], writer: PartitionWriter
    ) -> Iterator[tuple[int, Task, Written, Counter[str]]]:
        """Each task as it is done; each actor has one. Raises WorkerDied where a task ends `ATTEMPTS` actors, and
        whatever a scorer raises."""
        again: deque[tuple[int, Task]] = deque()
        idle: list[Any] = []
        try:
            for _ in range(self._number):
                self._start(writer)
            while True:
                while idle and (following := again.popleft() if again else next(todo, None)) is not None:
                    actor = idle.pop()
                    self._running[actor.write.remote(*following)] = actor, following
                if idle and not any(task for _, task in self._running.values()):
                    return
                (done,), _ = self._ray.wait(list(self._running), num_returns=1)
                actor, task = self._running.pop(done)
                try:
                    result = self._ray.get(done)
                except self._ray.exceptions.RayActorError as error:
                    self._count_death(task, error)
                    again.extend([task] if task else [])
                    self._start(writer)
                    continue
                except self._ray.exceptions.RayTaskError as error:
                    raise error.as_instanceof_cause() from error
                idle.append(actor)
                if task is not None:
                    yield *task, *result
        finally:
            for actor in [*idle, *(actor for actor, _ in self._running.values())]:
                self._ray.kill(actor)
            self._running.clear()

    def _start(self, writer: PartitionWriter) -> None:
        """Ask for an actor, which the cluster may have no room for yet: the others go on meanwhile."""
        actor = self._class.remote()
        self._running[actor.open.remote(self._scorer, writer)] = actor, None

    def _count_death(self, task: tuple[int, Task] | None, error: Exception) -> None:
        number = None if task is None else task[0]
        self._died[number] += 1
        reason = " ".join(str(error).split())[:300]
        if self._died[number] >= ATTEMPTS:
            what = "before they had one" if number is None else f"with partition {number}"
            raise WorkerDied(
                f"{ATTEMPTS} actors of the cluster ended {what}, perhaps for want of memory: {reason}; use fewer "
                "--workers or smaller --batch-rows"
            ) from error
        logger.warning("warning: an actor of the cluster ended; its work is done again: %s", reason)


class _PartitionActor:
    """In the cluster: a scorer that is opened once."""

    def open(self, scorer: Callable[[], PartitionScorer[Any]], writer: PartitionWriter) -> None:
        """Open the scorer."""
        self._scorer, self._writer = scorer(), writer

    def write(self, number: int, task: Any) -> tuple[Written, Counter[str]]:
        """Write a partition."""
        return write_task(self._scorer, self._writer, number, task)
