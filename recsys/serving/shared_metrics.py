"""Metrics that several processes of one server share: each writes files of its own, any of them adds up all.

Owners are names, not process ids: a process that takes the place of another goes on with its files, so that counters
never fall and the folder does not grow. Gauges of a process that has ended are removed by `forget`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client looks for the folder."""
INFO = "recsys_model_info"


def share_metrics(folder: Path, owner: str) -> None:
    """Let all metrics that this process makes from now on be those of `owner` in a folder. owner: letters, digits and
    hyphens; no two running processes have the same."""
    os.environ[_FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: owner)  # type: ignore[no-untyped-call]


def are_shared() -> bool:
    """Whether this process shares its metrics."""
    return _FOLDER in os.environ


def forget(folder: Path, owner: str) -> None:
    """Remove what held only while a process ran, which has ended."""
    mark_process_dead(owner, str(folder))  # type: ignore[no-untyped-call]


def exposition(registry: CollectorRegistry) -> bytes:
    """Metrics in Prometheus' text format: those of a registry, or of all processes where they share theirs."""
    return generate_latest(_everything(registry))


def collected(registry: CollectorRegistry) -> Iterable[Metric]:
    """The same as values."""
    return _everything(registry).collect()


def _everything(registry: CollectorRegistry) -> CollectorRegistry:
    if not are_shared():
        return registry
    everything = CollectorRegistry()
    everything.register(_AllProcesses())
    return everything


class _AllProcesses(Collector):
    """What is collected from all processes, without versions that none of them serves any more: a file cannot drop a
    label."""

    def collect(self) -> Iterator[Metric]:
        for metric in MultiProcessCollector(None).collect():  # type: ignore[no-untyped-call]
            if metric.name == INFO:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


class ProcessMetrics:
    """Metrics of the processes themselves, kept by their parent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = Gauge(
            "recsys_processes",
            "Processes of `recsys serve --workers` that are ready, by kind: worker, refresher.",
            ("kind",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.restarts = Counter(
            "recsys_process_restarts",
            "Processes that took the place of one that had ended, by kind.",
            ("kind",),
            registry=registry,
        )
