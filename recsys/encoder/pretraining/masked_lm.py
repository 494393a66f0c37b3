"""Masked language modelling of item texts: the transformer learns a domain's or a language's words from their context.

The output layer is BERT's, a dense layer, GELU and a norm before the transposed input embeddings, and fits any Hugging
Face encoder. It starts from the tokens' frequencies, and is thrown away afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.arrays import Int64
from recsys.config import PretrainingConfig
from recsys.encoder.dtype import autocast
from recsys.encoder.pretraining.masking import make_masking
from recsys.encoder.pretraining.reduced_vocabulary import ReducedEmbeddings, UsedTokens
from recsys.encoder.pretraining.texts import PretrainingTexts, cross_entropy_validation, shuffled_batches
from recsys.encoder.text import Tokens
from recsys.encoder.token_batches import pad_batch
from recsys.encoder.tower import TextTower
from recsys.encoder.training.early_stopping import Validation
from recsys.errors import ModelError

_CPU = torch.device("cpu")


class MaskedHead(nn.Module):
    """Hidden states, (m, d), to logits over the words of the texts, (m, v); no other is a candidate."""

    def __init__(self, embeddings: ReducedEmbeddings, hidden_size: int, counts: Int64) -> None:
        super().__init__()
        self._tied = (embeddings,)  # in a tuple, so that it is no child: its weights belong to the transformer
        width = embeddings.words.shape[1]
        self.dense = nn.Linear(hidden_size, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.from_numpy(np.log(counts / counts.sum())).float())

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits, float32."""
        state = self.norm(functional.gelu(self.dense(hidden)))
        return functional.linear(state, self._tied[0].words).float() + self.bias


@dataclass(eq=False)
class MaskedPhase:
    """Trains the transformer's weights that require a gradient, and an output layer of its own: `head`.

    used, embeddings: of the texts' tokens. seed: of the words hidden in validation, the same each time. Raises
    ModelError where there is no mask token, or no word of the texts is in the vocabulary.
    """

    tower: TextTower
    texts: PretrainingTexts
    used: UsedTokens
    embeddings: ReducedEmbeddings
    settings: PretrainingConfig
    seed: int
    name: ClassVar[str] = "masked"

    def __post_init__(self) -> None:
        self._masking = make_masking(self.tower.tokenizer, self.used)
        tokens = self.texts.tokens
        train, held_out = (_with_words(tokens, texts, self.used) for texts in (self.texts.train, self.texts.held_out))
        self.texts = PretrainingTexts(tokens, train, held_out)
        hidden_size: int = self.tower.transformer.config.hidden_size
        self.head = MaskedHead(self.embeddings, hidden_size, self.used.counts).to(self.tower.device)
        self.module: nn.Module = nn.ModuleDict({"transformer": self.tower.transformer, "head": self.head})

    @property
    def rates(self) -> list[tuple[nn.Module, float]]:
        """Modules with their learning rates."""
        settings = self.settings
        return [
            (self.tower.transformer, settings.masked_learning_rate),
            (self.head, settings.masked_head_learning_rate),
        ]

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every text once, in batches of similar length and random order."""
        return shuffled_batches(self.texts.tokens, examples, self.settings.masked_batch_tokens, generator)

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one step; the mean cross-entropy of the hidden tokens, in nats.

        Without dropout, which costs masked language modelling accuracy (Lan et al. 2020, ALBERT) and time.
        """
        self.module.eval()
        loss = functional.cross_entropy(*self._logits(index, generator))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def validate(self) -> Validation:
        """The same of the held-out texts, and the share of the hidden tokens that were predicted."""
        self.module.eval()
        generator = np.random.default_rng(self.seed)
        with torch.no_grad():
            batches = self.texts.held_out_batches(self.settings.masked_batch_tokens)
            return cross_entropy_validation(self._logits(batch, generator) for batch in batches)

    def _logits(self, index: Int64, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Logits and targets of the hidden tokens of a batch, (m, v) and (m,)."""
        tower, device = self.tower, self.tower.device
        ids, mask = pad_batch(self.texts.tokens, index, tower.pad_id, _CPU)
        masked = self._masking.apply(ids.numpy(), self.settings.masked_share, generator)
        hidden = tower.hidden_states(torch.from_numpy(masked.ids).to(device), mask.to(device))
        with autocast(tower.computes_in, device):
            logits: Tensor = self.head(hidden.flatten(0, 1)[torch.from_numpy(masked.positions).to(device)])
        return logits, torch.from_numpy(masked.targets).to(device)


def _with_words(tokens: Tokens, texts: Int64, used: UsedTokens) -> Int64:
    """Those of `texts` with a token that may be hidden. No text is empty. Raises ModelError where there is none."""
    usable = np.logical_or.reduceat(used.position[tokens.ids] >= 0, tokens.offsets[:-1])
    if not usable[texts].any():
        raise ModelError(
            "the base model's tokenizer knows no word of the texts to pre-train on; expected texts in a language that "
            "it reads: choose another encoder.base_model"
        )
    return texts[usable[texts]]
