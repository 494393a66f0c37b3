"""The ladder: a ranking on the highest rung that the request's time and the store allow.

Before each stage the time that is left is compared with what the rest of the stages has taken on this process; where it
is too short, a lower rung answers. What has been computed is used, even where it came late. A store on another machine
may hang: such work is waited for until the time is over, and goes on alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32, Float64
from features.errors import InputError, StoreError, TimeOrderError
from features.online.reader import OnlineReader
from features.online.state import OnlineState, StateSnapshot
from recsys.config import ServingConfig
from recsys.metrics.rank_order import ordered
from recsys.online.explanations import explain
from recsys.online.model import OnlineMatrix
from recsys.ranker.ranker import Ranker
from recsys.serving.budget import Budget
from recsys.serving.detached_work import AllThreadsHang, DetachedWork, LateWork
from recsys.serving.errors import ServingError
from recsys.serving.popularity import ItemPopularity
from recsys.serving.request_context import span
from recsys.serving.request_parsing import ParsedRequest
from recsys.serving.rungs import (
    OutOfTime,
    Ranking,
    Reason,
    Rung,
    ScoredCandidates,
    rank_from_memory,
    ranked_items,
)
from recsys.serving.served_model import ServedModel
from recsys.serving.stage_times import Stage, StageTimes
from recsys.serving.text_wait import TextWait

logger = logging.getLogger(__name__)
_LARGEST_SAMPLE = 2.0
"""A measured time counts as at most so many budgets, so that one that hung is soon forgotten."""


class Ladder:
    """The rungs over one online state. Safe for threads."""

    def __init__(
        self, state: OnlineState, settings: ServingConfig, times: StageTimes, popularity: ItemPopularity
    ) -> None:
        self._state = state
        self._threads = settings.threads
        self._explained = settings.explained_items
        self._times = times
        self._popularity = popularity
        self._detached = DetachedWork(2 * settings.workers) if state.store.may_hang else None

    def rank(self, parsed: ParsedRequest, served: ServedModel, budget: Budget, *, may_fail: bool = False) -> Ranking:
        """A ranking on some rung. may_fail: raise what goes wrong with the version; otherwise that is answered from
        memory. Raises ServingError or InputError where the request is at fault, TimeOrderError."""
        try:
            return self._in_time(lambda: self.by_model(parsed, served, budget), len(parsed.candidates), budget)
        except (ServingError, InputError, TimeOrderError):
            raise
        except (OutOfTime, LateWork):
            reason: Reason = "deadline"
        except (StoreError, AllThreadsHang):
            reason = "store"
        except Exception:
            if may_fail:
                raise
            logger.exception("a ranking by %s failed; it is answered without the model", served.ranker)
            reason = "error"
        with self._measured("memory", len(parsed.candidates), budget):
            attempt = parsed.attempt()
            attempt.items({})  # what is wrong with an item that came along is an error on every rung
            return rank_from_memory(attempt, self._popularity, reason)

    def _in_time(self, work: Callable[[], Ranking], n: int, budget: Budget) -> Ranking:
        if self._detached is None or not budget.is_limited:
            return work()
        return self._detached.run(work, budget.left() - self._times.estimate("memory", n))

    def by_model(
        self, parsed: ParsedRequest, served: ServedModel, budget: Budget, *, with_text: bool = True
    ) -> Ranking:
        """A ranking on one of the rungs full, no_encoding and no_text. with_text: try the first two. Raises OutOfTime
        where none of them fits, and as `ParsedRequest.reader`."""
        n, parsed = len(parsed.candidates), parsed.attempt()
        self._require(("read", "text" if served.behaviour is None else "no_text"), n, budget)
        with self._state.snapshot() as view:
            with self._measured("read", n, budget):
                reader = parsed.reader(view)
            scored = self._with_text(view, reader, served, budget) if with_text else None
            if scored is None:
                scored = self._without_text(view, reader, served, budget)
        return self._ranking(scored, parsed, reader)

    def _with_text(
        self, view: StateSnapshot, reader: OnlineReader, served: ServedModel, budget: Budget
    ) -> _Scored | None:
        """Scores of the version's own ranker; None where the time is too short."""
        n = reader.requests.n_rows
        expected = self._times.estimate("text", n)
        if budget.left() <= expected:
            if budget.left() > 0:
                self._times.skipped("text", n)
            return None
        waiting = TextWait(budget, self._times, expected) if budget.is_limited else None
        with self._measured("text", n, budget, waiting):
            matrix = served.online.matrix(view, reader, waiting)
            is_whole = waiting is None or not waiting.missed
            model = served.ranking_model
            return self._scored(model.ranker, model.column_groups, matrix, "full" if is_whole else "no_encoding")

    def _without_text(self, view: StateSnapshot, reader: OnlineReader, served: ServedModel, budget: Budget) -> _Scored:
        """Scores of the ranker without text. Raises OutOfTime where there is none, or no time for it."""
        n = reader.requests.n_rows
        if served.behaviour is None:
            raise OutOfTime
        self._require(("no_text",), n, budget)
        with self._measured("no_text", n, budget):
            model = served.behaviour
            return self._scored(model.ranker, model.column_groups, model.matrix(view, reader), "no_text")

    def _scored(self, ranker: Ranker, groups: Sequence[str], matrix: OnlineMatrix, rung: Rung) -> _Scored:
        values = matrix.select(ranker.columns)
        return _Scored(rung, ranker, groups, matrix, values, ranker.scores(values, threads=self._threads))

    def _ranking(self, scored: _Scored, parsed: ParsedRequest, reader: OnlineReader) -> Ranking:
        """The candidates in order, with explanations where they are asked for."""
        top_k = parsed.request.top_k
        rows, ranks = ordered(scored.scores, reader.requests.item.astype(np.int64), reader.requests.offsets)
        whole = ScoredCandidates(scored.scores, rows, tuple(scored.ranker.columns), scored.values)
        rows, ranks = rows[:top_k], ranks[:top_k]
        items = ranked_items(
            reader.catalog.ids[reader.requests.item[rows]].tolist(), scored.scores[rows], ranks.tolist()
        )
        if parsed.request.explain:
            top = rows[: self._explained]
            codes = reader.requests.item[top]
            explanations = explain(scored.ranker, scored.groups, scored.values[top], scored.matrix, reader, codes)
            for item, one in zip(items, explanations, strict=False):
                item.update(one)
        reason: Reason | None = None if scored.rung == "full" else "deadline"
        return Ranking(scored.rung, items, whole, parsed.warnings, reader.unknown, reader, scored.matrix, reason)

    def _require(self, stages: Sequence[Stage], n: int, budget: Budget) -> None:
        """Raise OutOfTime where stages are expected to take longer than the time that is left."""
        if budget.left() <= sum(self._times.estimate(stage, n) for stage in stages):
            if budget.left() > 0:  # otherwise the stages are not at fault
                for stage in stages:
                    self._times.skipped(stage, n)
            raise OutOfTime

    @contextmanager
    def _measured(self, stage: Stage, n: int, budget: Budget, waiting: TextWait | None = None) -> Iterator[None]:
        """Learn how long the block takes, less what it waited for texts. Without a budget nothing is learnt: the first
        rankings of a process compile what they run."""
        started = budget.clock()
        with span(stage):
            yield
        if budget.is_limited:
            seconds = budget.clock() - started - (0.0 if waiting is None else waiting.seconds)
            self._times.add(stage, n, min(seconds, _LARGEST_SAMPLE * budget.seconds))


@dataclass(frozen=True)
class _Scored:
    """groups: of the ranker's columns. values: these columns, (n_rows, n_columns). scores: (n_rows,)."""

    rung: Rung
    ranker: Ranker
    groups: Sequence[str]
    matrix: OnlineMatrix
    values: Float32
    scores: Float64
