"""The attention kernel that a transformer is trained with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def trained_attention(device: torch.device) -> AbstractContextManager[None]:
    """A context in which a transformer trains: on the CPU, plain products in place of fused attention.

    The fused kernel is the faster one forward, but its way back in bfloat16 takes longer than the plain products at the
    lengths of item texts. Both compute the same to rounding.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
