"""Contrastive pre-training without labels: unsupervised SimCSE (Gao et al. 2021, 3).

Each text goes through the transformer twice with other dropout; each of the two vectors is to be nearest to the other
among those of the batch's other texts. That draws views of a text together and spreads different texts over the sphere.
Batches are of similar length, so that the length, which both views share, does not identify a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.arrays import Int64
from recsys.config import PretrainingConfig
from recsys.encoder.pretraining.texts import PretrainingTexts, cross_entropy_validation, shuffled_batches
from recsys.encoder.token_batches import pad_batch
from recsys.encoder.tower import TextTower, pool
from recsys.encoder.training.early_stopping import Validation
from recsys.encoder.training.torch_runtime import seeded
from recsys.errors import ModelError


@dataclass(eq=False)
class ContrastivePhase:
    """Trains the transformer's weights that require a gradient.

    seed: of the dropout in validation, the same each time. Raises ModelError for a transformer without dropout.
    """

    tower: TextTower
    texts: PretrainingTexts
    settings: PretrainingConfig
    seed: int
    name: ClassVar[str] = "contrastive"

    def __post_init__(self) -> None:
        self._texts_tokens = self.settings.contrastive_batch_tokens // 2
        self._require_dropout()

    @property
    def module(self) -> nn.Module:
        """The transformer."""
        transformer: nn.Module = self.tower.transformer
        return transformer

    @property
    def rates(self) -> list[tuple[nn.Module, float]]:
        """Modules with their learning rates."""
        return [(self.module, self.settings.contrastive_learning_rate)]

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every text once, in batches of similar length and random order; a text alone in its batch is left out."""
        batches = shuffled_batches(self.texts.tokens, examples, self._texts_tokens, generator)
        return [batch for batch in batches if len(batch) > 1]

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one step; the mean cross-entropy of finding the other view, in nats. Dropout is torch's."""
        loss = functional.cross_entropy(*self._similarities(index))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def validate(self) -> Validation:
        """The same of the held-out texts, and the share of them whose two views found each other."""
        self.module.train()
        with torch.no_grad(), seeded(self.seed, self.tower.device):
            batches = self.texts.held_out_batches(self._texts_tokens)
            return cross_entropy_validation(map(self._similarities, batches))

    def _similarities(self, index: Int64) -> tuple[Tensor, Tensor]:
        """Cosines of each text's first view to every text's second one, by the temperature, (n, n), and the targets."""
        ids, mask = pad_batch(self.texts.tokens, np.concatenate([index, index]), self.tower.pad_id, self.tower.device)
        first, second = pool(self.tower.hidden_states(ids, mask), mask, self.tower.pooling).chunk(2)
        return first @ second.T / self.settings.temperature, torch.arange(len(index), device=first.device)

    def _require_dropout(self) -> None:
        ids, mask = pad_batch(self.texts.tokens, self.texts.train[[0, 0]], self.tower.pad_id, self.tower.device)
        self.module.train()
        with torch.no_grad(), seeded(self.seed, self.tower.device):
            first, second = self.module(input_ids=ids, attention_mask=mask).last_hidden_state
        if torch.equal(first, second):
            raise ModelError(
                f"{type(self.module).__name__} has no dropout, so both views of a text would be equal; expected a "
                "dropout such as hidden_dropout_prob of 0.1: set it in the base model's config.json, or "
                "encoder.pretraining.contrastive_epochs=0"
            )
