"""A challenger in shadow: it scores in the background what the champion has answered, and both orders are compared.

The answer has been made by then. What the store takes in between the two rankings is the one thing that can make the
challenger read another state: it reads the store as it is when it scores, at the time of the champion's request or,
once a newer event has come, just after that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from features.arrays import Float64, Int32, Strings
from features.errors import TimeOrderError
from recsys.config import ServingConfig
from recsys.metrics.rank_order import ordered
from recsys.serving.background_work import BackgroundWork
from recsys.serving.budget import UNLIMITED, Clock
from recsys.serving.challenger_metrics import DROPPED, FAILED, ChallengerMetrics
from recsys.serving.failure_log import FailureLog
from recsys.serving.model_slot import Answered, ModelSlot
from recsys.serving.order_agreement import compare_orders
from recsys.serving.request_parsing import parse_request
from recsys.serving.schemas import RankRequest
from recsys.serving.served_model import ServedModel


@dataclass(frozen=True)
class _Champion:
    """The champion's answer. time: of the request, microseconds. ids, tie, scores: of its candidates, (n,); tie is the
    place of each id in sorted ids."""

    ranker: str
    time: int
    ids: Strings
    tie: Int32
    scores: Float64
    seconds: float

    def order(self) -> list[str]:
        """All candidates, the best first."""
        rows, _ = ordered(self.scores, self.tie.astype(np.int64), np.array([0, len(self.ids)]))
        return list(self.ids[rows].tolist())


class Shadow:
    """The shadow of a challenger's slot. work: where it scores. draw: a number from 0 to 1 for each answer; those below
    the setting `shadow_share` are taken."""

    def __init__(
        self,
        slot: ModelSlot,
        settings: ServingConfig,
        metrics: ChallengerMetrics,
        work: BackgroundWork,
        clock: Clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._slot, self._settings, self._metrics = slot, settings, metrics
        self._work, self._clock, self._draw = work, clock, draw
        self._failures = FailureLog()

    def offer(self, request: RankRequest, answered: Answered) -> None:
        """Score a request later that the champion has answered, if its turn comes. Answers of lower rungs, of one
        candidate, and those that asked for a variant are left out."""
        challenger, ranking = self._slot.served, answered.ranking
        if challenger is None or request.variant is not None or ranking.rung != "full":
            return
        reader, scores = ranking.reader, ranking.scored.scores
        if reader is None or len(scores) < 2 or self._draw() >= self._settings.shadow_share:
            return
        item = reader.requests.item
        champion = _Champion(
            answered.served.ranker, reader.time, reader.catalog.ids[item], item, scores, answered.seconds
        )
        if not self._work.add(partial(self._compare, request, champion, challenger)):
            self._metrics.shadow_requests.labels(champion.ranker, challenger.ranker, DROPPED).inc()

    def _compare(self, request: RankRequest, champion: _Champion, challenger: ServedModel) -> None:
        try:
            started = self._clock()
            whole = request.model_copy(update={"explain": False, "top_k": None})
            parsed = replace(parse_request(whole, challenger, self._settings), time=champion.time)
            ranking = self._slot.ladder.by_model(parsed, challenger, UNLIMITED)
            seconds = champion.seconds, self._clock() - started
            agreement = compare_orders(champion.order(), [item["item_id"] for item in ranking.items])
        except TimeOrderError:  # events have come since, and the store answers for that time no more
            self._metrics.shadow_requests.labels(champion.ranker, challenger.ranker, DROPPED).inc()
            return
        except Exception as error:  # whatever is wrong with a challenger, nobody waits for it
            self._metrics.shadow_requests.labels(champion.ranker, challenger.ranker, FAILED).inc()
            self._failures.add(
                f"{challenger.ranker} failed in shadow on a request that {champion.ranker} answered", error
            )
            return
        self._metrics.compared(champion.ranker, challenger.ranker, agreement, seconds=seconds)
