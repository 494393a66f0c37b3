"""Ranking and writing in process: the HTTP routes call it; tests can call it directly.

    service = RankService(ranking_model, state, settings, ranker="news-ranker/3", encoder="news-encoder/2")
    answer = service.rank(RankRequest(user_id="u1", candidates=["a", "b"]))

Safe for threads. A written event counts in every ranking that begins after its call returned. The version that answers
can be replaced while requests run: `service.champion.fill(service.prepare(another, ...))`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from typing import Any

from features.errors import StoreError
from features.online.state import OnlineState
from recsys.config import ServingConfig
from recsys.ranker.model import RankingModel
from recsys.serving import schemas
from recsys.serving.budget import UNLIMITED, Budget, Clock
from recsys.serving.challenger import Challenger
from recsys.serving.errors import BadRequest, NotReady
from recsys.serving.event_writer import Writer
from recsys.serving.model_slot import Answered, ModelSlot
from recsys.serving.popularity import ItemPopularity
from recsys.serving.prometheus import Telemetry
from recsys.serving.ranking_log import RankingLog
from recsys.serving.request_parsing import parse_request
from recsys.serving.served_model import ServedFrom, ServedModel
from recsys.serving.traffic import ChallengerOptions, Variant

_SAMPLE_USERS, _SAMPLE_ITEMS, _SAMPLED_FROM = 12, 60, 300
NO_CHALLENGER = (
    "expected 'champion' or no variant, since this server has no challenger, got 'challenger'; start it with "
    "`recsys serve --challenger models:/NAME/VERSION`"
)
_SHORT = 200
"""Characters of a title that a warm-up ranks."""


class RankService:
    """A served version and the online state that it reads. ranker, encoder: their versions, as NAME/VERSION; None for a
    model without an encoder. source: where the version came from. challenger: what one is there for, None for none;
    its place is empty until someone fills it. clock: by which budgets are counted, seconds.

    champion: the place of the version that answers. popularity: clicks in memory, which whoever runs the service keeps
    fresh. writer: takes posted events and items. ranking_log: takes the rankings that are answered, None for none.
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
        challenger: ChallengerOptions | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.settings = settings or ServingConfig()
        self._clock = clock
        self.telemetry = Telemetry()
        self.popularity = ItemPopularity(self.settings.popular_items)
        self.version = metadata.version("recsys")
        self.state = state
        self.ranking_log: RankingLog | None = None
        self.champion = self._slot("champion")
        self.challenger: Challenger | None = None
        self.champion.fill(self.prepare(ranking_model, ranker=ranker, encoder=encoder, source=source))
        if challenger is not None:
            slot, metrics = self._slot("challenger"), self.telemetry.challengers
            self.challenger = Challenger(challenger, slot, self.settings, metrics, clock)
        encode_too = None if self.challenger is None else self.challenger.encode_soon
        self.writer = Writer(state, self.settings, lambda: self.served, self.telemetry, encode_too)

    def _slot(self, variant: Variant) -> ModelSlot:
        return ModelSlot(variant, self.state, self.settings, self.popularity, self.telemetry.models, self._clock)

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

    @property
    def served(self) -> ServedModel:
        """The version that answers now, the champion."""
        if self.champion.served is None:
            raise NotReady("no version is loaded")
        return self.champion.served

    def versions(self) -> Iterator[ServedModel]:
        """All versions that are loaded now: the champion, and the challenger if there is one."""
        yield self.served
        challenging = None if self.challenger is None else self.challenger.slot.served
        if challenging is not None:
            yield challenging

    def close(self) -> None:
        """End what goes on in the background."""
        if self.challenger is not None:
            self.challenger.close()
        self.served.online.encoder.close()

    def budget(self, milliseconds: float | None = None, arrived: float | None = None) -> Budget:
        """The time of a request. milliseconds: what it asks for, 0 for no limit, None for the setting. arrived: when,
        by the service's clock; None for now."""
        wanted = self.settings.budget_ms if milliseconds is None else milliseconds
        return Budget.of(wanted, self._clock() if arrived is None else arrived, self._clock)

    def answer(
        self, request: schemas.RankRequest, *, request_id: str | None = None, budget: Budget | None = None
    ) -> dict[str, Any]:
        """The answer to a caller who waits: `rank` as far as the budget and the store allow, else a lower rung of
        `recsys.serving.rungs`; of the challenger where it is its turn. budget: None is the setting's, from now on.

        Raises BadRequest where a field is not usable, TimeOrderError for a time before the latest event.
        """
        request_id, budget = request_id or uuid.uuid4().hex, budget or self.budget()
        with nullcontext() if self.challenger is None else self.challenger.request():
            answered = self._answered(request, request_id, budget)
        self.telemetry.ranked(answered)
        if self.challenger is not None:
            self.telemetry.challengers.ranked(answered)
        if self.ranking_log is not None:
            names, propensity = answered.served.names, answered.propensity
            self.ranking_log.add(request_id, answered.parsed, answered.ranking, names, propensity=propensity)
        return _answer(answered, request_id)

    def _answered(self, request: schemas.RankRequest, request_id: str, budget: Budget) -> Answered:
        """The answer of whose turn it is."""
        challenger, by_champion = self.challenger, partial(self.champion.rank, request, self.served, budget)
        if challenger is None:
            if request.variant == "challenger":
                raise BadRequest(NO_CHALLENGER, "variant")
            return by_champion()
        served, propensity = challenger.turn_of(request, request_id)
        if served is not None:
            answered = challenger.rank(request, served, budget, otherwise=by_champion)
            return answered if answered.propensity is None else replace(answered, propensity=propensity)
        answered = replace(by_champion(), propensity=propensity)
        if challenger.shadow is not None:
            challenger.shadow.offer(request, answered)
        return answered

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
        ranking = self.champion.ladder.by_model(parsed, served, UNLIMITED)
        answered = Answered("champion", served, parsed, ranking, self._clock() - started)
        self.telemetry.ranked(answered)
        return _answer(answered, request_id or uuid.uuid4().hex)

    def examples(self) -> dict[str, Any]:
        """A few ids from the store: users with the longest histories among the first, and items with their titles."""
        with self.state.snapshot() as view:
            items, histories = view.first_items(_SAMPLED_FROM), view.first_histories(_SAMPLED_FROM)
        users = sorted(histories, key=lambda user: (-len(histories[user]), user))[:_SAMPLE_USERS]
        step = max(1, len(items) // _SAMPLE_ITEMS)
        titles = [{"item_id": item.item_id, "title": item.title} for item in items[::step][:_SAMPLE_ITEMS]]
        return {"users": users, "items": titles}

    def ready(self) -> dict[str, Any]:
        """The versions that answer, where they came from, and those that were refused, if any. Raises NotReady where
        the store cannot be read."""
        try:
            with self.state.snapshot():
                served, refused = self.served, self.champion.refused
        except StoreError as error:
            raise NotReady(str(error)) from error
        answer: dict[str, Any] = {"model": served.names, "model_from": served.source}
        if refused is not None:
            answer["refused"] = asdict(refused)
        return answer if self.challenger is None else answer | self.challenger.ready()

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
                self.champion.ladder.by_model(parsed, served, UNLIMITED, with_text=False)


def _answer(answered: Answered, request_id: str) -> dict[str, Any]:
    """A ranking as the contract's JSON."""
    ranking = answered.ranking
    answer: dict[str, object] = {
        "request_id": request_id,
        "model": answered.served.names,
        "rung": ranking.rung,
        "items": ranking.items,
        "unknown": list(ranking.unknown),
    }
    return ranking.warnings.add_to(answer)
