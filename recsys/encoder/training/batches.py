"""One training step's examples as tensors over the distinct texts of the step, their loss, and validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from features.arrays import Float64, Int64
from recsys.encoder.head import Head
from recsys.encoder.training.early_stopping import NDCG, Validation
from recsys.encoder.training.examples import TextImpressions
from recsys.metrics.ranking import list_metrics

Loss = Literal["listwise", "binary"]
_IMPRESSIONS_AT_ONCE = 512


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


def batch_of(impressions: TextImpressions, index: Int64, candidates: Int64, device: torch.device) -> Batch:
    """A batch of given candidates, (b, c) rows of texts or -1, with the histories of the impressions `index`, (b,)."""
    history = impressions.history[index]
    history = history[:, : int((history >= 0).sum(axis=1).max(initial=0))]
    arrays = [history, candidates]
    if impressions.query is not None:
        arrays.append(impressions.query[index])
    texts, positions = np.unique(np.concatenate([array.ravel() for array in arrays]), return_inverse=True)
    if len(texts) and texts[0] < 0:
        texts, positions = texts[1:], positions - 1
    split = np.split(positions, np.cumsum([array.size for array in arrays])[:-1])
    tensors = [
        torch.from_numpy(values.reshape(array.shape)).to(device) for values, array in zip(split, arrays, strict=True)
    ]
    return Batch(texts, tensors[0], tensors[1], tensors[2] if len(tensors) > 2 else None)


def batch_scores(head: Head, projected: Tensor, batch: Batch) -> Tensor:
    """Scores of a batch, (b, c), -inf where there is no candidate. projected: (m, d), vectors of `batch.texts`."""
    queries = None
    if batch.query is not None:
        queries = projected[batch.query.clamp(min=0)] * (batch.query >= 0)[:, None]
    scores = head.scores(projected, batch.history, batch.candidates.clamp(min=0), queries)
    return scores.masked_fill(batch.candidates < 0, -torch.inf)


def click_loss(scores: Tensor, loss: Loss, weight: Tensor | None = None) -> Tensor:
    """Mean loss of scores whose first column is the clicked item, (b, 1 + k), -inf where there is none.

    listwise: softmax cross-entropy of each list; binary: cross-entropy of each candidate. weight: (b,), what the rows
    count in the mean; None for equal weights.
    """
    weight = scores.new_ones(len(scores)) if weight is None else weight
    if loss == "listwise":
        return -(weight * functional.log_softmax(scores, dim=1)[:, 0]).mean() / weight.mean()
    is_candidate = torch.isfinite(scores)
    target = torch.zeros_like(scores)
    target[:, 0] = 1.0
    counts = weight[:, None].expand_as(scores)[is_candidate]
    losses = functional.binary_cross_entropy_with_logits(scores[is_candidate], target[is_candidate], weight=counts)
    return losses / counts.mean()


def loss_count(batch: Batch, loss: Loss, weight: Tensor) -> Tensor:
    """What a batch counts for in the mean loss of several: the weight of its rows, or, binary, of its candidates."""
    return weight.sum() if loss == "listwise" else (weight[:, None] * (batch.candidates >= 0)).sum()


def validate_head(head: Head, vectors: Tensor, impressions: TextImpressions) -> Validation:
    """Mean nDCG@10 of whole impressions; 0 where none has both a clicked and an unclicked item. vectors: (n_texts, d),
    of the tower."""
    ndcg = impression_ndcg(head, vectors, impressions)
    ndcg = ndcg[~np.isnan(ndcg)]
    mean = float(ndcg.mean()) if len(ndcg) else 0.0
    return Validation(mean, {NDCG: mean})


def impression_ndcg(head: Head, vectors: Tensor, impressions: TextImpressions) -> Float64:
    """nDCG@10 of whole impressions, (n,), NaN without both a clicked and an unclicked item. vectors: (n_texts, d)."""
    head.eval()
    with torch.inference_mode():
        scores = _candidate_scores(head, head.project(vectors), impressions)
    return list_metrics(scores, impressions.label, impressions.offsets).ndcg_at_10


def _candidate_scores(head: Head, projected: Tensor, impressions: TextImpressions) -> Float64:
    """Score of every candidate, (n_rows,), NaN without text."""
    all_scores = np.full(len(impressions.candidates), np.nan)
    lengths = np.diff(impressions.offsets)
    for start in range(0, len(impressions), _IMPRESSIONS_AT_ONCE):
        index = np.arange(start, min(start + _IMPRESSIONS_AT_ONCE, len(impressions)))
        is_candidate = np.arange(lengths[index].max(initial=1)) < lengths[index][:, None]
        rows = slice(impressions.offsets[index[0]], impressions.offsets[index[-1] + 1])
        candidates = np.full(is_candidate.shape, -1, np.int64)
        candidates[is_candidate] = impressions.candidates[rows]
        batch = batch_of(impressions, index, candidates, projected.device)
        scores = batch_scores(head, projected[torch.from_numpy(batch.texts).to(projected.device)], batch)
        all_scores[rows] = scores.cpu().numpy()[is_candidate]
    all_scores[np.isinf(all_scores)] = np.nan
    return all_scores
