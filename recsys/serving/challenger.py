"""The challenger of a server: the requests that it answers in the champion's place, and its shadow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from features.online.items import StoredItem
from recsys.config import ServingConfig
from recsys.serving.background_work import BackgroundWork
from recsys.serving.budget import Budget, Clock
from recsys.serving.challenger_metrics import ChallengerMetrics
from recsys.serving.errors import BadRequest
from recsys.serving.failure_log import FailureLog
from recsys.serving.model_slot import Answered, ModelSlot
from recsys.serving.schemas import RankRequest
from recsys.serving.served_model import ServedModel
from recsys.serving.shadow import Shadow
from recsys.serving.traffic import ChallengerOptions, is_in_share

_ENCODED_TOGETHER = 256


class Challenger:
    """Whatever goes wrong with it, the champion answers. slot: of its version. shadow: None where it scores nothing in
    the background."""

    def __init__(
        self,
        options: ChallengerOptions,
        slot: ModelSlot,
        settings: ServingConfig,
        metrics: ChallengerMetrics,
        clock: Clock,
    ) -> None:
        self.options, self.slot = options, slot
        self._salt, self._metrics = settings.challenger_salt, metrics
        self._work = BackgroundWork(settings.shadow_queue)
        self.shadow = Shadow(slot, settings, metrics, self._work, clock) if options.shadow else None
        self._failures, self._encoding = FailureLog(), FailureLog()

    def turn_of(self, request: RankRequest, request_id: str) -> tuple[ServedModel | None, float]:
        """The version that is to answer a request in the champion's place, None where the champion is, and the
        probability of that choice; 1 where the request has made it. Raises BadRequest where the request wants the
        challenger and none is loaded."""
        served = self.slot.served
        if request.variant is not None:
            if request.variant == "challenger" and served is None:
                refused = self.slot.refused
                why = f"{refused.version} is refused: {refused.reason}" if refused else "no version is loaded"
                expected = f"expected 'champion' or no variant while {self.options.uri} does not answer"
                raise BadRequest(f"{expected}, got 'challenger'; {why}", "variant")
            return served if request.variant == "challenger" else None, 1.0
        share = 0.0 if served is None else self.options.share
        if share and is_in_share(request.user_id, request_id, share, self._salt):
            return served, share
        return None, 1 - share

    def rank(
        self, request: RankRequest, served: ServedModel, budget: Budget, *, otherwise: Callable[[], Answered]
    ) -> Answered:
        """The answer of the challenger, or where it fails of the champion, without a propensity. otherwise: has the
        champion answer, or raises what is wrong with the request."""
        try:
            return self.slot.rank(request, served, budget, may_fail=True)
        except Exception as error:
            answered = otherwise()
            self._metrics.failures.labels(served.ranker).inc()
            self._failures.add(f"{served.ranker} failed on a request, which {answered.served.ranker} answered", error)
            return replace(answered, propensity=None)

    def encode_soon(self, items: Mapping[str, StoredItem]) -> None:
        """Encode posted items for the challenger in the background, a few at a time; where there is no room, rankings
        do it."""
        served = self.slot.served
        if served is not None and items:
            self._work.add(partial(self._encode, served, items))

    def _encode(self, served: ServedModel, items: Mapping[str, StoredItem]) -> None:
        rows = list(items.items())
        try:
            served.online.encode(dict(rows[:_ENCODED_TOGETHER]))
            self.encode_soon(dict(rows[_ENCODED_TOGETHER:]))
        except Exception as error:
            self._encoding.add(f"{served.ranker} cannot encode posted items; its rankings try again", error)

    def request(self) -> AbstractContextManager[None]:
        """A request is being answered while the block runs: the background waits for it."""
        return self._work.request()

    def ready(self) -> dict[str, Any]:
        """What readiness says of it: nothing while no version is loaded, and the version that was refused, if any."""
        served, refused = self.slot.served, self.slot.refused
        about = {"share": self.options.share, "shadow": self.options.shadow}
        answer: dict[str, Any] = {}
        if served is not None:
            answer["challenger"] = {"model": served.names, "model_from": served.source, **about}
        if refused is not None:
            answer["refused_challenger"] = asdict(refused)
        return answer

    def close(self) -> None:
        """End what goes on in the background."""
        self._work.close()
        if self.slot.served is not None:
            self.slot.served.online.encoder.close()
