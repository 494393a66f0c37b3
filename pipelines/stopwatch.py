"""The stages of a command as log messages, with their times and the peak memory of the process."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)


class Stopwatch:
    """Wall-clock seconds by stage, in the order in which stages ended; times of a repeated stage add up.

    stages: what each does, in a few words, in the order in which they run.
    """

    def __init__(self, stages: Mapping[str, str]) -> None:
        self.seconds: dict[str, float] = {}
        self._stages = stages

    def usage(self, run_id: str) -> RunUsage:
        """The time and memory used so far by the run of this id."""
        return RunUsage(self.seconds, peak_rss_mb(), run_id)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block of work, with a line of the log when it begins and one when it ends."""
        number = f"[{list(self._stages).index(name) + 1}/{len(self._stages)}]"
        log.info("%s %s: %s", number, name, self._stages[name])
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)
        log.info("%s %s done in %.1f s, %.1f s in all", number, name, spent, sum(self.seconds.values()))


@dataclass(frozen=True)
class RunUsage:
    """seconds: wall-clock time by stage. peak_rss_mb: the most memory, MiB. run_id: of the MLflow run."""

    seconds: Mapping[str, float]
    peak_rss_mb: int
    run_id: str

    def metrics(self) -> dict[str, float]:
        """For the run; their names come after those of what was measured."""
        stages = {f"usage.seconds.{name}": value for name, value in self.seconds.items()}
        return {**stages, "usage.seconds": sum(self.seconds.values()), "usage.peak_rss_mb": self.peak_rss_mb}

    def __str__(self) -> str:
        return f"{sum(self.seconds.values()):.0f} s with at most {self.peak_rss_mb} MB; run {self.run_id}"


def peak_rss_mb() -> int:
    """The most memory that this process has held, in MiB."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset // 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (2**20 if sys.platform == "darwin" else 2**10))  # macOS counts bytes, Linux KiB
