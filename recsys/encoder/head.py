"""The trainable head: a residual projection of item vectors, and each candidate's attention over the user's history.

A user has several interests, so the weights of the history's items depend on the candidate (target attention, Zhou et
al., Deep Interest Network, KDD 2018): a similar item counts more, beside what the item is and how long ago it was.

The projection is applied once for each text, and the projected vectors are stored. What remains for a request is
`scoring.score_candidates`, in NumPy, which computes the same score as `Head.scores` here (tested to 1e-4).
"""

from __future__ import annotations

import copy
import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.arrays import Float32
from features.exact import exp, to_grid
from recsys.encoder.scoring import MAX_HISTORY, HeadWeights
from recsys.encoder.text_fields import mean_line

HIDDEN = 384
ATTENTION = 32
# Some parameters need larger steps: they are stored as value / gain, which scales their learning rate. Without the
# gains of scale, recency and prior, they hardly change from their initial values in the available steps.
_ATTENTION_GAIN = 4.0
_POPULARITY_GAIN = 10.0
_LOGIT_GAIN = 10.0
_SCALE_GAIN = 5.0
_INITIAL_SCALE = 20.0
_INITIAL_PRIOR_LOGIT = -1.0
_INITIAL_SIMILARITY_WEIGHT = 5.0
_HISTORY_WIDTHS = (4, 12, 28)


class Head(nn.Module):
    """Projection, attention and scale. A new head takes the mean of a text's lines, and weighs the history by
    similarity alone.

    dim: width d of item vectors. n_lines: k of a text. dropout: share of the projection's inputs and hidden units
    dropped in training.
    """

    def __init__(self, dim: int, n_lines: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.n_lines = n_lines
        self.map_in = nn.Linear(n_lines * dim, HIDDEN)
        self.map_out = nn.Linear(HIDDEN, dim)
        self.attention_in = nn.Linear(dim, ATTENTION)
        self.attention_out = nn.Linear(ATTENTION, 1, bias=False)
        self.recency = nn.Parameter(torch.zeros(MAX_HISTORY))
        self.prior = nn.Parameter(torch.zeros(dim))
        self.prior_logit = nn.Parameter(torch.tensor(_INITIAL_PRIOR_LOGIT / _LOGIT_GAIN))
        # `resemblance` is its name in stored encoders, on which the fingerprint depends
        self.resemblance = nn.Parameter(torch.tensor(_INITIAL_SIMILARITY_WEIGHT / _LOGIT_GAIN))
        self.popularity = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_INITIAL_SCALE) / _SCALE_GAIN))
        self.log_query_scale = nn.Parameter(torch.tensor(math.log(_INITIAL_SCALE) / _SCALE_GAIN))
        self.bias = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)
        for parameter in (*self.map_out.parameters(), *self.attention_out.parameters()):
            nn.init.zeros_(parameter)

    def project(self, vectors: Tensor) -> Tensor:
        """The base model's vectors of the lines of items, side by side, (n, k * d), as the vectors that are compared:
        unit length, (n, d)."""
        hidden = functional.gelu(self.map_in(self.dropout(vectors)))
        return functional.normalize(mean_line(vectors, self.n_lines) + self.map_out(self.dropout(hidden)), dim=1)

    def scores(self, items: Tensor, history: Tensor, candidates: Tensor, query: Tensor | None = None) -> Tensor:
        """Scores of the candidates of b requests, (b, c).

        items: (n, d) projected vectors. history: (b, h) positions in `items`, latest first, -1 after its end; h <= 50.
        candidates: (b, c) positions in `items`. query: (b, d) projected vectors, zero rows for requests without one.
        """
        logits = self.attention_out(torch.tanh(_ATTENTION_GAIN * self.attention_in(items))).squeeze(1)
        logits = logits[history.clamp(min=0)] + _LOGIT_GAIN * self.recency[: history.shape[1]]
        logits = logits.masked_fill(history < 0, -torch.inf)
        vectors = functional.embedding(candidates, items)
        similarity = _similarity(vectors, items, history)
        logits = logits[:, None, :] + _LOGIT_GAIN * self.resemblance * similarity
        prior_logit = (_LOGIT_GAIN * self.prior_logit).expand(*candidates.shape, 1)
        attention = torch.softmax(torch.cat([logits, prior_logit], dim=2), dim=2)
        interest = (attention * torch.cat([similarity, (vectors @ self.prior)[:, :, None]], dim=2)).sum(dim=2)
        scores = (_SCALE_GAIN * self.log_scale).exp() * interest + _POPULARITY_GAIN * (vectors @ self.popularity)
        if query is not None:
            to_query = torch.bmm(vectors, query[:, :, None])[:, :, 0]
            scores = scores + (_SCALE_GAIN * self.log_query_scale).exp() * to_query
        return scores + _LOGIT_GAIN * self.bias

    def shift_scores(self, difference: float) -> None:
        """Add a constant to all scores."""
        with torch.no_grad():
            self.bias.add_(difference / _LOGIT_GAIN)

    def grid_vectors(self, vectors: Float32) -> Float32:
        """`project` as it is stored, on the grid of `features.exact`, which removes the rounding of float64: a vector
        does not depend on those that are projected with it."""
        exact = copy.deepcopy(self).to("cpu", torch.float64).eval()
        with torch.inference_mode():
            return to_grid(exact.project(torch.from_numpy(vectors).double()).numpy())

    def export(self) -> HeadWeights:
        """The weights that `scoring.score_candidates` reads, with the same bits on every machine."""

        def array(tensor: Tensor) -> Float32:
            return cast(Float32, tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy())

        def scale(log_scale: Tensor) -> Float32:
            return np.asarray(exp(_SCALE_GAIN * log_scale.item()), np.float32)

        return HeadWeights(
            attention_in=array(_ATTENTION_GAIN * self.attention_in.weight.T),
            attention_bias=array(_ATTENTION_GAIN * self.attention_in.bias),
            attention_out=array(self.attention_out.weight[0]),
            recency=array(_LOGIT_GAIN * self.recency),
            prior=array(self.prior),
            prior_logit=array(_LOGIT_GAIN * self.prior_logit),
            similarity_weight=array(_LOGIT_GAIN * self.resemblance),
            popularity=array(_POPULARITY_GAIN * self.popularity),
            scale=scale(self.log_scale),
            query_scale=scale(self.log_query_scale),
            bias=array(_LOGIT_GAIN * self.bias),
        )


def _similarity(candidates: Tensor, items: Tensor, history: Tensor) -> Tensor:
    """Dot products of candidates and history, (b, c, h); 0 after the history's end.

    candidates: (b, c, d). items: (n, d). history: (b, h) positions in `items`, -1 after the end. Requests with
    histories of about one length are multiplied together, since most histories are much shorter than the longest.
    """
    lengths = (history >= 0).sum(dim=1)
    similarity = candidates.new_zeros((*candidates.shape[:2], history.shape[1]))
    shorter = 0
    for width in (*_HISTORY_WIDTHS, history.shape[1]):
        width = min(width, history.shape[1])
        rows = torch.nonzero((lengths > shorter) & (lengths <= width)).squeeze(1)
        if len(rows):
            clicked = functional.embedding(history[rows, :width].clamp(min=0), items)
            products = torch.bmm(candidates[rows], clicked.transpose(1, 2))
            similarity[rows, :, :width] = products.to(similarity.dtype)
        shorter = max(shorter, width)
    return similarity
