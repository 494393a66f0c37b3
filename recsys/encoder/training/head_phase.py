"""The head on vectors that stay as they are. Seconds, and most of the gain."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Int64
from recsys.encoder.head import Head
from recsys.encoder.training.batches import Loss, batch_scores, click_loss, make_batch, validation_ndcg
from recsys.encoder.training.examples import ListSet, TrainingExamples


class HeadPhase:
    """Trains `head` on the vectors of a tower. vectors: (n_texts, d), read at every step; shared, not copied."""

    name = "head"

    def __init__(
        self,
        head: Head,
        vectors: Tensor,
        examples: TrainingExamples,
        validation: ListSet,
        *,
        batch_size: int,
        negatives: int,
        loss: Loss,
    ) -> None:
        self.module: nn.Module = head
        self._head = head
        self._vectors = vectors
        self._examples = examples
        self._validation = validation
        self._batch_size = batch_size
        self._negatives = negatives
        self._loss: Loss = loss

    def init_bias_to_click_rate(self) -> None:
        """Start from scores whose mean is the share of clicked candidates, as a probability of each of them is."""
        index = np.arange(min(len(self._examples), self._batch_size))
        batch = make_batch(
            self._examples,
            index,
            negatives=self._negatives,
            generator=np.random.default_rng(0),
            device=self._vectors.device,
        )
        with torch.inference_mode():
            mapped = self._head.mapped(self._vectors[torch.from_numpy(batch.texts).to(self._vectors.device)])
            scores = batch_scores(self._head, mapped, batch)
        there = torch.isfinite(scores)
        odds = len(index) / max(1, int(there.sum()) - len(index))
        self._head.set_mean_score(float(scores[there].mean()), math.log(odds))

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """The examples in the order given, a batch each."""
        return [examples[start : start + self._batch_size] for start in range(0, len(examples), self._batch_size)]

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one step; the loss."""
        batch = make_batch(
            self._examples, index, negatives=self._negatives, generator=generator, device=self._vectors.device
        )
        mapped = self._head.mapped(self._vectors[torch.from_numpy(batch.texts).to(self._vectors.device)])
        weight = torch.from_numpy(self._examples.weight[index]).to(mapped.device)
        loss = click_loss(batch_scores(self._head, mapped, batch), self._loss, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def validate(self) -> float:
        """nDCG@10 of the validation lists."""
        self.module.eval()
        with torch.inference_mode():
            mapped = self._head.mapped(self._vectors)
        return validation_ndcg(self._head, mapped, self._validation)
