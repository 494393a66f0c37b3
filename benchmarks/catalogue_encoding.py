"""A catalogue through our tower and through sentence-transformers at its defaults: texts per second, and cosine.

Both read the same weights, cut to the same number of tokens, mean-pool and normalise; both tokenise as a part of their
time and run on the same threads and device. sentence-transformers computes in float32 in batches of 32. An engine
is compiled before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.device_rate import MatrixGauge, timed
from benchmarks.report import Result
from features.arrays import Float32
from recsys.encoder.base_model import BUILTIN, builtin_folder
from recsys.encoder.dtype import Dtype
from recsys.encoder.tower import TextTower

Encode = Callable[[Sequence[str]], Float32]


@dataclass(frozen=True)
class Encoded:
    """How long `texts` texts took us in `dtype` and them, the median of `rounds`, and cosines of the vectors of a text.
    gauge: measured beside them."""

    dtype: Dtype
    texts: int
    rounds: int
    seconds: float
    their_seconds: float
    mean_cosine: float
    least_cosine: float
    gauge: MatrixGauge


def sentence_encoder(base_model: str, max_tokens: int) -> Encode:
    """`encode` of sentence-transformers over the same weights; says what to install where the package is absent."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    except ImportError as error:
        raise click.ClickException(
            "expected the package sentence-transformers beside which encoding is measured, found none; "
            "pip install -c constraints.txt -e '.[bench]', or `make setup`"
        ) from error
    folder = builtin_folder() if base_model == BUILTIN else Path(base_model)
    words = Transformer(str(folder), max_seq_length=max_tokens)
    pooling = Pooling(words.get_embedding_dimension(), pooling_mode="mean")
    model: Any = SentenceTransformer(modules=[words, pooling, Normalize()])
    return lambda texts: model.encode(list(texts), show_progress_bar=False)


def encode_both(tower: TextTower, texts: Sequence[str], other: Encode, *, rounds: int, gauge: MatrixGauge) -> Encoded:
    """All texts through both `rounds` times in turns, after one time to warm up, in which our engine is compiled."""
    encoders: tuple[Encode, Encode] = (tower.encode, other)
    for encode in encoders:
        encode(texts)
    seconds: tuple[list[float], list[float]] = ([], [])
    vectors: list[Float32] = []
    for _ in range(rounds):
        vectors.clear()
        for encode, spent in zip(encoders, seconds, strict=True):
            gauge.measure()
            spent.append(timed(partial(_keep, vectors, encode, texts), tower.device))
    cosine = (vectors[0] * vectors[1]).sum(axis=1)
    medians = [float(np.median(spent)) for spent in seconds]
    return Encoded(
        tower.computes_in, len(texts), rounds, medians[0], medians[1], float(cosine.mean()), float(cosine.min()), gauge
    )


def _keep(vectors: list[Float32], encode: Encode, texts: Sequence[str]) -> None:
    vectors.append(encode(texts))


def encode_results(encoded: Encoded, *, default: bool) -> list[Result]:
    """Texts per second beside theirs, and how alike the vectors are. default: in the dtype that is the default here;
    names say others."""
    of = "" if default else f"_in_{encoded.dtype}"
    own, theirs = encoded.texts / encoded.seconds, encoded.texts / encoded.their_seconds
    asked = "3 with bfloat16, 2 without" if default else "none"
    what = f"texts/s, {encoded.texts:,} texts in {encoded.dtype}, {encoded.rounds} times; asked: {asked}"
    alike = f"least {encoded.least_cosine:.5f}; asked: .999"
    return [
        Result(f"encode{of}_vs_sentence_transformers", own, what, theirs, own / theirs),
        Result(f"encode{of}_mean_cosine", encoded.mean_cosine, alike),
    ]
