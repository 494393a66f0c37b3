"""Ranking and writing in process: the HTTP routes call it; tests can call it directly.

    service = RankService(ranking_model, state, settings, ranker="news-ranker/3", encoder="news-encoder/2")
    answer = service.rank(RankRequest(user_id="u1", candidates=["a", "b"]))

Safe for threads. A written event counts in every ranking that begins after its call returned. The version that answers
can be replaced while requests run: `service.replace(service.prepare(another, ...))`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from features.arrays import NO_TIME
from features.clock import SECOND
from features.errors import StoreError
from features.online.items import StoredItem
from features.online.reader import OnlineReader
from features.online.state import OnlineState, StateSnapshot
from features.tables.timestamps import EXPECTED, parse_time
from recsys.config import ServingConfig
from recsys.metrics.rank_order import ordered
from recsys.online.explanations import explain
from recsys.online.model import OnlineMatrix
from recsys.ranker.model import RankingModel
from recsys.serving import schemas
from recsys.serving.errors import BadRequest, NotReady
from recsys.serving.event_writer import Writer
from recsys.serving.item_parsing import RequestItemColumns
from recsys.serving.limits import check_described_items, check_lengths
from recsys.serving.prometheus import Telemetry
from recsys.serving.request_warnings import RequestWarnings
from recsys.serving.served_model import RefusedVersion, ServedFrom, ServedModel

FULL = "full"
"""The rung of an answer that every part of the model took part in."""
_SAMPLE_USERS, _SAMPLE_ITEMS, _SAMPLED_FROM = 12, 60, 300


class RankService:
    """A served version and the online state that it reads. ranker, encoder: their versions, as NAME/VERSION; None for a
    model without an encoder. source: where the version came from.

    served: the version that answers now. writer: takes posted events and items. refused: the version that is named in
    place of `served` and does not serve, if any.
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
    ) -> None:
        self.settings = settings or ServingConfig()
        self.telemetry = Telemetry()
        self.version = metadata.version("recsys")
        self.state = state
        self.refused: RefusedVersion | None = None
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
        swapped, self.served = served.names != self.served.names, served
        self.telemetry.models.live(served)
        if swapped:
            self.telemetry.models.swaps.inc()

    def refuse(self, refused: RefusedVersion | None) -> None:
        """Report that a version is named and does not serve; None that there is none any more."""
        self.refused = refused
        self.telemetry.models.refusal.set(refused is not None)
        if refused is not None:
            self.telemetry.models.refused.inc()

    def rank(
        self, request: schemas.RankRequest, *, request_id: str | None = None, served: ServedModel | None = None
    ) -> dict[str, Any]:
        """The answer to a request, as the contract's JSON. served: a version other than the one that answers now.

        Raises BadRequest where a field is not usable, TimeOrderError for a time before the latest event, StoreError
        where the store cannot be read.
        """
        started = time.perf_counter()
        served = served or self.served
        warnings = RequestWarnings()
        with self.state.snapshot() as view:
            reader = self.read(view, request, warnings, served)
            matrix = served.online.matrix(view, reader)
        ranker = served.ranking_model.ranker
        values = matrix.select(ranker.columns)
        scores = ranker.scores(values, threads=self.settings.threads)
        rows, ranks = ordered(scores, reader.requests.item.astype(np.int64), reader.requests.offsets)
        rows, ranks = rows[: request.top_k], ranks[: request.top_k]
        ids = reader.catalog.ids[reader.requests.item[rows]]
        items = [
            {"item_id": item_id, "score": score, "rank": rank}
            for item_id, score, rank in zip(ids, scores[rows].tolist(), ranks.tolist(), strict=True)
        ]
        if request.explain:
            top = rows[: self.settings.explained_items]
            parts = explain(served.ranking_model, values[top], matrix, reader, reader.requests.item[top])
            for item, explanation in zip(items, parts, strict=False):
                item.update(explanation)
        self._count(reader, matrix, time.perf_counter() - started)
        answer: dict[str, object] = {
            "request_id": request_id or uuid.uuid4().hex,
            "model": served.names,
            "rung": FULL,
            "items": items,
            "unknown": list(reader.unknown),
        }
        return warnings.add_to(answer)

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
        ids = [item["item_id"] for item in items]
        for candidates in (ids, [*items[:1], *ids[1:]]):  # items that come described go through other code
            body = {"user_id": user, "candidates": [*candidates, "warm-up"], "explain": True}
            self.rank(schemas.RankRequest.model_validate(body), served=served)

    def read(
        self,
        view: StateSnapshot,
        request: schemas.RankRequest,
        warnings: RequestWarnings,
        served: ServedModel | None = None,
    ) -> OnlineReader:
        """The reader of a request's past. warnings: collects doubtful values. served: as in `rank`."""
        served = served or self.served
        check_lengths(request, self.settings)
        rows = _distinct(request.candidates, "candidates")
        for index, row in enumerate(request.candidates):
            if rows[row.item_id][1] is not row:
                warnings.add("is repeated, the last row of an item counts", f"candidates.{index}.item_id", row.item_id)
        history = _distinct(request.history or (), "history")
        length = served.ranking_model.settings.history_length
        return OnlineReader(
            view,
            request.user_id,
            _time(request, served.columns.timezone, warnings),
            list(dict.fromkeys(row.item_id for row in request.candidates)),
            now=time.time_ns() // 1000,
            skew=round(self.settings.clock_skew * SECOND),
            inline=self._request_items(view, {**history, **rows}, served.columns, warnings),
            history=None if request.history is None else list(history)[:length][::-1],
            history_length=length,
            query=request.query or None,
        )

    def _request_items(
        self,
        view: StateSnapshot,
        rows: Mapping[str, tuple[str, schemas.Item]],
        columns: RequestItemColumns,
        warnings: RequestWarnings,
    ) -> dict[str, StoredItem]:
        """The items that came with columns of their own: these win over the stored ones."""
        described = {item_id: row for item_id, row in rows.items() if len(row[1].model_fields_set) > 1}
        check_described_items(described, self.settings.max_characters)
        stored = view.items(described) if described else {}
        return {
            item_id: columns.merge(stored.get(item_id), row, field, warnings)
            for item_id, (field, row) in described.items()
        }

    def _count(self, reader: OnlineReader, matrix: OnlineMatrix, seconds: float) -> None:
        self.telemetry.ranks.labels(FULL).inc()
        self.telemetry.rank_seconds.observe(seconds)
        self.telemetry.candidates.observe(reader.requests.n_rows)
        self.telemetry.items_without_text.inc(int(np.count_nonzero(~matrix.has_text[reader.requests.item])))
        self.telemetry.users_without_history.inc(len(reader.histories.times) == 0)
        if matrix.tables is not None:
            built, as_of = matrix.tables.as_of, reader.time - reader.delay
            self.telemetry.read_tables(None if built == NO_TIME else (as_of - built) / SECOND)


def _time(request: schemas.RankRequest, timezone: str, warnings: RequestWarnings) -> int | None:
    if request.user_id is not None:
        warnings.check_id(request.user_id, "user_id")
    if request.timestamp is None:
        return None
    timestamp = parse_time(request.timestamp, timezone)
    if timestamp is None:
        raise BadRequest(f"expected {EXPECTED}, got {request.timestamp!r}", "timestamp")
    warnings.check_time(timestamp, "timestamp", request.timestamp)
    return timestamp


def _distinct(rows: Sequence[schemas.Item], name: str) -> dict[str, tuple[str, schemas.Item]]:
    """Rows by item id, the last of each, from the last to the first, with the path of its fields."""
    distinct: dict[str, tuple[str, schemas.Item]] = {}
    for index in range(len(rows) - 1, -1, -1):
        distinct.setdefault(rows[index].item_id, (f"{name}.{index}.", rows[index]))
    return distinct
