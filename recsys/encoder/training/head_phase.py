"""The head on vectors that stay as they are. Seconds, and most of the gain."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Int64
from recsys.config import EncoderConfig
from recsys.encoder.head import Head
from recsys.encoder.training.batches import batch_of, batch_scores, click_loss, validate_head
from recsys.encoder.training.early_stopping import Validation
from recsys.encoder.training.examples import TextImpressions, TrainingExamples


class HeadPhase:
    """Trains `head` on the vectors of a tower. vectors: (n_texts, d), read at every step; shared, not copied."""

    name = "head"

    def __init__(
        self,
        head: Head,
        vectors: Tensor,
        examples: TrainingExamples,
        validation: TextImpressions,
        settings: EncoderConfig,
    ) -> None:
        self.module: nn.Module = head
        self._head = head
        self._vectors = vectors
        self._examples = examples
        self._validation = validation
        self._settings = settings

    def init_bias_to_click_rate(self) -> None:
        """Shift the scores, as logits of a click, to a mean that gives the share of clicked candidates."""
        index = np.arange(min(len(self._examples), self._settings.head_batch_size))
        with torch.inference_mode():
            scores = self._scores(index, np.random.default_rng(0))
        scored = scores[torch.isfinite(scores)]
        odds = len(index) / max(1, len(scored) - len(index))
        self._head.shift_scores(math.log(odds) - float(scored.mean()))

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """The examples in the order given, a batch each."""
        size = self._settings.head_batch_size
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one step; the loss."""
        scores = self._scores(index, generator)
        weight = torch.from_numpy(self._examples.weight[index]).to(scores.device)
        loss = click_loss(scores, self._settings.loss, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def _scores(self, index: Int64, generator: np.random.Generator) -> Tensor:
        """Scores of some examples, (b, 1 + k), clicked first, with negatives drawn now."""
        device, examples = self._vectors.device, self._examples
        candidates = examples.candidates(index, self._settings.negatives, generator)
        batch = batch_of(examples.impressions, examples.impression[index], candidates, device)
        projected = self._head.project(self._vectors[torch.from_numpy(batch.texts).to(device)])
        return batch_scores(self._head, projected, batch)

    def validate(self) -> Validation:
        """nDCG@10 of the validation impressions."""
        return validate_head(self._head, self._vectors, self._validation)
