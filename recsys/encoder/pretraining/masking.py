"""The masking of masked language modelling: random words, whose tokens are mostly replaced by the mask token.

As in BERT (Devlin et al. 2019, 3.1): of the tokens chosen 80% become the mask token, 10% a random token, 10% stay.
WordPiece marks the tokens that continue a word, so there whole words are chosen, as in BERT's later release; other
tokenizers say where a word begins in ways that fail for text without spaces, so there each token is chosen by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import Bool, Int64
from recsys.encoder.pretraining.reduced_vocabulary import UsedTokens
from recsys.errors import ModelError

_MASK_TOKEN_SHARE = 0.8
_RANDOM_TOKEN_SHARE = 0.1


@dataclass(frozen=True)
class Masked:
    """A batch with hidden tokens. ids: (n, t) as the transformer reads them. positions: (m,) of the hidden tokens in
    ids.ravel(). targets: (m,) these tokens, as positions in `UsedTokens.words`.
    """

    ids: Int64
    positions: Int64
    targets: Int64


@dataclass(frozen=True)
class Masking:
    """Hides words. continues: (n_tokens,) True for a token that continues the word before it."""

    mask_id: int
    used: UsedTokens
    continues: Bool

    def apply(self, ids: Int64, share: float, generator: np.random.Generator) -> Masked:
        """Hide each word of a batch with probability `share`, at least one token in all. ids: (n, t), padded.

        Raises ValueError where there is nothing to hide.
        """
        flat = ids.ravel()
        position = self.used.position[flat]
        allowed = position >= 0
        if not allowed.any():
            raise ValueError("expected a batch with at least one token that is not special, got none")
        word = np.cumsum(~self.continues[flat])
        chosen = (generator.random(word[-1] + 1) < share)[word] & allowed
        if not chosen.any():
            chosen[generator.choice(np.flatnonzero(allowed))] = True
        positions = np.flatnonzero(chosen)
        draw = generator.random(len(positions))
        hidden = flat.copy()
        hidden[positions[draw < _MASK_TOKEN_SHARE]] = self.mask_id
        swapped = positions[(draw >= _MASK_TOKEN_SHARE) & (draw < _MASK_TOKEN_SHARE + _RANDOM_TOKEN_SHARE)]
        hidden[swapped] = generator.choice(self.used.words, len(swapped))
        return Masked(hidden.reshape(ids.shape), positions, position[positions])


def make_masking(tokenizer: Any, used: UsedTokens) -> Masking:
    """What hides words of some texts. Raises ModelError for a tokenizer without a mask token."""
    if tokenizer.mask_token_id is None:
        raise ModelError(
            "the base model's tokenizer has no mask token; expected one such as BERT's [MASK]: set mask_token in its "
            "tokenizer_config.json, or encoder.pretraining.masked_epochs=0"
        )
    return Masking(tokenizer.mask_token_id, used, _continuations(tokenizer, len(used.position)))


def _continuations(tokenizer: Any, n_tokens: int) -> Bool:
    """(n_tokens,) True for WordPiece's tokens inside a word; False everywhere for other tokenizers."""
    continues = np.zeros(n_tokens, bool)
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    prefix = getattr(model, "continuing_subword_prefix", None)
    if type(model).__name__ == "WordPiece" and prefix:
        inside = [i for token, i in tokenizer.get_vocab().items() if token.startswith(prefix) and token != prefix]
        continues[[i for i in inside if i < n_tokens]] = True
    return continues
