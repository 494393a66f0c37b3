"""The trainable head: a residual map of item vectors, and the user's attention over them.

Its map is applied once for each text, and the mapped vectors are what is stored and read; what remains for a request
is `scoring.text_columns`, in NumPy, which computes the same score as `Head.scores` here (tested to 1e-5).
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.log import Float32
from recsys.encoder.scoring import MAX_HISTORY, HeadWeights

HIDDEN = 384
ATTENTION = 32
# Weights that have to travel far are stored divided by a gain: one learning rate then suits them all. Without the
# gains of scale, recency and prior, they hardly left their start in the steps that there are.
_ATTENTION_GAIN = 4.0
_POPULARITY_GAIN = 10.0
_LOGIT_GAIN = 10.0
_SCALE_GAIN = 5.0
_INITIAL_SCALE = 20.0
_INITIAL_PRIOR_LOGIT = -1.0


class Head(nn.Module):
    """Map, attention and scale; a fresh one leaves vectors as they are and weighs the history evenly.

    dim: width d of item vectors. dropout: share of the map's inputs and hidden units dropped in training.
    """

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.map_in = nn.Linear(dim, HIDDEN)
        self.map_out = nn.Linear(HIDDEN, dim)
        self.attention_in = nn.Linear(dim, ATTENTION)
        self.attention_out = nn.Linear(ATTENTION, 1, bias=False)
        self.recency = nn.Parameter(torch.zeros(MAX_HISTORY))
        self.prior = nn.Parameter(torch.zeros(dim))
        self.prior_logit = nn.Parameter(torch.tensor(_INITIAL_PRIOR_LOGIT / _LOGIT_GAIN))
        self.popularity = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_INITIAL_SCALE) / _SCALE_GAIN))
        self.log_query_scale = nn.Parameter(torch.tensor(math.log(_INITIAL_SCALE) / _SCALE_GAIN))
        self.bias = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)
        for parameter in (*self.map_out.parameters(), *self.attention_out.parameters()):
            nn.init.zeros_(parameter)

    def mapped(self, vectors: Tensor) -> Tensor:
        """Item vectors of the base model, (n, d), as the vectors that are compared: unit length, (n, d)."""
        hidden = functional.gelu(self.map_in(self.dropout(vectors)))
        return functional.normalize(vectors + self.map_out(self.dropout(hidden)), dim=1)

    def weights(self, items: Tensor, history: Tensor, query: Tensor | None = None) -> Tensor:
        """The weight vectors of b requests, (b, d).

        items: (n, d) mapped vectors. history: (b, h) positions in `items`, latest first, -1 where it has ended;
        h <= 50. query: (b, d) mapped vectors, zero rows for requests without one.
        """
        there = history >= 0
        logits = self.attention_out(torch.tanh(_ATTENTION_GAIN * self.attention_in(items))).squeeze(1)
        logits = logits[history.clamp(min=0)] + _LOGIT_GAIN * self.recency[: history.shape[1]]
        logits = logits.masked_fill(~there, -torch.inf)
        prior_logit = (_LOGIT_GAIN * self.prior_logit).expand(len(history), 1)
        share = torch.softmax(torch.cat([logits, prior_logit], dim=1), dim=1)
        counts = there.sum(dim=1)
        interest = functional.embedding_bag(
            history[there],
            items,
            torch.cumsum(counts, 0) - counts,
            mode="sum",
            per_sample_weights=share[:, :-1][there],
        )
        interest = interest + share[:, -1:] * self.prior
        found = (_SCALE_GAIN * self.log_scale).exp() * interest + _POPULARITY_GAIN * self.popularity
        return found if query is None else found + (_SCALE_GAIN * self.log_query_scale).exp() * query

    def scores(self, items: Tensor, weights: Tensor, candidates: Tensor) -> Tensor:
        """Scores of the candidates, (b, c). candidates: (b, c) positions in `items`; weights: (b, d)."""
        return torch.einsum("bcd,bd->bc", items[candidates], weights) + _LOGIT_GAIN * self.bias

    def set_mean_score(self, present: float, wanted: float) -> None:
        """Shift all scores by a constant, so that a mean that is `present` becomes `wanted`."""
        with torch.no_grad():
            self.bias.add_((wanted - present) / _LOGIT_GAIN)

    def export(self) -> HeadWeights:
        """The weights that `scoring.text_columns` reads."""

        def array(tensor: Tensor) -> Float32:
            return cast(Float32, tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy())

        return HeadWeights(
            attention_in=array(_ATTENTION_GAIN * self.attention_in.weight.T),
            attention_bias=array(_ATTENTION_GAIN * self.attention_in.bias),
            attention_out=array(self.attention_out.weight[0]),
            recency=array(_LOGIT_GAIN * self.recency),
            prior=array(self.prior),
            prior_logit=array(_LOGIT_GAIN * self.prior_logit),
            popularity=array(_POPULARITY_GAIN * self.popularity),
            scale=array((_SCALE_GAIN * self.log_scale).exp()),
            query_scale=array((_SCALE_GAIN * self.log_query_scale).exp()),
            bias=array(_LOGIT_GAIN * self.bias),
        )
