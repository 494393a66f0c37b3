"""The trained part of the tower: texts to unit vectors, with gradients, from the outputs of the frozen layers.

Each line of a text goes through the layers on its own, once for all texts of a batch that have it. Where the
transformer cannot be cut it is trained as a whole, from the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Float32, Int64
from recsys.encoder.dtype import autocast
from recsys.encoder.text import Tokens
from recsys.encoder.text_fields import Vectors, concat_fields
from recsys.encoder.token_batches import encoding_batches, length_batches, pad_batch, tokens_per_batch
from recsys.encoder.tower import TextTower, pool
from recsys.encoder.training.layer_cache import FrozenLayerCache
from recsys.encoder.training.split_layers import split_transformer
from recsys.encoder.training.torch_runtime import math_attention

_TRAINED_TOKENS_PER_BATCH = 2048


class TrainableLayers:
    """Vectors of the texts of a data set from the trained layers of `tower`, whose weights are shared, not copied.

    tokens: of every distinct line. lines: (n_texts, k) the lines of each text. trained: the modules that training
    changes; their weights require gradients from here on. lower: what the frozen layers computed of the lines, None
    where there are none.
    """

    def __init__(self, tower: TextTower, tokens: Tokens, lines: Int64, n_layers: int) -> None:
        self.tower = tower
        self._tokens = tokens
        self._lines = lines
        split = split_transformer(tower.transformer, n_layers)
        self._upper = split.upper
        self.trained: nn.Module = split.trained
        self.lower: FrozenLayerCache | None = None
        if split.lower is not None:
            self.lower = FrozenLayerCache(split.lower, tokens, tower.pad_id, tower.computes_in)
        self.trained.requires_grad_(requires_grad=True)

    def prepare(self, *, progress: Callable[[int], None] | None = None) -> Float32:
        """Run the frozen layers and store their outputs; the vectors of all texts with the present weights,
        (n_texts, k * d). progress: called with the number of lines done after every batch."""
        if self.lower is not None:
            self.lower.fill(progress=progress)
        return self.encoded(np.arange(len(self._lines)))

    def encoded(self, index: Int64) -> Float32:
        """Vectors of some texts as the tower encodes them with the present weights, (len(index), k * d)."""
        if not self.tower.uses_int8:
            return self.torch_vectors(index)
        vectors = self._of_texts(index, lambda lines: self.tower.encode_tokens(self._tokens.take(lines)))
        self.tower.release()
        return vectors

    def torch_vectors(self, index: Int64) -> Float32:
        """Vectors of some texts from the stored outputs of the lower layers, in torch, with the present weights,
        (len(index), k * d)."""
        return self._of_texts(index, self._without_gradients)

    def vectors(self, index: Int64) -> Tensor:
        """Vectors of some texts with gradients, (len(index), k * d). No dropout: few steps, each of many examples."""
        return self._of_texts(index, self._with_gradients)

    def _of_texts(self, index: Int64, encode: Callable[[Int64], Vectors]) -> Vectors:
        """Vectors of some texts, of which `encode` gives those of distinct lines."""
        lines, position = np.unique(self._lines[index], return_inverse=True)
        return concat_fields(encode(lines), position.reshape(len(index), self._lines.shape[1]))

    def _without_gradients(self, lines: Int64) -> Float32:
        vectors = np.zeros((len(lines), self.tower.dim), np.float32)
        self._upper.eval()
        with torch.no_grad():
            for batch in encoding_batches(self._tokens.padded_lengths()[lines], tokens_per_batch(self.tower.device)):
                vectors[batch] = self._run(lines[batch]).cpu().numpy()
        return vectors

    def _with_gradients(self, lines: Int64) -> Tensor:
        self._upper.eval()
        batches = list(trained_batches(self._tokens.lengths()[lines], self.tower.device))
        with math_attention():
            vectors = torch.cat([self._run(lines[batch]) for batch in batches])
        return vectors[np.argsort(np.concatenate(batches))]

    def _run(self, lines: Int64) -> Tensor:
        tower = self.tower
        with autocast(tower.computes_in, tower.device):
            if self.lower is None:
                ids, mask = pad_batch(self._tokens, lines, tower.pad_id, tower.device)
                hidden = self._upper(input_ids=ids, attention_mask=mask).last_hidden_state
            else:
                states, mask = self.lower.get_padded(lines)
                hidden = self._upper(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return pool(hidden, mask, tower.pooling)


def trained_batches(lengths: Int64, device: torch.device) -> Iterator[Int64]:
    """`length_batches` for layers that are trained."""
    return length_batches(lengths, tokens_per_batch(device, _TRAINED_TOKENS_PER_BATCH))
