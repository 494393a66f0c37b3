"""How long each stage of a command took, and how much memory the process has used at most."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Stopwatch:
    """Wall-clock seconds by stage, in the order in which stages ended; a stage that comes again adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block of work and log a line when it ends."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)
        log.info("%-10s %7.1f s", name, spent)


def peak_rss_mb() -> int:
    """The most memory that this process has held, in MiB."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset // 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (2**20 if sys.platform == "darwin" else 2**10))  # macOS counts bytes, Linux KiB
