"""Outputs of the frozen lower layers, computed once for each distinct text and stored: in memory, or on disk if large.

Without padding: the tokens of all texts stand one after the other, as float32, so that vectors made of them are those
of the whole model. Texts beyond the budget are computed again whenever they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from features.arrays import Int64
from recsys.encoder.dtype import Dtype, autocast
from recsys.encoder.snapshots import zeros_or_spilled
from recsys.encoder.text import Tokens
from recsys.encoder.token_batches import encoding_batches, pad_batch, tokens_per_batch

MEMORY_BYTES = 768 * 2**20
DISK_BYTES = 16 * 2**30


@dataclass(eq=False)
class FrozenLayerCache:
    """Hidden states below the trained layers, of the texts of a data set.

    memory_bytes, disk_bytes: up to the first they are stored in memory, up to the second in an unnamed temporary file;
    what exceeds both is not stored. n_stored: how many texts, from the first, are stored.
    """

    lower: PreTrainedModel
    tokens: Tokens
    pad_id: int
    dtype: Dtype
    memory_bytes: int = MEMORY_BYTES
    disk_bytes: int = DISK_BYTES

    def __post_init__(self) -> None:
        self.lower.eval()
        width = self.lower.config.hidden_size
        budget = max(self.memory_bytes, self.disk_bytes) // (4 * width)
        self.n_stored = int(np.searchsorted(self.tokens.offsets, budget, side="right")) - 1
        self._states = zeros_or_spilled((int(self.tokens.offsets[self.n_stored]), width), self.memory_bytes)

    def fill(self, *, progress: Callable[[int], None] | None = None) -> None:
        """Compute what is stored; `progress` is called with the number of texts done after every batch."""
        lengths = self.tokens.padded_lengths()
        for index in encoding_batches(lengths[: self.n_stored], tokens_per_batch(self.lower.device)):
            hidden, mask = self._compute(index)
            self._states[self._positions(index)] = hidden[mask.bool()].cpu().numpy()
            if progress is not None:
                progress(len(index))

    def get_padded(self, index: Int64) -> tuple[Tensor, Tensor]:
        """Hidden states (n, t, d) and mask (n, t) of some texts."""
        if len(index) and index.max() >= self.n_stored:
            return self._compute(index)
        mask = self.tokens.mask(index)
        hidden = np.zeros((*mask.shape, self._states.shape[1]), np.float32)
        hidden[mask] = self._states[self._positions(index)]
        device = self.lower.device
        return torch.from_numpy(hidden).to(device), torch.from_numpy(mask.astype(np.int64)).to(device)

    def _compute(self, index: Int64) -> tuple[Tensor, Tensor]:
        ids, mask = pad_batch(self.tokens, index, self.pad_id, self.lower.device)
        with torch.no_grad(), autocast(self.dtype, self.lower.device):
            hidden = self.lower(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden.float(), mask

    def _positions(self, index: Int64) -> Int64:
        """Rows of `_states` of the tokens of some texts."""
        offsets = self.tokens.offsets
        return np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in index])
