"""The trained part of the tower: texts to unit vectors, with gradients, from the outputs of the frozen layers.

Each line of a text goes through the layers on its own, once for all texts of a batch that have it.

Where the transformer cannot be cut it is trained as a whole, from the tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Float32, Int64
from recsys.encoder.text import Tokens
from recsys.encoder.text_fields import concat_fields
from recsys.encoder.tower import TextTower, encoding_batches, length_batches, pad_batch, pool, tokens_per_batch
from recsys.encoder.training.layer_cache import FrozenLayerCache
from recsys.encoder.training.split_layers import split_transformer
from recsys.encoder.training.torch_runtime import math_attention

logger = logging.getLogger(__name__)
_TRAINED_TOKENS_PER_BATCH = 2048


class TrainableLayers:
    """Vectors of the texts of a data set from the trained layers of `tower`, whose weights are shared, not copied.

    tokens: of every distinct line. lines: (n_texts, k) the lines of each text. trained: the modules that training
    changes; their weights require gradients from here on. lower: what the frozen layers made of the lines, None where
    there are none.
    """

    def __init__(self, tower: TextTower, tokens: Tokens, lines: Int64, n_layers: int) -> None:
        self.tower = tower
        self._tokens = tokens
        self._lines = lines
        split = split_transformer(tower.transformer, n_layers)
        self._upper = tower.transformer if split is None else split.upper
        self.lower: FrozenLayerCache | None = None
        self.trained: nn.Module = tower.transformer if split is None else split.trained
        if split is None:
            logger.warning(
                "layers of %s cannot be told apart: all of them are trained", type(tower.transformer).__name__
            )
        else:
            self.lower = FrozenLayerCache(split.lower, tokens, tower.pad_id, tower.computes_in)
        self.trained.requires_grad_(requires_grad=True)

    def prepare(self, *, progress: Callable[[int], None] | None = None) -> Float32:
        """Run and keep the frozen layers; the vectors of all texts with the weights as they are, (n_texts, k * d).
        progress: called with the number of lines done after every batch."""
        if self.lower is not None:
            self.lower.fill(progress=progress)
        return self.encoded(np.arange(len(self._lines)))

    def encoded(self, index: Int64) -> Float32:
        """Vectors of some texts as the tower encodes them with the weights as they are, (len(index), k * d)."""
        if not self.tower.uses_int8:
            return self.frozen_vectors(index)
        read, place = np.unique(self._lines[index], return_inverse=True)
        found = self.tower.encode_tokens(self._tokens.take(read))
        self.tower.release()
        return concat_fields(found, place.reshape(len(index), self._lines.shape[1]))

    def frozen_vectors(self, index: Int64) -> Float32:
        """Vectors of some texts from what the lower layers made, in torch, with the weights as they are,
        (len(index), k * d)."""
        read, place = np.unique(self._lines[index], return_inverse=True)
        found = np.zeros((len(read), self.tower.dim), np.float32)
        self._upper.eval()
        with torch.no_grad():
            for batch in encoding_batches(self._tokens.padded_lengths()[read], tokens_per_batch(self.tower.device)):
                found[batch] = self._run(read[batch]).cpu().numpy()
        return concat_fields(found, place.reshape(len(index), self._lines.shape[1]))

    def vectors(self, index: Int64) -> Tensor:
        """Vectors of some texts with gradients, (len(index), k * d). No dropout: few steps, each of many lists."""
        self._upper.eval()
        read, place = np.unique(self._lines[index], return_inverse=True)
        batches = list(trained_batches(self._tokens.lengths()[read], self.tower.device))
        with math_attention():
            done = torch.cat([self._run(read[batch]) for batch in batches])
        return concat_fields(done, np.argsort(np.concatenate(batches))[place].reshape(len(index), self._lines.shape[1]))

    def _run(self, index: Int64) -> Tensor:
        with self.tower.arithmetic():
            if self.lower is None:
                ids, mask = pad_batch(self._tokens, index, self.tower.pad_id, self.tower.device)
                hidden = self._upper(input_ids=ids, attention_mask=mask).last_hidden_state
            else:
                states, mask = self.lower.padded(index)
                hidden = self._upper(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return pool(hidden, mask, self.tower.pooling)


def trained_batches(lengths: Int64, device: torch.device) -> Iterator[Int64]:
    """`length_batches` for layers that are trained."""
    return length_batches(lengths, tokens_per_batch(device, _TRAINED_TOKENS_PER_BATCH))
