"""Ranking and writing in process: the HTTP routes call it; tests can call it directly.

    service = RankService(ranking_model, state, settings, ranker="news-ranker/3", encoder="news-encoder/2")
    answer = service.rank(RankRequest(user_id="u1", candidates=["a", "b"]))

Safe for threads. A written event counts in every ranking that begins after its call returned. The version that answers
can be replaced while requests run: `service.replace(service.prepare(another, ...))`.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict
from importlib import metadata
from typing import Any

from features.errors import StoreError
from features.online.state import OnlineState
from recsys.config import ServingConfig
from recsys.ranker.model import RankingModel
from recsys.serving import schemas
from recsys.serving.budget import UNLIMITED, Budget, Clock
from recsys.serving.errors import NotReady
from recsys.serving.event_writer import Writer
from recsys.serving.ladder import Ladder
from recsys.serving.popularity import ItemPopularity
from recsys.serving.prometheus import Telemetry
from recsys.serving.ranking_log import RankingLog
from recsys.serving.request_parsing import parse_request
from recsys.serving.rungs import Ranking
from recsys.serving.served_model import RefusedVersion, ServedFrom, ServedModel
from recsys.serving.stage_times import StageTimes

_SAMPLE_USERS, _SAMPLE_ITEMS, _SAMPLED_FROM = 12, 60, 300
_SHORT = 200
"""Characters of a title that a warm-up ranks."""


class RankService:
    """A served version and the online state that it reads. ranker, encoder: their versions, as NAME/VERSION; None for a
    model without an encoder. source: where the version came from. clock: by which budgets are counted, seconds.

    served: the version that answers now. popularity: clicks in memory, which whoever runs the service keeps fresh.
    times: of the stages of a ranking. writer: takes posted events and items. refused: the version that is named in
    place of `served` and does not serve, if any. ranking_log: takes the rankings that are answered, None for none.
    """

    def __init__(
        self,
        ranking_model: RankingModel,
        state: OnlineState,
        settings: ServingConfig | None = None,
        *,
        ranker: str,
        encoder: str | None,
        source: ServedFrom = "registry",
        clock: Clock = time.perf_counter,
    ) -> None:
        self.settings = settings or ServingConfig()
        self._clock = clock
        self.telemetry = Telemetry()
        self.popularity = ItemPopularity(self.settings.popular_items)
        self.times = StageTimes()
        self._ladder = Ladder(state, self.settings, self.times, self.popularity)
        self.version = metadata.version("recsys")
        self.state = state
        self.refused: RefusedVersion | None = None
        self.ranking_log: RankingLog | None = None
        self.served = self.prepare(ranking_model, ranker=ranker, encoder=encoder, source=source)
        self.telemetry.models.live(self.served)
        self.writer = Writer(state, self.settings, lambda: self.served, self.telemetry)

    def prepare(
        self, ranking_model: RankingModel, *, ranker: str, encoder: str | None, source: ServedFrom = "registry"
    ) -> ServedModel:
        """A version that can answer from this service's state, beside the one that does. Raises StoreMismatch."""
        return ServedModel.of(
            ranking_model,
            self.state,
            ranker=ranker,
            encoder=encoder,
            source=source,
            cached_texts=self.settings.cached_texts,
            on_encoded=self.telemetry.texts_encoded.inc,
        )

    def replace(self, served: ServedModel) -> None:
        """Answer with another version from now on; requests that have begun end with the one that they began with."""
        before, self.served = self.served, served
        self.telemetry.models.live(served)
        if served.names != before.names:
            self.telemetry.models.swaps.inc()
            before.online.encoder.close()

    def close(self) -> None:
        """End what goes on in the background."""
        self.served.online.encoder.close()

    def refuse(self, refused: RefusedVersion | None) -> None:
        """Report that a version is named and does not serve; None that there is none any more."""
        self.refused = refused
        self.telemetry.models.refusal.set(refused is not None)
        if refused is not None:
            self.telemetry.models.refused.inc()

    def budget(self, milliseconds: float | None = None, arrived: float | None = None) -> Budget:
        """The time of a request. milliseconds: what it asks for, 0 for no limit, None for the setting. arrived: when,
        by the service's clock; None for now."""
        wanted = self.settings.budget_ms if milliseconds is None else milliseconds
        return Budget.of(wanted, self._clock() if arrived is None else arrived, self._clock)

    def answer(
        self, request: schemas.RankRequest, *, request_id: str | None = None, budget: Budget | None = None
    ) -> dict[str, Any]:
        """The answer to a caller who waits: `rank` as far as the budget and the store allow, else a lower rung of
        `recsys.serving.rungs`. budget: None is the setting's, from now on.

        Raises BadRequest where a field is not usable, TimeOrderError for a time before the latest event.
        """
        started, served = self._clock(), self.served
        parsed = parse_request(request, served, self.settings)
        ranking = self._ladder.rank(parsed, served, budget or self.budget())
        self.telemetry.ranked(ranking, len(parsed.candidates), self._clock() - started)
        request_id = request_id or uuid.uuid4().hex
        if self.ranking_log is not None:
            # propensity: the share of users whom this version answers, of every user today
            self.ranking_log.add(request_id, parsed, ranking, served.names, propensity=1.0)
        return _answer(ranking, served, request_id)

    def rank(
        self, request: schemas.RankRequest, *, request_id: str | None = None, served: ServedModel | None = None
    ) -> dict[str, Any]:
        """The answer to a request on the full rung, however long that takes, as the contract's JSON. served: a version
        other than the one that answers now.

        Raises BadRequest where a field is not usable, TimeOrderError for a time before the latest event, StoreError
        where the store cannot be read.
        """
        started, served = self._clock(), served or self.served
        parsed = parse_request(request, served, self.settings)
        ranking = self._ladder.by_model(parsed, served, UNLIMITED)
        self.telemetry.ranked(ranking, len(parsed.candidates), self._clock() - started)
        return _answer(ranking, served, request_id)

    def examples(self) -> dict[str, Any]:
        """A few ids from the store: users with the longest histories among the first, and items with their titles."""
        with self.state.snapshot() as view:
            items, histories = view.first_items(_SAMPLED_FROM), view.first_histories(_SAMPLED_FROM)
        users = sorted(histories, key=lambda user: (-len(histories[user]), user))[:_SAMPLE_USERS]
        step = max(1, len(items) // _SAMPLE_ITEMS)
        titles = [{"item_id": item.item_id, "title": item.title} for item in items[::step][:_SAMPLE_ITEMS]]
        return {"users": users, "items": titles}

    def ready(self) -> dict[str, Any]:
        """The versions that answer, where they came from, and the version that was refused, if any. Raises NotReady
        where the store cannot be read."""
        try:
            with self.state.snapshot():
                served, refused = self.served, self.refused
        except StoreError as error:
            raise NotReady(str(error)) from error
        answer: dict[str, Any] = {"model": served.names, "model_from": served.source}
        return answer if refused is None else answer | {"refused": asdict(refused)}

    def warm_up(self, served: ServedModel | None = None) -> None:
        """Rank some stored items once, so that the first caller does not wait for what is prepared on first use.
        served: as in `rank`."""
        served = served or self.served
        served.online.encoder.prepare(threads=self.settings.threads)
        self.state.prepare()
        examples = self.examples()
        user, items = next(iter(examples["users"]), None), examples["items"]
        items = items[: self.settings.max_candidates - 1]
        ids = [item["item_id"] for item in items]
        described = [item | {"title": item["title"][:_SHORT]} for item in items[:1]]
        for candidates in (ids, [*described, *ids[1:]]):  # items that come described go through other code
            body = {"user_id": user, "candidates": [*candidates, "warm-up"], "explain": True}
            request = schemas.RankRequest.model_validate(body)
            self.rank(request, served=served)
            if served.behaviour is not None:
                parsed = parse_request(request, served, self.settings)
                self._ladder.by_model(parsed, served, UNLIMITED, with_text=False)


def _answer(ranking: Ranking, served: ServedModel, request_id: str | None) -> dict[str, Any]:
    """A ranking as the contract's JSON."""
    answer: dict[str, object] = {
        "request_id": request_id or uuid.uuid4().hex,
        "model": served.names,
        "rung": ranking.rung,
        "items": ranking.items,
        "unknown": list(ranking.unknown),
    }
    return ranking.warnings.add_to(answer)
