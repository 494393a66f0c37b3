"""The tokens used by some texts, and input embeddings restricted to them.

A catalog holds a fraction of a vocabulary, of a multilingual one a few per cent. Trained on the whole matrix, most time
and memory of a step would go into rows that no text reads, and an output layer tied to it would move those rows too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from features.arrays import Int64
from recsys.encoder.text import Tokens


@dataclass(frozen=True)
class UsedTokens:
    """special: (s,) sorted, the tokenizer's special tokens. words: (v,) sorted, the others that occur in the texts.

    counts: (v,) how often. position: (n,) of every token below n in `words`, -1 for none.
    """

    special: Int64
    words: Int64
    counts: Int64
    position: Int64


def used_tokens(tokenizer: Any, tokens: Tokens) -> UsedTokens:
    """The tokens of some texts."""
    special = np.unique(np.array(tokenizer.all_special_ids, np.int64))
    used, counts = np.unique(tokens.ids.astype(np.int64), return_counts=True)
    is_word = np.isin(used, special, invert=True)
    position = np.full(max(used.max(initial=0), special.max()) + 1, -1, np.int64)
    position[used[is_word]] = np.arange(is_word.sum())
    return UsedTokens(special, used[is_word], counts[is_word], position)


class ReducedEmbeddings(nn.Module):
    """Replaces the input embeddings: the same rows for the special tokens and, after them, for the words."""

    def __init__(self, embeddings: nn.Embedding, used: UsedTokens) -> None:
        super().__init__()
        rows = torch.from_numpy(np.concatenate([used.special, used.words])).to(embeddings.weight.device)
        position = torch.zeros(len(embeddings.weight), dtype=torch.long, device=rows.device)
        position[rows] = torch.arange(len(rows), device=rows.device)
        self.register_buffer("_rows", rows, persistent=False)
        self.register_buffer("_position", position, persistent=False)
        self._n_special = len(used.special)
        self._inner = copy.copy(embeddings)  # of its own kind: some scale what they look up
        weight = embeddings.weight.detach()[rows]
        self._inner._parameters = {"weight": nn.Parameter(weight, requires_grad=embeddings.weight.requires_grad)}
        self._inner.num_embeddings = len(rows)
        padding = embeddings.padding_idx
        is_read = padding is not None and bool((rows == padding).any())
        self._inner.padding_idx = int(position[padding]) if is_read else None

    def forward(self, ids: Tensor) -> Tensor:
        """The embeddings of tokens named by their ids in the whole vocabulary."""
        embedded: Tensor = self._inner(self.get_buffer("_position")[ids])
        return embedded

    @property
    def words(self) -> Tensor:
        """The rows of the words, (v, d)."""
        return self._inner.weight[self._n_special :]

    def write_to(self, embeddings: nn.Embedding) -> None:
        """Put the rows back where they came from."""
        with torch.no_grad():
            embeddings.weight[self.get_buffer("_rows")] = self._inner.weight


@contextmanager
def reduced_embeddings(transformer: PreTrainedModel, used: UsedTokens) -> Iterator[ReducedEmbeddings]:
    """The transformer reads, and trains, these tokens alone; afterwards it has its whole vocabulary again."""
    whole: Any = transformer.get_input_embeddings()
    reduced = ReducedEmbeddings(whole, used)
    transformer.set_input_embeddings(reduced)
    try:
        yield reduced
    finally:
        reduced.write_to(whole)
        transformer.set_input_embeddings(whole)
