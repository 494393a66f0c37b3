"""Training of the head on frozen vectors. Takes seconds and gives most of the gain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Int64
from recsys.config import EncoderConfig
from recsys.encoder.head import Head
from recsys.encoder.training.batches import batch_of, batch_scores, click_loss, validate_head
from recsys.encoder.training.early_stopping import Validation
from recsys.encoder.training.examples import TextImpressions, TrainingExamples


@dataclass(eq=False)
class HeadPhase:
    """Trains `head` on the vectors of a tower. vectors: (n_texts, d), read at every step; shared, not copied."""

    head: Head
    vectors: Tensor
    examples: TrainingExamples
    validation: TextImpressions
    settings: EncoderConfig
    name: ClassVar[str] = "head"

    @property
    def module(self) -> nn.Module:
        """The head."""
        return self.head

    def init_bias_to_click_rate(self) -> None:
        """Shift the scores, as logits of a click, to a mean that gives the share of clicked candidates."""
        index = np.arange(min(len(self.examples), self.settings.head_batch_size))
        with torch.inference_mode():
            scores = self._scores(index, np.random.default_rng(0))
        scored = scores[torch.isfinite(scores)]
        odds = len(index) / max(1, len(scored) - len(index))
        self.head.shift_scores(math.log(odds) - float(scored.mean()))

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """The examples in the order given, a batch each."""
        size = self.settings.head_batch_size
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one step; the loss."""
        scores = self._scores(index, generator)
        weight = torch.from_numpy(self.examples.weight[index]).to(scores.device)
        loss = click_loss(scores, self.settings.loss, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def _scores(self, index: Int64, generator: np.random.Generator) -> Tensor:
        """Scores of some examples, (b, 1 + k), clicked first, with negatives drawn now."""
        device, examples = self.vectors.device, self.examples
        candidates = examples.candidates(index, self.settings.negatives, generator)
        batch = batch_of(examples.impressions, examples.impression[index], candidates, device)
        projected = self.head.project(self.vectors[torch.from_numpy(batch.texts).to(device)])
        return batch_scores(self.head, projected, batch)

    def validate(self) -> Validation:
        """nDCG@10 of the validation impressions."""
        return validate_head(self.head, self.vectors, self.validation)
