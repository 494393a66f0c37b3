"""The attention kernel that a transformer is trained with.

PyTorch's fused attention (flash, on the CPU) is the fastest way forward, but its backward pass in bfloat16 takes several
times that of the plain products at the lengths of item texts. So on a CPU the plain ones train; both compute the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel


@contextmanager
def trained_attention(transformer: PreTrainedModel) -> Iterator[None]:
    """Plain attention while a transformer on the CPU trains; what it had before comes back afterwards."""
    before = transformer.config._attn_implementation
    if transformer.device.type != "cpu" or before != "sdpa":
        yield
        return
    transformer.set_attn_implementation("eager")
    try:
        yield
    finally:
        transformer.set_attn_implementation(before)
