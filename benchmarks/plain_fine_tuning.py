"""The fine-tuning that a notebook would hold, to measure ours against: batches of lists through the whole transformer.

Every list's history and candidates are encoded from their tokens with gradients, either each text once for every time
that a list reads it, or each distinct text once for the whole batch. Loss, head, learning rates and how many layers are
trained are ours, so that only the way to the gradient differs.

It is written to be as fast as it can be without a cache: texts run in batches of like length, next to nothing is
padding, and layers that are not trained keep nothing for the way back. What is encoded list by list is added up over a
few lists at a time, since a whole batch would not fit a laptop's memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Int64
from recsys.encoder.head import Head
from recsys.encoder.text import Tokens
from recsys.encoder.tower import TextTower, pad_batch, pool
from recsys.encoder.training.batches import Batch, Loss, batch_of, batch_scores, click_loss
from recsys.encoder.training.examples import TrainingExamples
from recsys.encoder.training.split_layers import split_transformer
from recsys.encoder.training.upper_layers import trained_batches

LISTS_AT_ONCE = 4


class PlainFineTuning:
    """Trains the upper `n_layers` of `tower` under `head`, as ours; all of them where it cannot be cut.

    n_batches: of one pass over the examples. distinct: encode each distinct text of a batch once. The loss of a list by
    list pass is the mean over lists, so it needs a loss that is one: listwise.
    """

    def __init__(
        self,
        head: Head,
        tower: TextTower,
        tokens: Tokens,
        examples: TrainingExamples,
        *,
        n_layers: int,
        n_batches: int,
        negatives: int,
        loss: Loss = "listwise",
        distinct: bool,
    ) -> None:
        if loss != "listwise":
            raise ValueError(f"expected the loss 'listwise', got {loss!r}: that of a batch is no mean of its parts'")
        split = split_transformer(tower.transformer, n_layers)
        self.trained: nn.Module = tower.transformer if split is None else split.trained
        self.trained.requires_grad_(requires_grad=True)
        self.module: nn.Module = self.trained
        self._head = head.requires_grad_(requires_grad=False)
        self._tower = tower
        self._tokens = tokens
        self._examples = examples
        self._n_batches = n_batches
        self._negatives = negatives
        self._loss: Loss = loss
        self._distinct = distinct
        self._candidates: Int64 = np.zeros((0, 0), np.int64)

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every example once, in random batches; negatives drawn anew."""
        self._candidates = self._examples.candidates(np.arange(len(self._examples)), self._negatives, generator)
        return np.array_split(generator.permutation(examples), self._n_batches)

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one batch of examples; its loss."""
        parts = [index] if self._distinct else np.array_split(index, -(-len(index) // LISTS_AT_ONCE))
        total = 0.0
        for part in parts:
            batch = batch_of(
                self._examples.lists, self._examples.of_list[part], self._candidates[part], self._tower.device
            )
            if not self._distinct:
                batch = with_repeats(batch)
            mapped = self._head.mapped(self._vectors(batch.texts))
            loss = click_loss(batch_scores(self._head, mapped, batch), self._loss) * (len(part) / len(index))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    def _vectors(self, index: Int64) -> Tensor:
        """Vectors of some texts with gradients, from their tokens through all layers, (len(index), d)."""
        self._tower.transformer.eval()
        batches = list(trained_batches(self._tokens.lengths()[index], self._tower.device))
        done = []
        for batch in batches:
            ids, mask = pad_batch(self._tokens, index[batch], self._tower.pad_id, self._tower.device)
            with self._tower.arithmetic():
                hidden = self._tower.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
            done.append(pool(hidden, mask, self._tower.pooling))
        return torch.cat(done)[torch.from_numpy(np.argsort(np.concatenate(batches))).to(self._tower.device)]


def with_repeats(batch: Batch) -> Batch:
    """The same batch over one text for each time that a list reads one, in place of the distinct texts."""
    parts = [batch.history, batch.candidates, *([] if batch.query is None else [batch.query])]
    texts, found, begun = [], [], 0
    for part in parts:
        there = part >= 0
        texts.append(batch.texts[part[there].cpu().numpy()])
        place = torch.cumsum(there.view(-1), 0).view(part.shape) - 1 + begun
        found.append(place.masked_fill(~there, -1))
        begun += len(texts[-1])
    return Batch(np.concatenate(texts), found[0], found[1], None if batch.query is None else found[2])
