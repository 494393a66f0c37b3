"""One training step's examples as tensors over the distinct texts of the step, and their loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from features.arrays import Float64, Int64
from recsys.encoder.head import Head
from recsys.encoder.training.examples import ListSet, TrainingExamples
from recsys.metrics.ranking import list_metrics

Loss = Literal["listwise", "binary"]
_LISTS_AT_ONCE = 512


@dataclass(frozen=True)
class Batch:
    """b examples over m distinct texts. texts: (m,) rows of the data set's texts.

    history: (b, h), latest first; candidates: (b, 1 + k), clicked first; query: (b,) or None: positions in `texts`,
    -1 for none.
    """

    texts: Int64
    history: Tensor
    candidates: Tensor
    query: Tensor | None

    def __len__(self) -> int:
        return len(self.candidates)

    def part(self, rows: slice) -> Batch:
        """Some of the examples, over the same texts."""
        query = None if self.query is None else self.query[rows]
        return Batch(self.texts, self.history[rows], self.candidates[rows], query)


def make_batch(
    examples: TrainingExamples, index: Int64, *, negatives: int, generator: np.random.Generator, device: torch.device
) -> Batch:
    """The examples `index` with negatives drawn anew."""
    lists = examples.of_list[index]
    candidates = examples.candidates(index, negatives, generator)
    return batch_of(examples.lists, lists, candidates, device)


def batch_of(lists: ListSet, index: Int64, candidates: Int64, device: torch.device) -> Batch:
    """A batch of given candidates, (len(index), c) rows of texts or -1, with the histories of the lists `index`."""
    history = lists.history[index]
    history = history[:, : int((history >= 0).sum(axis=1).max(initial=0))]
    query = None if lists.query is None else lists.query[index]
    parts = [history.ravel(), candidates.ravel(), np.zeros(0, np.int64) if query is None else query]
    texts, positions = np.unique(np.concatenate(parts), return_inverse=True)
    if len(texts) and texts[0] < 0:
        texts, positions = texts[1:], positions - 1
    ends = np.cumsum([part.size for part in parts])
    found = [torch.from_numpy(part).to(device) for part in np.split(positions, ends[:-1])]
    return Batch(
        texts, found[0].view(history.shape), found[1].view(candidates.shape), None if query is None else found[2]
    )


def batch_scores(head: Head, mapped: Tensor, batch: Batch) -> Tensor:
    """Scores of a batch, (b, c), -inf where there is no candidate. mapped: (m, d), vectors of `batch.texts`."""
    queries = None
    if batch.query is not None:
        queries = mapped[batch.query.clamp(min=0)] * (batch.query >= 0)[:, None]
    scores = head.scores(mapped, batch.history, batch.candidates.clamp(min=0), queries)
    return scores.masked_fill(batch.candidates < 0, -torch.inf)


def click_loss(scores: Tensor, loss: Loss, weight: Tensor | None = None) -> Tensor:
    """Mean loss of scores whose first column is the clicked item, (b, 1 + k), -inf where there is none.

    listwise: softmax cross-entropy of each list; binary: cross-entropy of each candidate. weight: (b,), what the rows
    count in the mean; None for all alike.
    """
    weight = scores.new_ones(len(scores)) if weight is None else weight
    if loss == "listwise":
        return -(weight * functional.log_softmax(scores, dim=1)[:, 0]).mean() / weight.mean()
    there = torch.isfinite(scores)
    target = torch.zeros_like(scores)
    target[:, 0] = 1.0
    counts = weight[:, None].expand_as(scores)[there]
    return functional.binary_cross_entropy_with_logits(scores[there], target[there], weight=counts) / counts.mean()


def loss_count(batch: Batch, loss: Loss, weight: Tensor) -> Tensor:
    """What a batch counts for in the mean loss of several: the weight of its lists, or, binary, of its candidates."""
    return weight.sum() if loss == "listwise" else (weight[:, None] * (batch.candidates >= 0)).sum()


def validation_ndcg(head: Head, mapped: Tensor, lists: ListSet) -> float:
    """Mean nDCG@10 of whole lists; 0 where none has both a clicked and an unclicked item. mapped: (n_texts, d)."""
    head.eval()
    scores = list_scores(head, mapped, lists)
    mean = list_metrics(scores, lists.label, lists.offsets).means()["ndcg_at_10"]
    return 0.0 if np.isnan(mean) else mean


def list_scores(head: Head, mapped: Tensor, lists: ListSet) -> Float64:
    """Score of every candidate of whole lists, (n_rows,), NaN without text."""
    found = np.full(len(lists.candidates), np.nan)
    lengths = np.diff(lists.offsets)
    with torch.inference_mode():
        for start in range(0, len(lists), _LISTS_AT_ONCE):
            index = np.arange(start, min(start + _LISTS_AT_ONCE, len(lists)))
            there = np.arange(lengths[index].max(initial=1)) < lengths[index][:, None]
            candidates = np.full(there.shape, -1, np.int64)
            candidates[there] = lists.candidates[lists.offsets[index[0]] : lists.offsets[index[-1] + 1]]
            batch = batch_of(lists, index, candidates, mapped.device)
            scores = batch_scores(head, mapped[torch.from_numpy(batch.texts).to(mapped.device)], batch)
            found[lists.offsets[index[0]] : lists.offsets[index[-1] + 1]] = scores.cpu().numpy()[there]
    found[np.isinf(found)] = np.nan
    return found
