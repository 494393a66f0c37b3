"""Time that work takes: by the clock, and of the processor, which other work on the machine disturbs less."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and of all threads of this process together."""

    wall: float
    cpu: float


def time_of(work: Callable[[], object]) -> Spent:
    """What one call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def best_of(spent: list[Spent]) -> Spent:
    """The least of each: other work disturbs, and none speeds up."""
    return Spent(min(one.wall for one in spent), min(one.cpu for one in spent))
