"""A batch on a Ray cluster of several nodes on this machine: the same bytes, also where a node dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_batch import expected, files_of
from toy_batch import INPUTS, TASKS, Counting

from features.errors import RecsysError
from recsys.batch.folder import batch_folder
from recsys.batch.ray_cluster import ATTEMPTS, RayActors, RayCluster, ray_cluster
from recsys.batch.run import RankedRows, write_partitions
from recsys.errors import WorkerDied

__all__ = ["expected"]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes, of one core each, whose processes find the modules of the tests."""
    from ray.cluster_utils import Cluster

    here = Path(__file__).parent
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent)]))
    options = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    yield cluster
    cluster.shutdown()
    patch.undo()


@pytest.fixture(scope="module")
def cluster(nodes: Any) -> Iterator[RayCluster]:
    with ray_cluster(nodes.address) as connected:
        yield connected


@dataclass(frozen=True)
class KillsOnce(Counting):
    """Ends the process of the first actor that has task 4. trace: a file that says that this was done."""

    trace: Path = Path()
    always: bool = False

    def __call__(self) -> KillsOnce:
        return self

    def ranked(self, task: int) -> Iterator[RankedRows]:
        if task == 4 and (self.always or not self.trace.exists()):
            self.trace.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().ranked(task)


def write(out: Path, cluster: RayCluster, scorer: Any, *, resume: bool = False) -> None:
    with batch_folder(out, resume=resume) as folder:
        folder.begin(INPUTS, started="now")
        write_partitions(folder, TASKS, RayActors(cluster, scorer, number=2, cpus=1))
        folder.publish(folder.manifest.totals())


def test_actors_write_the_same_bytes_and_one_that_dies_loses_nothing(
    cluster: RayCluster, expected: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path / "out", cluster, KillsOnce(trace=tmp_path / "trace"))
    assert (tmp_path / "trace").exists()
    assert files_of(tmp_path / "out") == expected
    assert not list(tmp_path.glob(".out*"))


def test_a_task_that_ends_every_actor_stops_the_batch_which_is_resumed(
    cluster: RayCluster, expected: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(WorkerDied, match=rf"{ATTEMPTS} actors of the cluster ended with partition 2.*--resume goes on"):
        write(tmp_path / "out", cluster, KillsOnce(trace=tmp_path / "trace", always=True))
    write(tmp_path / "out", cluster, Counting(), resume=True)
    assert files_of(tmp_path / "out") == expected


@dataclass(frozen=True)
class Failing(Counting):
    """Cannot score task 1."""

    def __call__(self) -> Failing:
        return self

    def ranked(self, task: int) -> Iterator[RankedRows]:
        if task == 1:
            raise RecsysError("task 1 cannot be scored")
        yield from super().ranked(task)


def test_an_error_of_an_actor_is_the_error_of_the_batch(cluster: RayCluster, tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match="task 1 cannot be scored"):
        write(tmp_path / "out", cluster, Failing())


def test_what_is_shared_arrives_in_an_actor(cluster: RayCluster) -> None:
    fetch = cluster.share((np.arange(1000), "text"))
    assert cluster.ray.get(cluster.ray.remote(_sum).remote(fetch)) == (499_500, "text")


def _sum(fetch: Callable[[], Any]) -> tuple[int, str]:
    numbers, text = fetch()
    return int(numbers.sum()), text


def test_a_node_that_is_killed_in_the_middle_loses_nothing(
    nodes: Any, cluster: RayCluster, expected: dict[str, Any], tmp_path: Path
) -> None:
    """The last one, since it takes a node away. Another takes its place, as a cluster does that scales."""
    node = nodes.add_node(num_cpus=1, object_store_memory=80_000_000)
    nodes.wait_for_nodes()
    with batch_folder(tmp_path / "out", resume=False) as folder:
        folder.begin(INPUTS, started="now")
        actors = RayActors(cluster, Counting(), number=3, cpus=1)
        done = []
        for number, _, written, counts in actors.written(iter(enumerate(TASKS)), folder.writer()):
            if not done:
                nodes.remove_node(node, allow_graceful=False)
            done.append(number)
            folder.add(number, written, counts)
        folder.publish(folder.manifest.totals())
    assert sorted(done) == list(range(len(TASKS)))
    assert files_of(tmp_path / "out") == expected
