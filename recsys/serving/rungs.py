"""The rungs of the ladder: how much of the model an answer had time for, and why not all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from features.arrays import Float32, Float64, Int64
from features.online.reader import OnlineReader
from recsys.metrics.rank_order import ordered
from recsys.online.model import OnlineMatrix
from recsys.serving.popularity import ItemPopularity
from recsys.serving.request_parsing import ParsedRequest
from recsys.serving.request_warnings import RequestWarnings

Rung = Literal["full", "no_encoding", "no_text", "popularity", "caller_order"]
"""full: every part of the model. no_encoding: texts without a vector count as missing. no_text: the ranker of the same
training that reads no text. popularity: clicks in memory. caller_order: the order in which the candidates came."""
Reason = Literal["deadline", "store", "error"]
"""Why an answer is not on the full rung."""


class OutOfTime(Exception):
    """The model has no time left for a request."""


@dataclass(frozen=True)
class ScoredCandidates:
    """All candidates of a ranking, also those that `top_k` leaves out. scores: (n,), in the order of the request.
    rows: (n,) of the candidates, the best first. columns, values: what a ranker read, (n, n_columns), in the order of
    the request; none without a model."""

    scores: Float64
    rows: Int64
    columns: tuple[str, ...] = ()
    values: Float32 | None = None


@dataclass(frozen=True)
class Ranking:
    """Candidates in order, the best first. items: as the answer has them. scored: all of them. unknown: candidates that
    nothing is known of. reader, matrix: what a model read, None where none did. reason: None on the full rung."""

    rung: Rung
    items: Sequence[Mapping[str, Any]]
    scored: ScoredCandidates
    warnings: RequestWarnings
    unknown: Sequence[str] = ()
    reader: OnlineReader | None = None
    matrix: OnlineMatrix | None = None
    reason: Reason | None = None


def ranked_items(ids: Sequence[str], scores: Float64, ranks: Sequence[int]) -> list[dict[str, Any]]:
    """The items of an answer, in its order."""
    return [
        {"item_id": item_id, "score": score, "rank": rank}
        for item_id, score, rank in zip(ids, scores.tolist(), ranks, strict=True)
    ]


def rank_from_memory(parsed: ParsedRequest, popularity: ItemPopularity, reason: Reason) -> Ranking:
    """The candidates by their clicks in memory, which are the scores; equal ones by item id. Where none of them
    has a click there, they keep their order, and the scores fall from their number to 1."""
    candidates, top_k = parsed.candidates, parsed.request.top_k
    clicks = popularity.clicks(candidates)
    n = len(candidates)
    if not clicks.any():
        scores = np.arange(n, 0, -1).astype(np.float64)
        items = ranked_items(candidates[:top_k], scores[:top_k], range(1, n + 1)[:top_k])
        scored = ScoredCandidates(scores, np.arange(n, dtype=np.int64))
        return Ranking("caller_order", items, scored, parsed.warnings, reason=reason)
    tie = np.empty(n, np.int64)
    tie[sorted(range(n), key=candidates.__getitem__)] = np.arange(n)
    rows, ranks = ordered(clicks, tie, np.array([0, n]))
    scored = ScoredCandidates(clicks, rows)
    rows, ranks = rows[:top_k], ranks[:top_k]
    items = ranked_items([candidates[row] for row in rows.tolist()], clicks[rows], ranks.tolist())
    return Ranking("popularity", items, scored, parsed.warnings, reason=reason)
