"""The upper layers under a head that stays as it is, by blocks of texts.

A step takes a block of texts, runs them through the upper layers with gradients, and trains on every list that shows
one of them; the other vectors of those lists and of their histories come from a bank of the latest ones. So each text
that is run gets the gradient of many lists, where a batch of lists would run as many texts for a few lists. The bank
takes up the block's vectors at every step and is made anew, for all texts that are read, at every validation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Float32, Int64
from recsys.encoder.head import Head
from recsys.encoder.training.batches import Batch, Loss, batch_of, batch_scores, click_loss, loss_count, validation_ndcg
from recsys.encoder.training.examples import ListSet, TrainingExamples
from recsys.encoder.training.torch_runtime import trim_malloc
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.encoder.training.weights import trained

LISTS_PER_STEP = 2048
"""Most examples that a step trains on; a random part of those that show its texts where there are more."""
_LISTS_AT_ONCE = 256


class FineTunePhase:
    """Trains the upper layers.

    vectors: (n_texts, d), the bank; it is written to. read: the rows of it that anything reads, sorted.
    """

    name = "fine_tune"

    def __init__(
        self,
        head: Head,
        tower: TrainableLayers,
        vectors: Tensor,
        read: Int64,
        examples: TrainingExamples,
        validation: ListSet,
        *,
        block_size: int,
        negatives: int,
        loss: Loss,
    ) -> None:
        self.module: nn.Module = tower.trained
        self._weights = list(trained(tower.trained).values())
        self._head = head
        self._tower = tower
        self._bank = vectors
        self._examples = examples
        self._validation = validation
        self._read = torch.from_numpy(read)
        self._block_size = block_size
        self._negatives = negatives
        self._loss: Loss = loss
        self._drawn: Int64 = np.zeros(0, np.int64)
        self._stale = self.encodes_otherwise
        self._candidates: Int64 = np.zeros((0, 0), np.int64)
        self._order: Int64 = np.zeros(0, np.int64)
        self._starts: Int64 = np.zeros(0, np.int64)

    @property
    def encodes_otherwise(self) -> bool:
        """Whether texts are encoded in other arithmetic than the layers are trained in."""
        return self._tower.tower.uses_int8

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every text that a list of the examples shows once, in random blocks; negatives drawn anew."""
        self._drawn = examples
        self._candidates = self._examples.candidates(examples, self._negatives, generator)
        flat = self._candidates.ravel()
        self._order = np.argsort(flat, kind="stable")
        self._starts = np.searchsorted(flat[self._order], np.arange(len(self._bank) + 1))
        texts = generator.permutation(np.unique(flat[flat >= 0]))
        return np.array_split(texts, max(1, round(len(texts) / self._block_size))) if len(texts) else []

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one block of texts; the loss of the lists that show them. Nothing of the head is dropped."""
        trim_malloc()
        self._head.eval()
        rows = np.concatenate([self._order[self._starts[text] : self._starts[text + 1]] for text in index])
        shown = np.unique(rows // self._candidates.shape[1])
        if len(shown) > LISTS_PER_STEP:
            shown = generator.choice(shown, LISTS_PER_STEP, replace=False)
        taught = self._drawn[shown]
        batch = batch_of(
            self._examples.lists, self._examples.of_list[taught], self._candidates[shown], self._bank.device
        )
        texts = np.sort(index)
        fresh = self._tower.vectors(texts)
        self._stale = True
        self._bank[torch.from_numpy(texts)] = fresh.detach()
        used = np.isin(texts, batch.texts)
        with torch.no_grad():
            mapped = self._head.mapped(self._bank[torch.from_numpy(batch.texts)])
        places = torch.from_numpy(np.searchsorted(batch.texts, texts[used])).to(mapped.device)
        mapped = mapped.index_copy(0, places, self._head.mapped(fresh[torch.from_numpy(used)]))
        weight = torch.from_numpy(self._examples.weight[taught]).to(mapped.device)
        loss, gradient = self._taught(mapped.detach(), batch, weight)
        mapped.backward(gradient, inputs=self._weights)  # type: ignore[no-untyped-call]
        return loss

    def _taught(self, mapped: Tensor, batch: Batch, weight: Tensor) -> tuple[float, Tensor]:
        """The loss of a batch and its gradient with respect to the vectors of its texts, (m, d), some lists at once:
        the histories of all of them would take gigabytes."""
        mapped.requires_grad_()
        count = loss_count(batch, self._loss, weight)
        total = 0.0
        for start in range(0, len(batch), _LISTS_AT_ONCE):
            rows = slice(start, start + _LISTS_AT_ONCE)
            part = batch.part(rows)
            share = loss_count(part, self._loss, weight[rows]) / count
            loss = share * click_loss(batch_scores(self._head, mapped, part), self._loss, weight[rows])
            loss.backward(inputs=[mapped])  # type: ignore[no-untyped-call]
            total += loss.item()
        assert mapped.grad is not None
        return total, mapped.grad

    def validate(self) -> float:
        """nDCG@10 of the validation lists with every vector made anew."""
        if self._stale:
            self.refresh()
        self._head.eval()
        with torch.inference_mode():
            mapped = self._head.mapped(self._bank)
        return validation_ndcg(self._head, mapped, self._validation)

    def refresh(self) -> None:
        """Make the vectors that anything reads anew with the present weights."""
        self._stale = False
        self._take_up(self._tower.frozen_vectors(self._read.numpy()))

    def encode(self) -> None:
        """Make them as the tower encodes texts: what the head sees from here on is what new texts get."""
        self._stale = self.encodes_otherwise
        self._take_up(self._tower.encoded(self._read.numpy()))

    def _take_up(self, vectors: Float32) -> None:
        self._bank[self._read] = torch.from_numpy(vectors).to(self._bank.device)
