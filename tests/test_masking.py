"""What masked language modelling hides: words at the right rates, never a special token, never half a word."""

import numpy as np
import pytest
import torch
from tiny_encoder import TOPICS, tiny_tokenizer

from recsys.encoder.pretraining.masking import Masking, make_masking
from recsys.encoder.pretraining.reduced_vocabulary import used_tokens
from recsys.encoder.text import tokenise
from recsys.encoder.token_batches import pad_batch


def masking_of(texts: list[str]) -> tuple[Masking, np.ndarray]:
    tokenizer = tiny_tokenizer()
    tokens = tokenise(tokenizer, texts, 16)
    ids, _ = pad_batch(tokens, np.arange(len(tokens)), 0, torch.device("cpu"))
    return make_masking(tokenizer, used_tokens(tokenizer, tokens)), ids.numpy()


def test_special_tokens_are_never_hidden_and_no_other_place_counts() -> None:
    masking, ids = masking_of(["football goal", "flour ufo bread butter", "moon"])
    generator = np.random.default_rng(0)
    hidden = np.zeros(ids.shape, bool)
    for _ in range(500):
        masked = masking.apply(ids, 0.3, generator)
        assert np.array_equal(masking.used.words[masked.targets], ids.ravel()[masked.positions])
        untouched = np.ones(ids.size, bool)
        untouched[masked.positions] = False
        assert np.array_equal(masked.ids.ravel()[untouched], ids.ravel()[untouched])
        hidden.ravel()[masked.positions] = True
    assert np.array_equal(hidden, ids > 4)  # padding, unknown, begin, end and mask are 0 to 4


def test_of_the_words_15_percent_are_hidden_and_of_those_80_10_10() -> None:
    masking, ids = masking_of([" ".join(words) for words in TOPICS] * 2000)
    masked = masking.apply(ids, 0.15, np.random.default_rng(0))
    n = 2000 * 15
    assert len(masked.positions) / n == pytest.approx(0.15, abs=0.01)
    read, was = masked.ids.ravel()[masked.positions], ids.ravel()[masked.positions]
    # a random word is the one that stood there in one of 15 cases
    assert (read == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (read == was).mean() == pytest.approx(0.1 + 0.1 / 15, abs=0.02)
    others = read[(read != 4) & (read != was)]
    assert set(others) == set(masking.used.words)


def test_the_parts_of_a_word_are_hidden_together() -> None:
    masking, ids = masking_of(["goals match", "rockets moon", "striker ovens"])
    part = np.flatnonzero(masking.continues[ids.ravel()])
    assert len(part) == 3
    generator = np.random.default_rng(0)
    for _ in range(100):
        positions = set(masking.apply(ids, 0.5, generator).positions)
        assert all((place in positions) == (place - 1 in positions) for place in part)
