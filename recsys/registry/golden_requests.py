"""Golden requests: a few inputs with the scores that training gave them, stored with each version.

Whoever loads a version scores them again; a difference means a damaged artifact or a library with other results.
Texts are encoded in float32, whatever the version's dtype, since every machine computes that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.arrays import Float32
from recsys.encoder.scoring import score_candidates
from recsys.errors import ModelError
from recsys.ranker.ranker import Ranker

if TYPE_CHECKING:
    from recsys.encoder.model import Encoder

FILE = "golden.json"
RANKER_TOLERANCE = 1e-6
ENCODER_TOLERANCE = 1e-4
"""Largest difference of a text score between two machines that both encode in float32."""


@dataclass(frozen=True)
class GoldenRequests:
    """Inputs and their scores as JSON values; a missing number is null."""

    requests: list[dict[str, Any]]
    scores: list[float]

    def save(self, folder: Path) -> None:
        """Write them beside the other files of what they are of."""
        content = {"requests": self.requests, "scores": self.scores}
        (folder / FILE).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def load_golden(folder: Path) -> GoldenRequests:
    """The golden requests in a version's folder. Raises ModelError where the file is absent or damaged."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return GoldenRequests(content["requests"], content["scores"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{str(folder / FILE)!r}: expected golden requests and their scores, got {error!r}") from error


def golden_rows(ranker: Ranker, matrix: Float32) -> GoldenRequests:
    """Golden requests of a ranker: rows of its matrix."""
    rows = [
        {name: None if np.isnan(value) else float(value) for name, value in zip(ranker.columns, row, strict=True)}
        for row in matrix
    ]
    return GoldenRequests(rows, ranker.scores(matrix, threads=1).tolist())


def golden_texts(encoder: Encoder, requests: Sequence[tuple[list[str], str]]) -> GoldenRequests:
    """Golden requests of an encoder: pairs of the history's texts, oldest first, and the candidate's text."""
    rows: list[dict[str, Any]] = [{"history": history, "text": text} for history, text in requests]
    return GoldenRequests(rows, _text_scores(encoder, rows))


def check_ranker(ranker: Ranker, folder: Path) -> None:
    """Raise ModelError where a ranker scores its golden rows otherwise than its training did."""
    golden = load_golden(folder)
    rows = [[np.nan if row[name] is None else row[name] for name in ranker.columns] for row in golden.requests]
    _compare(ranker.scores(np.array(rows, np.float32), threads=1), golden.scores, RANKER_TOLERANCE, folder)


def check_encoder(encoder: Encoder, folder: Path) -> None:
    """Raise ModelError where an encoder scores its golden texts otherwise than its training did."""
    golden = load_golden(folder)
    _compare(np.array(_text_scores(encoder, golden.requests)), golden.scores, ENCODER_TOLERANCE, folder)


def _text_scores(encoder: Encoder, rows: list[dict[str, Any]]) -> list[float]:
    """Text score of each row by the weights in float32; no stored vector is read."""
    encoder = encoder.in_float32()
    scores = []
    for row in rows:
        vectors = encoder.encode_texts([*row["history"], row["text"]])
        scores.append(float(score_candidates(encoder.weights, vectors[:-1], vectors[-1:])[0, 0]))
    return scores


def _compare(scores: np.ndarray, expected: list[float], tolerance: float, folder: Path) -> None:
    worst = float(np.abs(scores - np.array(expected)).max(initial=0.0))
    if not worst <= tolerance:
        raise ModelError(
            f"the model in {str(folder)!r} scores its golden requests up to {worst:.3g} away from its training, more "
            f"than {tolerance:g}: an artifact is damaged, or a library computes otherwise; fetch or train it again"
        )
