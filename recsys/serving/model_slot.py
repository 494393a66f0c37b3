"""The place of a version in a server: that of the champion, which is always taken, or that of the challenger."""

from __future__ import annotations

from dataclasses import dataclass

from features.online.state import OnlineState
from recsys.config import ServingConfig
from recsys.serving.budget import Budget, Clock
from recsys.serving.ladder import Ladder
from recsys.serving.model_metrics import ModelMetrics
from recsys.serving.popularity import ItemPopularity
from recsys.serving.request_parsing import ParsedRequest, parse_request
from recsys.serving.rungs import Ranking
from recsys.serving.schemas import RankRequest
from recsys.serving.served_model import RefusedVersion, ServedModel
from recsys.serving.stage_times import StageTimes
from recsys.serving.traffic import Variant


@dataclass(frozen=True)
class Answered:
    """A ranking and the version that answered. seconds: that it took. propensity: the probability with which this
    version answers this user; None where it stood in for another one."""

    variant: Variant
    served: ServedModel
    parsed: ParsedRequest
    ranking: Ranking
    seconds: float
    propensity: float | None = 1.0

    @property
    def n_candidates(self) -> int:
        """How many were ranked."""
        return len(self.parsed.candidates)


class ModelSlot:
    """A place for one version. Safe for threads. clock: by which budgets are counted, seconds.

    served: the version that has the place, None while it is empty. refused: the version that is named for it and does
    not serve, if any. times: of the stages of its rankings, so that a slow version costs the other one no rung.
    """

    def __init__(
        self,
        variant: Variant,
        state: OnlineState,
        settings: ServingConfig,
        popularity: ItemPopularity,
        metrics: ModelMetrics,
        clock: Clock,
    ) -> None:
        self.variant: Variant = variant
        self.served: ServedModel | None = None
        self.refused: RefusedVersion | None = None
        self.times = StageTimes()
        self.ladder = Ladder(state, settings, self.times, popularity)
        self._settings, self._metrics, self._clock = settings, metrics, clock

    def fill(self, served: ServedModel) -> None:
        """Give the place to a version from now on; requests that have begun end with the one that they began with."""
        before, self.served = self.served, served
        self._metrics.live(self.variant, served)
        if before is not None and served.names != before.names:
            self._metrics.swaps.labels(self.variant).inc()
            before.online.encoder.close()

    def empty(self) -> None:
        """Take the place from its version, if it has one; requests that have begun end with it."""
        before, self.served = self.served, None
        self._metrics.live(self.variant, None)
        if before is not None:
            before.online.encoder.close()

    def refuse(self, refused: RefusedVersion | None) -> None:
        """Report that a version is named and does not serve; None that there is none any more."""
        self.refused = refused
        self._metrics.refusal.labels(self.variant).set(refused is not None)
        if refused is not None:
            self._metrics.refused.labels(self.variant).inc()

    def rank(self, request: RankRequest, served: ServedModel, budget: Budget, *, may_fail: bool = False) -> Answered:
        """The answer of a version that has or had this place, on some rung. may_fail: as for `Ladder.rank`. Raises
        BadRequest where a field is not usable, TimeOrderError for a time before the latest event."""
        started = self._clock()
        parsed = parse_request(request, served, self._settings)
        ranking = self.ladder.rank(parsed, served, budget, may_fail=may_fail)
        return Answered(self.variant, served, parsed, ranking, self._clock() - started)
