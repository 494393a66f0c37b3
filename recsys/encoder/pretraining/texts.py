"""Training and validation texts of a pre-training, their batches, and the validation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from features.arrays import Int64
from recsys.encoder.text import Tokens
from recsys.encoder.token_batches import length_batches
from recsys.encoder.training.early_stopping import Validation


@dataclass(frozen=True)
class PretrainingTexts:
    """train, held_out: texts that train and that validate, as positions in `tokens`."""

    tokens: Tokens
    train: Int64
    held_out: Int64

    def held_out_batches(self, most_tokens: int) -> list[Int64]:
        """The texts that validate in batches of similar length."""
        return [self.held_out[batch] for batch in length_batches(self.tokens.lengths()[self.held_out], most_tokens)]


def distinct_texts(tokens: Tokens) -> Tokens:
    """The texts whose tokens, as cut, differ from those of all texts before."""
    rows: dict[bytes, int] = {}
    for row, (start, end) in enumerate(itertools.pairwise(tokens.offsets)):
        rows.setdefault(tokens.ids[start:end].tobytes(), row)
    return tokens.take(np.array(list(rows.values()), np.int64))


def split_texts(tokens: Tokens, held_out_share: float, generator: np.random.Generator) -> PretrainingTexts:
    """A random share of the texts, at least two, validates."""
    order = generator.permutation(len(tokens))
    n_held_out = max(2, round(held_out_share * len(tokens)))
    return PretrainingTexts(tokens, np.sort(order[n_held_out:]), np.sort(order[:n_held_out]))


def shuffled_batches(
    tokens: Tokens, texts: Int64, tokens_per_batch: int, generator: np.random.Generator
) -> list[Int64]:
    """`texts` in batches of similar length, in random order; texts of one length are mixed again each time."""
    mixed = generator.permutation(texts)
    batches = [mixed[batch] for batch in length_batches(tokens.lengths()[mixed], tokens_per_batch)]
    return [batches[i] for i in generator.permutation(len(batches))]


def cross_entropy_validation(batches: Iterable[tuple[Tensor, Tensor]]) -> Validation:
    """Mean cross-entropy, in nats, and accuracy, 0 to 1, of logits (n, v) against targets (n,), batch by batch."""
    loss, n_correct, n = 0.0, 0, 0
    for logits, targets in batches:
        loss += functional.cross_entropy(logits, targets, reduction="sum").item()
        n_correct += int((logits.argmax(dim=1) == targets).sum())
        n += len(targets)
    return Validation(-loss / n, {"loss": loss / n, "accuracy": n_correct / n})
