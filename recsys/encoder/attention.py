"""The attention kernel that a transformer is trained with.

PyTorch's fused attention is the fastest way forward, but on the CPU its backward pass in bfloat16 takes several times
that of the plain products at the lengths of item texts. So there the plain ones train; both compute the same.
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
