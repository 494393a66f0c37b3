"""Masked language modelling of item texts: the transformer learns a domain's or a language's words from their context.

The output layer is BERT's, a dense layer, GELU and a norm before the transposed input embeddings, and fits any Hugging
Face encoder. It is made anew, starts from the tokens' frequencies, and is thrown away afterwards.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.arrays import Int64
from recsys.encoder.pretraining.masking import Masked, make_masking
from recsys.encoder.pretraining.reduced_vocabulary import ReducedEmbeddings, UsedTokens
from recsys.encoder.text import Tokens
from recsys.encoder.tower import TextTower, length_batches, pad_batch
from recsys.errors import ModelError

_CPU = torch.device("cpu")


class MaskedHead(nn.Module):
    """Hidden states, (m, d), to logits over the words that occur in the texts, (m, v); no other is a candidate."""

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


class MaskedPhase:
    """Trains the transformer's weights that require a gradient, and an output layer of its own.

    occurring, embeddings: of the texts' tokens. train, held_out: texts that train and that validate. share: of the
    words that are hidden. seed: of the words hidden in validation, the same each time. Raises ModelError where there is
    no mask token, or no known word.
    """

    name = "masked"

    def __init__(
        self,
        tower: TextTower,
        tokens: Tokens,
        occurring: UsedTokens,
        embeddings: ReducedEmbeddings,
        *,
        train: Int64,
        held_out: Int64,
        share: float,
        batch_tokens: int,
        seed: int,
    ) -> None:
        self._tower = tower
        self._tokens = tokens
        self._masking = make_masking(tower.tokenizer, occurring)
        self.train, self._held_out = (_with_words(tokens, part, occurring) for part in (train, held_out))
        self._share = share
        self._batch_tokens = batch_tokens
        self._seed = seed
        hidden_size: int = tower.transformer.config.hidden_size
        self.head = MaskedHead(embeddings, hidden_size, occurring.counts).to(tower.device)
        self.module: nn.Module = nn.ModuleDict({"transformer": tower.transformer, "head": self.head})
        self.accuracy = float("nan")
        """Share of the hidden words that the last validation found, 0 to 1."""

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """Every text once, in batches of similar length and random order."""
        return shuffled_batches(self._tokens, examples, self._batch_tokens, generator)

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Gradients of one step; the mean cross-entropy of the hidden tokens, in nats.

        Without dropout, which costs masked language modelling accuracy (Lan et al. 2020, ALBERT) and time.
        """
        self.module.eval()
        logits, targets = self._run(index, generator)
        loss = functional.cross_entropy(logits, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def validate(self) -> float:
        """The mean cross-entropy of the hidden tokens of the held-out texts, negative: higher is better."""
        self.module.eval()
        generator = np.random.default_rng(self._seed)
        loss, right, n = 0.0, 0, 0
        with torch.no_grad():
            for batch in length_batches(self._tokens.lengths()[self._held_out], self._batch_tokens):
                logits, targets = self._run(self._held_out[batch], generator)
                loss += functional.cross_entropy(logits, targets, reduction="sum").item()
                right += int((logits.argmax(dim=1) == targets).sum())
                n += len(targets)
        self.accuracy = right / n
        return -loss / n

    def _run(self, index: Int64, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Logits and targets of the hidden tokens of a batch, (m, v) and (m,)."""
        ids, mask = pad_batch(self._tokens, index, self._tower.pad_id, _CPU)
        masked: Masked = self._masking.apply(ids.numpy(), self._share, generator)
        device = self._tower.device
        with self._tower.arithmetic():
            hidden = self._tower.transformer(
                input_ids=torch.from_numpy(masked.ids).to(device), attention_mask=mask.to(device)
            ).last_hidden_state
            chosen = hidden.flatten(0, 1)[torch.from_numpy(masked.positions).to(device)]
            logits: Tensor = self.head(chosen)
        return logits, torch.from_numpy(masked.targets).to(device)


def shuffled_batches(
    tokens: Tokens, texts: Int64, tokens_per_batch: int, generator: np.random.Generator
) -> list[Int64]:
    """`texts` in batches of similar length, in random order; texts of one length are mixed anew."""
    mixed = generator.permutation(texts)
    batches = [mixed[batch] for batch in length_batches(tokens.lengths()[mixed], tokens_per_batch)]
    return [batches[i] for i in generator.permutation(len(batches))]


def _with_words(tokens: Tokens, texts: Int64, occurring: UsedTokens) -> Int64:
    """Those of `texts` with a token that may be hidden. No text is empty. Raises ModelError where there is none."""
    usable = np.logical_or.reduceat(occurring.place[tokens.ids] >= 0, tokens.offsets[:-1])
    if not usable[texts].any():
        raise ModelError(
            "the base model's tokenizer knows no word of the texts to pre-train on; expected texts in a language that "
            "it reads: choose another encoder.base_model"
        )
    return texts[usable[texts]]
