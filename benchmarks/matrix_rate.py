"""Time on a device, and the rate at which it multiplies large matrices: what other work is measured against.

The product is timed beside the work, again and again, and its median counts, so that what else the machine does slows
both alike. bfloat16 is measured only where the hardware multiplies it: emulated, one product takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.spent import time_of
from recsys.encoder.tower import has_bfloat16

_KINDS = {"bf16": torch.bfloat16, "fp32": torch.float32}
_SIDE = {"cpu": 1536, "cuda": 8192}
_PRODUCTS = 3


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, to its end on the device."""

    def whole() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return time_of(whole).wall


class MatrixGauge:
    """Square matrix products on a device. seconds: of some products, for each kind of number that the device
    multiplies, as often as measured."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = _SIDE.get(device.type, 4096)
        shape = (self._side, self._side)
        kinds = {name: kind for name, kind in _KINDS.items() if name != "bf16" or has_bfloat16(device)}
        self._matrices = {name: torch.randn(shape, device=device).to(kind) for name, kind in kinds.items()}
        self.seconds: dict[str, list[float]] = {name: [] for name in kinds}
        self.measure()
        for spent in self.seconds.values():
            spent.clear()

    def measure(self) -> None:
        """A few products of each kind."""
        with torch.inference_mode():
            for name, matrix in self._matrices.items():
                self.seconds[name].append(timed(partial(_multiply, matrix), self._device))

    def rate(self, name: str) -> float:
        """Floating-point operations a second, by the median."""
        return float(_PRODUCTS * 2 * self._side**3 / np.median(self.seconds[name]))


def _multiply(matrix: torch.Tensor) -> None:
    for _ in range(_PRODUCTS):
        matrix @ matrix
