"""Training of the upper layers under a frozen head, by blocks of texts.

A step takes a block of texts, runs them through the upper layers with gradients, and trains on every example that shows
one of them; the other vectors of those examples and of their histories come from a bank of the latest ones. So each
text that is run gets the gradient of many examples, where a batch of impressions would run as many texts for few
examples. The bank takes the block's vectors at every step and is computed again, for all texts that are used, at every
validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Float32, Int64
from recsys.config import EncoderConfig
from recsys.encoder.head import Head
from recsys.encoder.training.batches import Batch, batch_of, batch_scores, click_loss, loss_count, validate_head
from recsys.encoder.training.early_stopping import Validation
from recsys.encoder.training.examples import TextImpressions, TrainingExamples
from recsys.encoder.training.torch_runtime import trim_malloc
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.encoder.training.weights import trainable_parameters

EXAMPLES_PER_STEP = 2048
"""Most examples that a step trains on; a random part of those that show its texts where there are more."""
EXAMPLES_AT_ONCE = 256
"""Examples whose histories are in memory together."""


@dataclass(eq=False)
class FineTunePhase:
    """Trains the upper layers.

    vectors: (n_texts, d), the bank; it is written to. used_texts: the rows of it that anything reads, sorted.
    """

    head: Head
    layers: TrainableLayers
    vectors: Tensor
    used_texts: Int64
    examples: TrainingExamples
    validation: TextImpressions
    settings: EncoderConfig
    name: ClassVar[str] = "fine_tune"

    def __post_init__(self) -> None:
        self._weights = list(trainable_parameters(self.module).values())
        self._bank_is_stale = self.encodes_otherwise

    @property
    def module(self) -> nn.Module:
        """The trained layers."""
        return self.layers.trained

    @property
    def encodes_otherwise(self) -> bool:
        """Whether texts are encoded in other arithmetic than the layers are trained in."""
        return self.layers.tower.uses_int8

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every candidate text of the examples once, in random blocks; negatives are drawn again each time."""
        self._drawn = examples
        self._candidates = self.examples.candidates(examples, self.settings.negatives, generator)
        flat = self._candidates.ravel()
        self._order = np.argsort(flat, kind="stable")
        self._starts = np.searchsorted(flat[self._order], np.arange(len(self.vectors) + 1))
        texts = generator.permutation(np.unique(flat[flat >= 0]))
        n_blocks = max(1, round(len(texts) / self.settings.fine_tune_block_size))
        return np.array_split(texts, n_blocks) if len(texts) else []

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one block of texts; the loss of the examples that show them. Nothing of the head is dropped."""
        trim_malloc()
        self.head.eval()
        rows = self._examples_of(index, generator)
        examples = self._drawn[rows]
        impressions = self.examples.impression[examples]
        batch = batch_of(self.examples.impressions, impressions, self._candidates[rows], self.vectors.device)
        texts = np.sort(index)
        fresh = self.layers.vectors(texts)
        self._bank_is_stale = True
        self.vectors[torch.from_numpy(texts)] = fresh.detach()
        used = np.isin(texts, batch.texts)
        with torch.no_grad():
            projected = self.head.project(self.vectors[torch.from_numpy(batch.texts)])
        positions = torch.from_numpy(np.searchsorted(batch.texts, texts[used])).to(projected.device)
        projected = projected.index_copy(0, positions, self.head.project(fresh[torch.from_numpy(used)]))
        weight = torch.from_numpy(self.examples.weight[examples]).to(projected.device)
        loss, gradient = self._loss_and_gradient(projected.detach(), batch, weight)
        projected.backward(gradient, inputs=self._weights)  # type: ignore[no-untyped-call]
        return loss

    def _examples_of(self, texts: Int64, generator: np.random.Generator) -> Int64:
        """Rows of the drawn examples that show one of some texts, at most `EXAMPLES_PER_STEP`."""
        cells = np.concatenate([self._order[self._starts[text] : self._starts[text + 1]] for text in texts])
        rows = np.unique(cells // self._candidates.shape[1])
        if len(rows) <= EXAMPLES_PER_STEP:
            return rows
        return generator.choice(rows, EXAMPLES_PER_STEP, replace=False)

    def _loss_and_gradient(self, projected: Tensor, batch: Batch, weight: Tensor) -> tuple[float, Tensor]:
        """The loss of a batch and its gradient with respect to the vectors of its texts, (m, d), some examples at once:
        the histories of all of them would take gigabytes."""
        loss_name = self.settings.loss
        projected.requires_grad_()
        count = loss_count(batch, loss_name, weight)
        total = 0.0
        for start in range(0, len(batch), EXAMPLES_AT_ONCE):
            rows = slice(start, start + EXAMPLES_AT_ONCE)
            sub_batch = batch.part(rows)
            share = loss_count(sub_batch, loss_name, weight[rows]) / count
            loss = share * click_loss(batch_scores(self.head, projected, sub_batch), loss_name, weight[rows])
            loss.backward(inputs=[projected])  # type: ignore[no-untyped-call]
            total += loss.item()
        assert projected.grad is not None
        return total, projected.grad

    def validate(self) -> Validation:
        """nDCG@10 of the validation impressions with every vector computed again."""
        if self._bank_is_stale:
            self.refresh()
        return validate_head(self.head, self.vectors, self.validation)

    def refresh(self) -> None:
        """Compute the vectors that anything reads with the present weights, as training does."""
        self._fill_bank(self.layers.torch_vectors(self.used_texts), is_stale=False)

    def encode(self) -> None:
        """Compute them as the tower encodes texts: what the head sees from here on is what new texts get."""
        self._fill_bank(self.layers.encoded(self.used_texts), is_stale=self.encodes_otherwise)

    def _fill_bank(self, vectors: Float32, *, is_stale: bool) -> None:
        self._bank_is_stale = is_stale
        self.vectors[torch.from_numpy(self.used_texts)] = torch.from_numpy(vectors).to(self.vectors.device)
