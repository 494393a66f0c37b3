"""The fine-tuning that a notebook would hold, to measure ours against: batches of lists through the whole transformer.

Every list's history and candidates are encoded from their tokens with gradients, either each text once for every time
that a list reads it, or each distinct text once for the whole batch. Loss, head, learning rates and how many layers are
trained are ours, so that only the way to the gradient differs.

It is written to be as fast as it can be without a cache: texts run in batches of similar length, next to nothing is
padding, and layers that are not trained keep nothing for the way back. Gradients list by list are added up over a few
lists at a time, since a whole batch would not fit a laptop's memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Int64
from recsys.config import EncoderConfig
from recsys.encoder.head import Head
from recsys.encoder.text import Tokens
from recsys.encoder.token_batches import pad_batch
from recsys.encoder.tower import TextTower, pool
from recsys.encoder.training.batches import Batch, batch_of, batch_scores, click_loss
from recsys.encoder.training.early_stopping import Validation
from recsys.encoder.training.examples import TrainingExamples
from recsys.encoder.training.split_layers import split_transformer
from recsys.encoder.training.upper_layers import trained_batches

LISTS_AT_ONCE = 4


@dataclass(eq=False)
class PlainFineTuning:
    """Trains the upper layers of `tower` under `head`, as ours; all of them where it cannot be cut.

    n_batches: of one pass over the examples. distinct: encode each distinct text of a batch once. The loss of a list by
    list pass is the mean over lists, so it needs a loss that is one: listwise.
    """

    head: Head
    tower: TextTower
    tokens: Tokens
    examples: TrainingExamples
    settings: EncoderConfig
    n_batches: int
    distinct: bool
    name: ClassVar[str] = "plain"

    def __post_init__(self) -> None:
        loss = self.settings.loss
        if loss != "listwise":
            raise ValueError(f"expected the loss 'listwise', got {loss!r}: that of a batch is no mean of its parts'")
        self.module: nn.Module = split_transformer(self.tower.transformer, self.settings.fine_tune_layers).trained
        self.module.requires_grad_(requires_grad=True)
        self.head.requires_grad_(requires_grad=False)

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every example once, in random batches; negatives drawn again."""
        everything = np.arange(len(self.examples))
        self._candidates = self.examples.candidates(everything, self.settings.negatives, generator)
        return np.array_split(generator.permutation(examples), self.n_batches)

    def validate(self) -> Validation:
        """It is not validated while it trains."""
        raise NotImplementedError

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one batch of examples; its loss."""
        parts = [index] if self.distinct else np.array_split(index, -(-len(index) // LISTS_AT_ONCE))
        total = 0.0
        for part in parts:
            impressions = self.examples.impression[part]
            batch = batch_of(self.examples.impressions, impressions, self._candidates[part], self.tower.device)
            batch = batch if self.distinct else with_repeats(batch)
            projected = self.head.project(self._vectors(batch.texts))
            scores = batch_scores(self.head, projected, batch)
            loss = click_loss(scores, self.settings.loss) * (len(part) / len(index))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    def _vectors(self, index: Int64) -> Tensor:
        """Vectors of some texts with gradients, from their tokens through all layers, (len(index), d)."""
        self.tower.transformer.eval()
        batches = list(trained_batches(self.tokens.lengths()[index], self.tower.device))
        vectors = []
        for batch in batches:
            ids, mask = pad_batch(self.tokens, index[batch], self.tower.pad_id, self.tower.device)
            vectors.append(pool(self.tower.hidden_states(ids, mask), mask, self.tower.pooling))
        return torch.cat(vectors)[torch.from_numpy(np.argsort(np.concatenate(batches))).to(self.tower.device)]


def with_repeats(batch: Batch) -> Batch:
    """The same batch over one text for each time that a list reads one, in place of the distinct texts."""
    parts = [batch.history, batch.candidates, *([] if batch.query is None else [batch.query])]
    texts, positions, n = [], [], 0
    for part in parts:
        is_text = part >= 0
        texts.append(batch.texts[part[is_text].cpu().numpy()])
        position = torch.cumsum(is_text.view(-1), 0).view(part.shape) - 1 + n
        positions.append(position.masked_fill(~is_text, -1))
        n += len(texts[-1])
    return Batch(np.concatenate(texts), positions[0], positions[1], None if batch.query is None else positions[2])
