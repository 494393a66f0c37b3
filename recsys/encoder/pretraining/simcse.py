"""Contrastive pre-training without labels: unsupervised SimCSE (Gao et al. 2021, 3).

Each text goes through the transformer twice with other dropout; each of the two vectors is to be nearest to the other
among those of the batch's other texts. That draws views of a text together and spreads different texts over the sphere.
Batches are of similar length, so that length, which any two views share, tells nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.arrays import Int64
from recsys.config import PretrainingConfig
from recsys.encoder.pretraining.texts import PretrainingTexts, cross_entropy_validation, shuffled_batches
from recsys.encoder.token_batches import length_batches, pad_batch
from recsys.encoder.tower import TextTower, pool
from recsys.encoder.training.early_stopping import Validation
from recsys.errors import ModelError


class ContrastivePhase:
    """Trains the transformer's weights that require a gradient.

    seed: of the dropout in validation, the same each time. Raises ModelError for a transformer without dropout.
    """

    name = "contrastive"

    def __init__(self, tower: TextTower, texts: PretrainingTexts, settings: PretrainingConfig, *, seed: int) -> None:
        self._tower = tower
        self._tokens = texts.tokens
        self.train, self._held_out = texts.train, texts.held_out
        self._temperature = settings.temperature
        self._texts_tokens = settings.contrastive_batch_tokens // 2
        self._seed = seed
        self.module: nn.Module = tower.transformer
        self._require_dropout()

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every text once, in batches of similar length and random order; a text alone in its batch is left out."""
        batches = shuffled_batches(self._tokens, examples, self._texts_tokens, generator)
        return [batch for batch in batches if len(batch) > 1]

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one step; the mean cross-entropy of finding the other view, in nats. Dropout is torch's."""
        loss = functional.cross_entropy(*self._similarities(index))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def validate(self) -> Validation:
        """The same of the held-out texts, and the share of them whose two views found each other."""
        self.module.train()
        with torch.no_grad(), torch.random.fork_rng(devices=self._gpus()):
            torch.manual_seed(self._seed)
            batches = length_batches(self._tokens.lengths()[self._held_out], self._texts_tokens)
            return cross_entropy_validation(self._similarities(self._held_out[batch]) for batch in batches)

    def _similarities(self, index: Int64) -> tuple[Tensor, Tensor]:
        """Cosines of each text's first view to every text's second one, by the temperature, (n, n), and the targets."""
        ids, mask = pad_batch(self._tokens, np.concatenate([index, index]), self._tower.pad_id, self._tower.device)
        first, second = pool(self._tower.hidden_states(ids, mask), mask, self._tower.pooling).chunk(2)
        return first @ second.T / self._temperature, torch.arange(len(index), device=first.device)

    def _require_dropout(self) -> None:
        ids, mask = pad_batch(self._tokens, self.train[[0, 0]], self._tower.pad_id, self._tower.device)
        self.module.train()
        with torch.no_grad(), torch.random.fork_rng(devices=self._gpus()):
            torch.manual_seed(self._seed)
            first, second = self.module(input_ids=ids, attention_mask=mask).last_hidden_state
        if torch.equal(first, second):
            raise ModelError(
                f"{type(self.module).__name__} has no dropout, so both views of a text would be equal; expected a "
                "dropout such as hidden_dropout_prob of 0.1: set it in the base model's config.json, or "
                "encoder.pretraining.contrastive_epochs=0"
            )

    def _gpus(self) -> list[torch.device]:
        return [self._tower.device] if self._tower.device.type == "cuda" else []
