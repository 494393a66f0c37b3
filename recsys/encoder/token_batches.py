"""Batches of tokenised texts: which texts go through a transformer together, and their padded token ids."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from features.arrays import Int64
from recsys.encoder.text import Tokens

_CPU_TOKENS_PER_BATCH = 4096
_GPU_TOKENS_PER_BATCH = 32768


def tokens_per_batch(device: torch.device, on_cpu: int = _CPU_TOKENS_PER_BATCH) -> int:
    """Most tokens of a batch: few enough for a CPU's caches, many enough that a GPU does not wait for its next work."""
    return _GPU_TOKENS_PER_BATCH if device.type == "cuda" else on_cpu


def encoding_batches(padded_lengths: Int64, most_tokens: int) -> Iterator[Int64]:
    """Positions of texts in batches of one padded length each, shortest first.

    A batch has at most `most_tokens` tokens, or one text.
    """
    for length in np.unique(padded_lengths):
        same_length = np.flatnonzero(padded_lengths == length)
        size = max(1, most_tokens // max(1, int(length)))
        for start in range(0, len(same_length), size):
            yield same_length[start : start + size]


def length_batches(lengths: Int64, most_tokens: int) -> Iterator[Int64]:
    """Positions of texts in batches of similar length, shortest first.

    Padded, a batch has at most `most_tokens` tokens, or one text.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - start) <= most_tokens:
            end += 1
        yield order[start:end]
        start = end


def pad_batch(tokens: Tokens, index: Int64, pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask of the texts `index`, (n, t) each, int64."""
    chosen, is_token = tokens.take(index), tokens.mask(index)
    ids = np.full(is_token.shape, pad_id, np.int64)
    ids[is_token] = chosen.ids
    return torch.from_numpy(ids).to(device), torch.from_numpy(is_token.astype(np.int64)).to(device)
