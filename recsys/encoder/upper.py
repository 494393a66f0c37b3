"""The trained part of the tower: texts to unit vectors, with gradients, from the outputs of the frozen layers.

Where the transformer cannot be cut it is trained as a whole, from the tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from features.log import Float32, Int64
from recsys.encoder.activations import LowerActivations
from recsys.encoder.attention import trained_attention
from recsys.encoder.split import split_transformer
from recsys.encoder.text import Tokens
from recsys.encoder.tower import TOKENS_PER_BATCH, Tower, length_batches, pad_batch, pool

logger = logging.getLogger(__name__)
TRAINED_TOKENS_PER_BATCH = 2048


class UpperTower:
    """Vectors of the texts of a data set from the trained layers of `tower`, whose weights are shared, not copied.

    trained: the modules that training changes; their weights require gradients from here on. lower: what the frozen
    layers made of the texts, None where there are none.
    """

    def __init__(self, tower: Tower, tokens: Tokens, n_layers: int) -> None:
        self.tower = tower
        self._tokens = tokens
        split = split_transformer(tower.transformer, n_layers)
        self._upper = tower.transformer if split is None else split.upper
        self.lower: LowerActivations | None = None
        self.trained: nn.Module = tower.transformer if split is None else split.trained
        if split is None:
            logger.warning(
                "layers of %s cannot be told apart: all of them are trained", type(tower.transformer).__name__
            )
        else:
            self.lower = LowerActivations(split.lower, tokens, tower.pad_id, tower.dtype)
        self.trained.requires_grad_(requires_grad=True)

    def prepare(self, *, progress: Callable[[int], None] | None = None) -> Float32:
        """Run and keep the frozen layers; the vectors of all texts with the weights as they are, (n_texts, d)."""
        if self.lower is not None:
            self.lower.fill(progress=progress)
        return self.frozen_vectors(np.arange(len(self._tokens)))

    def frozen_vectors(self, index: Int64) -> Float32:
        """Vectors of some texts with the weights as they are, (len(index), d)."""
        found = np.zeros((len(index), self.tower.transformer.config.hidden_size), np.float32)
        self._upper.eval()
        with torch.no_grad():
            for batch in length_batches(self._tokens.lengths()[index], TOKENS_PER_BATCH):
                found[batch] = self._run(index[batch]).cpu().numpy()
        return found

    def vectors(self, index: Int64) -> Tensor:
        """Vectors of some texts with gradients, (len(index), d). No dropout: few steps, each of many lists."""
        self._upper.eval()
        batches = list(length_batches(self._tokens.lengths()[index], TRAINED_TOKENS_PER_BATCH))
        with trained_attention(self.tower.device):
            done = torch.cat([self._run(index[batch]) for batch in batches])
        return done[torch.from_numpy(np.argsort(np.concatenate(batches)))]

    def _run(self, index: Int64) -> Tensor:
        with self.tower.arithmetic():
            if self.lower is None:
                ids, mask = pad_batch(self._tokens, index, self.tower.pad_id, self.tower.device)
                hidden = self._upper(input_ids=ids, attention_mask=mask).last_hidden_state
            else:
                states, mask = self.lower.padded(index)
                hidden = self._upper(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return pool(hidden, mask, self.tower.pooling)
