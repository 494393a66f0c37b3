"""Time on a device, its rate of matrix products, and how much of it encoding and fine-tuning reach.

The product is timed beside the work, again and again, and its median counts, so that what else the machine does slows
both. bf16 is measured only where the hardware computes in it: emulated, one product takes minutes.

Of a transformer the products of its layers are counted, for the tokens that a text has and not for padding: in each
layer 8 d^2 + 4 d f for the projections and the two products of the feed-forward part, and 4 t d for attention over t
tokens. Training a layer is three times that: forward, and the gradients of inputs and of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from transformers import PretrainedConfig

from benchmarks.report import Result
from benchmarks.spent import time_of
from features.arrays import Int64
from recsys.encoder.dtype import has_bfloat16

_SIDE = {"cpu": 1536, "cuda": 8192}
_PRODUCTS = 3


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, to its end on the device."""

    def whole() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return time_of(whole).wall


def number_formats(device: torch.device) -> dict[str, torch.dtype]:
    """The number formats whose products a device computes in hardware, by the names that results have."""
    fast = {"bf16": torch.bfloat16} if has_bfloat16(device) else {}
    return {**fast, "fp32": torch.float32}


class MatrixGauge:
    """Square matrix products on a device. seconds: of each measurement, by number format.

    formats: as of `number_formats`; without any it measures nothing.
    """

    def __init__(self, device: torch.device, formats: Mapping[str, torch.dtype]) -> None:
        self._device = device
        self._side = _SIDE.get(device.type, 4096)
        shape = (self._side, self._side)
        self._matrices = {name: torch.randn(shape, device=device).to(dtype) for name, dtype in formats.items()}
        self.seconds: dict[str, list[float]] = {name: [] for name in formats}
        self.measure()
        self.seconds = {name: [] for name in formats}

    def measure(self) -> None:
        """A few products of each format."""
        for name, matrix in self._matrices.items():
            self.seconds[name].append(timed(lambda matrix=matrix: _multiply(matrix), self._device))  # type: ignore[misc]

    def rate(self, name: str) -> float:
        """Floating-point operations a second, by the median."""
        return float(_PRODUCTS * 2 * self._side**3 / np.median(self.seconds[name]))

    def shares(self, name: str, operations: float, tokens: float) -> list[Result]:
        """Shares of the measured rates that work reaches, a line for each format. operations, tokens: a second."""
        ranking_model = f"GFLOP/s of layers, {tokens:,.0f} tokens/s"
        return [
            Result(f"{name}_share_of_{kind}_rate", operations / 1e9, ranking_model, rate / 1e9, operations / rate)
            for kind, rate in ((kind, self.rate(kind)) for kind in self.seconds)
        ]

    def results(self) -> list[Result]:
        """The device and its rates."""
        is_gpu = self._device.type != "cpu"
        name = torch.cuda.get_device_name(self._device) if is_gpu else "CPU"
        gpus = Result("gpus", torch.cuda.device_count(), "" if is_gpu else "no GPU here: what follows is of the CPU")
        return [gpus] + [
            Result(f"matrix_rate_{kind}", self.rate(kind) / 1e9, f"GFLOP/s, {name}, beside steps")
            for kind in self.seconds
        ]


def forward_operations(config: PretrainedConfig, n_layers: int, lengths: Int64) -> float:
    """Operations of `n_layers` layers over texts of these numbers of tokens."""
    d, f = config.hidden_size, config.intermediate_size
    return float(n_layers * (lengths * (8 * d * d + 4 * d * f + 4 * lengths * d)).sum())


def _multiply(matrix: torch.Tensor) -> None:
    with torch.inference_mode():
        for _ in range(_PRODUCTS):
            matrix @ matrix
