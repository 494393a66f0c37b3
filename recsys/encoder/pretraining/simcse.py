"""Contrastive pre-training without labels: unsupervised SimCSE (Gao et al. 2021, 3).

Each text goes through the transformer twice with other dropout; the two vectors are to find each other among those of
the batch's other texts. That draws views of a text together and spreads different texts over the sphere. Batches are of
similar length, so that length, which any two views share, tells nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.arrays import Int64
from recsys.encoder.pretraining.masked_lm import shuffled_batches
from recsys.encoder.text import Tokens
from recsys.encoder.tower import TextTower, length_batches, pad_batch, pool
from recsys.errors import ModelError


class ContrastivePhase:
    """Trains the transformer's weights that require a gradient.

    train, held_out: texts that train and that validate. batch_tokens: of a step, both views counted. seed: of the
    dropout in validation, the same each time. Raises ModelError for a transformer without dropout.
    """

    name = "contrastive"

    def __init__(
        self,
        tower: TextTower,
        tokens: Tokens,
        *,
        train: Int64,
        held_out: Int64,
        temperature: float,
        batch_tokens: int,
        seed: int,
    ) -> None:
        self._tower = tower
        self._tokens = tokens
        self.train = train
        self._held_out = held_out
        self._temperature = temperature
        self._batch_texts_tokens = batch_tokens // 2
        self._seed = seed
        self.module: nn.Module = tower.transformer
        self.accuracy = float("nan")
        """Share of the held-out texts whose two views found each other in the last validation, 0 to 1."""
        self._require_dropout()

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every text once, in batches of similar length and random order; a text alone in its batch is left out."""
        batches = shuffled_batches(self._tokens, examples, self._batch_texts_tokens, generator)
        return [batch for batch in batches if len(batch) > 1]

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one step; the mean cross-entropy of finding the other view, in nats. Dropout is torch's."""
        logits = self._similarities(index)
        loss = functional.cross_entropy(logits, torch.arange(len(index), device=logits.device))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def validate(self) -> float:
        """The same of the held-out texts, negative: higher is better."""
        self.module.train()
        loss, right, n = 0.0, 0, 0
        with torch.no_grad(), torch.random.fork_rng(devices=self._gpus()):
            torch.manual_seed(self._seed)
            for batch in length_batches(self._tokens.lengths()[self._held_out], self._batch_texts_tokens):
                logits = self._similarities(self._held_out[batch])
                targets = torch.arange(len(batch), device=logits.device)
                loss += functional.cross_entropy(logits, targets, reduction="sum").item()
                right += int((logits.argmax(dim=1) == targets).sum())
                n += len(batch)
        self.accuracy = right / n
        return -loss / n

    def _similarities(self, index: Int64) -> Tensor:
        """Cosines of each text's first view to every text's second one, by the temperature, (n, n)."""
        ids, mask = pad_batch(self._tokens, np.concatenate([index, index]), self._tower.pad_id, self._tower.device)
        with self._tower.arithmetic():
            hidden = self._tower.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        first, second = pool(hidden, mask, self._tower.pooling).chunk(2)
        return first @ second.T / self._temperature

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
