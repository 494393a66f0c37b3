"""Settings of torch in training: attention kernel, deterministic algorithms, seeds, and memory."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def math_attention() -> AbstractContextManager[None]:
    """A context in which a transformer trains: plain products in place of fused attention.

    On the CPU the fused kernel is the faster one forward, but its way back in bfloat16 takes longer than the plain
    products at the lengths of item texts; on a GPU its way back adds in an order that changes. All compute the same to
    rounding.
    """
    return sdpa_kernel(SDPBackend.MATH)


@contextmanager
def deterministic() -> Iterator[None]:
    """A context, or decorator, in which gradients are added in one order, so that the same seed gives the same weights
    and a training that is resumed ends as if it had not stopped. Otherwise the gradient of an indexed tensor depends on
    which thread comes first, on CPUs too."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A context in which torch draws random numbers from a seed; afterwards its generators are as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def trim_malloc() -> None:
    """Return what the C library's allocator keeps for reuse; a no-op where it has no such call (it is glibc's).

    Tensors of all sizes leave holes that the next ones do not fit, so a training grows without it.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
