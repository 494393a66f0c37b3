"""Ranking and writing in process: the HTTP routes call it; tests can call it directly.

    service = RankService(ranking_model, state, settings, ranker="news-ranker/3", encoder="news-encoder/2")
    answer = service.rank(RankRequest(user_id="u1", candidates=["a", "b"]))

Safe for threads. A written event counts in every ranking that begins after its call returned.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
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
from recsys.online.model import OnlineMatrix, OnlineModel
from recsys.ranker.model import RankingModel
from recsys.ranker.shap import explain_rows
from recsys.serving import schemas
from recsys.serving.errors import BadRequest, NotReady
from recsys.serving.event_writer import Writer
from recsys.serving.item_parsing import item_columns
from recsys.serving.limits import check_described_items, check_lengths
from recsys.serving.prometheus import Telemetry
from recsys.serving.request_warnings import RequestWarnings

FULL = "full"
"""The rung of an answer that every part of the model took part in."""
_SAMPLE_USERS, _SAMPLE_ITEMS, _SAMPLED_FROM = 12, 60, 300


class RankService:
    """A ranking model and the online state that it reads. ranker, encoder: their versions, as NAME/VERSION; None for a
    model without an encoder.

    writer: takes posted events and items. online: the part of the model that reads the state.
    """

    def __init__(
        self,
        ranking_model: RankingModel,
        state: OnlineState,
        settings: ServingConfig | None = None,
        *,
        ranker: str,
        encoder: str | None,
    ) -> None:
        self.settings = settings or ServingConfig()
        self.telemetry = Telemetry()
        self.version = metadata.version("recsys")
        self.ranking_model = ranking_model
        counter = self.telemetry.texts_encoded
        self.online = OnlineModel.of(
            ranking_model, state, cached_texts=self.settings.cached_texts, on_encoded=counter.inc
        )
        self.state = state
        self._model = {"ranker": ranker, "encoder": encoder}
        self._columns = item_columns(ranking_model.settings, dict(state.settings.vectors))
        self.writer = Writer(state, self.settings, self._columns, self.online, self.telemetry)

    def rank(self, request: schemas.RankRequest, *, request_id: str | None = None) -> dict[str, Any]:
        """The answer to a request, as the contract's JSON.

        Raises BadRequest where a field is not usable, TimeOrderError for a time before the latest event, StoreError
        where the store cannot be read.
        """
        started = time.perf_counter()
        warnings = RequestWarnings()
        with self.state.snapshot() as view:
            reader = self.read(view, request, warnings)
            matrix = self.online.matrix(view, reader)
        ranker = self.ranking_model.ranker
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
            for item, explanation in zip(items, explain_rows(ranker, values[rows]), strict=True):
                item["explanation"] = explanation
        self._count(reader, matrix, time.perf_counter() - started)
        answer: dict[str, object] = {
            "request_id": request_id or uuid.uuid4().hex,
            "model": self._model,
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

    def ready(self) -> dict[str, str | None]:
        """The versions that answer. Raises NotReady where the store cannot be read."""
        try:
            with self.state.snapshot():
                return self._model
        except StoreError as error:
            raise NotReady(str(error)) from error

    def warm_up(self) -> None:
        """Rank some stored items once, so that the first caller does not wait for what is prepared on first use."""
        self.online.encoder.prepare(threads=self.settings.threads)
        self.state.prepare()
        examples = self.examples()
        user, items = next(iter(examples["users"]), None), examples["items"]
        ids = [item["item_id"] for item in items]
        for candidates in (ids, [*items[:1], *ids[1:]]):  # items that come described go through other code
            body = {"user_id": user, "candidates": [*candidates, "warm-up"]}
            self.rank(schemas.RankRequest.model_validate(body))

    def read(self, view: StateSnapshot, request: schemas.RankRequest, warnings: RequestWarnings) -> OnlineReader:
        """The reader of a request's past. warnings: collects doubtful values."""
        check_lengths(request, self.settings)
        rows = _distinct(request.candidates, "candidates")
        for index, row in enumerate(request.candidates):
            if rows[row.item_id][1] is not row:
                warnings.add("is repeated, the last row of an item counts", f"candidates.{index}.item_id", row.item_id)
        history = _distinct(request.history or (), "history")
        latest_first = list(history)[: self.ranking_model.settings.history_length]
        return OnlineReader(
            view,
            request.user_id,
            self._time(request, warnings),
            list(dict.fromkeys(row.item_id for row in request.candidates)),
            now=time.time_ns() // 1000,
            skew=round(self.settings.clock_skew * SECOND),
            inline=self._request_items(view, {**history, **rows}, warnings),
            history=None if request.history is None else latest_first[::-1],
            query=request.query or None,
        )

    def _request_items(
        self, view: StateSnapshot, rows: Mapping[str, tuple[str, schemas.Item]], warnings: RequestWarnings
    ) -> dict[str, StoredItem]:
        """The items that came with columns of their own: these win over the stored ones."""
        described = {item_id: row for item_id, row in rows.items() if len(row[1].model_fields_set) > 1}
        check_described_items(described, self.settings.max_characters)
        stored = view.items(described) if described else {}
        return {
            item_id: self._columns.merge(stored.get(item_id), row, field, warnings)
            for item_id, (field, row) in described.items()
        }

    def _time(self, request: schemas.RankRequest, warnings: RequestWarnings) -> int | None:
        if request.user_id is not None:
            warnings.check_id(request.user_id, "user_id")
        if request.timestamp is None:
            return None
        timestamp = parse_time(request.timestamp, self.ranking_model.settings.data.timezone)
        if timestamp is None:
            raise BadRequest(f"expected {EXPECTED}, got {request.timestamp!r}", "timestamp")
        warnings.check_time(timestamp, "timestamp", request.timestamp)
        return timestamp

    def _count(self, reader: OnlineReader, matrix: OnlineMatrix, seconds: float) -> None:
        self.telemetry.ranks.labels(FULL).inc()
        self.telemetry.rank_seconds.observe(seconds)
        self.telemetry.candidates.observe(reader.requests.n_rows)
        self.telemetry.items_without_text.inc(int(np.count_nonzero(~matrix.has_text[reader.requests.item])))
        self.telemetry.users_without_history.inc(len(reader.histories.times) == 0)
        if matrix.tables is not None:
            built, as_of = matrix.tables.as_of, reader.time - reader.delay
            self.telemetry.read_tables(None if built == NO_TIME else (as_of - built) / SECOND)


def _distinct(rows: Sequence[schemas.Item], name: str) -> dict[str, tuple[str, schemas.Item]]:
    """Rows by item id, the last of each, from the last to the first, with the path of its fields."""
    distinct: dict[str, tuple[str, schemas.Item]] = {}
    for index in range(len(rows) - 1, -1, -1):
        distinct.setdefault(rows[index].item_id, (f"{name}.{index}.", rows[index]))
    return distinct
