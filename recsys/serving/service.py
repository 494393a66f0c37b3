"""Ranking and writing in process: what the HTTP routes call, and what a test or a replay may call without them.

    service = RankService(unit, state, settings, ranker="news-ranker/3", encoder="news-encoder/2")
    answer = service.rank(RankRequest(user_id="u1", candidates=["a", "b"]))

Safe for threads. A written event is seen by every ranking that begins after its call returned.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np

from features.arrays import NO_TIME
from features.clock import SECOND
from features.online.items import StoredItem
from features.online.reader import OnlineReader
from features.online.state import OnlineState
from features.tables.timestamps import EXPECTED, moment_of
from recsys.collaborative.online import OnlineSnapshots, RequestTables
from recsys.config import ServingConfig
from recsys.errors import StoreError
from recsys.online.cached_encoder import CachedEncoder
from recsys.online.collaborative_refresh import Rebuilt, SnapshotRefresher
from recsys.online.item_texts import ItemTextReader
from recsys.online.vector_store import StoredVectors
from recsys.ranker.model import Unit
from recsys.ranker.shap import explain_rows
from recsys.serving import schemas
from recsys.serving.errors import BadRequest, NotReady
from recsys.serving.event_writer import Writer
from recsys.serving.item_parsing import item_columns
from recsys.serving.prometheus import Telemetry
from recsys.serving.sample_ids import examples
from recsys.serving.warned import Warned

FULL = "full"
"""The rung of an answer that everything took part in."""


class RankService:
    """A unit and the online state that it reads. ranker, encoder: their versions, as NAME/VERSION."""

    def __init__(
        self, unit: Unit, state: OnlineState, settings: ServingConfig | None = None, *, ranker: str, encoder: str
    ) -> None:
        self.settings = settings or ServingConfig()
        self.telemetry = Telemetry()
        self.version = metadata.version("recsys")
        self._state = state
        self._model = {"ranker": ranker, "encoder": encoder}
        vectors = StoredVectors(state.store)
        counter = self.telemetry.texts_encoded
        self._encoder = CachedEncoder(unit.encoder, vectors, self.settings.cached_texts, on_made=counter.inc)
        self.unit = replace(unit, encoder=self._encoder)
        self._texts = ItemTextReader(self._encoder, unit.lexical, self.settings.cached_texts)
        self._tables = stored_tables(unit, state)
        self._columns = item_columns(unit.settings, dict(state.settings.vectors))
        self._writer = Writer(state, self.settings, self._columns, self._texts, self.telemetry)

    def rank(self, request: schemas.RankRequest, *, request_id: str | None = None) -> dict[str, Any]:
        """The answer to a request, as the contract's JSON.

        Raises BadRequest where a field is not usable, TimeOrderError for a time before the newest event, StoreError
        where the store cannot be read.
        """
        started = time.perf_counter()
        said = Warned()
        reader = self._reader(request, said)
        texts, known = self._texts.read(reader.catalog)
        tables = self._read_tables(reader)
        scores = self.unit.scores(reader, known, tables, threads=self.settings.threads)
        order = np.lexsort((reader.requests.item, -scores))[: request.top_k]
        ids = reader.catalog.ids[reader.requests.item[order]]
        items = [
            {"item_id": item_id, "score": score, "rank": rank}
            for rank, (item_id, score) in enumerate(zip(ids, scores[order].tolist(), strict=True), start=1)
        ]
        if request.explain:
            reasons = explain_rows(self.unit.ranker, self.unit.matrix(reader, known, tables)[order])
            for item, reason in zip(items, reasons, strict=True):
                item["explanation"] = reason
        self._count(reader, texts, time.perf_counter() - started)
        answer: dict[str, object] = {
            "request_id": request_id or uuid.uuid4().hex,
            "model": self._model,
            "rung": FULL,
            "items": items,
            "unknown": list(reader.unknown),
        }
        return said.beside(answer)

    def add_events(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Count posted events and shown lists; see `Writer.add_events`."""
        return self._writer.add_events(rows)

    def add_items(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Describe posted items; see `Writer.add_items`."""
        return self._writer.add_items(rows)

    def rebuild(self, moment: int | None = None, *, anew: bool = False) -> Rebuilt | None:
        """Make the collaborative tables for requests at a moment (microseconds, None for now) where they are due; None
        where they are there already, or the unit reads none. See `SnapshotRefresher.rebuild`."""
        if self._tables is None:
            return None
        if moment is None:
            with self._state.snapshot() as (_, meta):
                moment = self._state.moment(meta, None, time.time_ns() // 1000)
        return SnapshotRefresher(self._state, self._tables, self._texts).rebuild(moment, anew=anew)

    def examples(self) -> dict[str, Any]:
        """A few ids from the store."""
        return examples(self._state)

    def ready(self) -> dict[str, str]:
        """The versions that answer. Raises NotReady where the store cannot be read."""
        try:
            self._state.newest()
        except StoreError as error:
            raise NotReady(str(error)) from error
        return self._model

    def warm_up(self) -> None:
        """Rank once what is in the store, so that the first caller does not wait for what is made on first use."""
        self._encoder.tower.prepare()
        ids = [item["item_id"] for item in self.examples()["items"]]
        self.rank(schemas.RankRequest(candidates=[schemas.Item(item_id=item_id) for item_id in (*ids, "warm-up")]))

    def _reader(self, request: schemas.RankRequest, said: Warned | None = None) -> OnlineReader:
        """Everything that the store knows for a request. said: takes what is odd in it."""
        said = said or Warned()
        limit = self.settings.max_candidates
        if len(request.candidates) > limit:
            raise BadRequest(f"expected at most {limit:,} candidates, got {len(request.candidates):,}", "candidates")
        rows = _distinct(reversed(list(enumerate(request.candidates))), "candidates")
        for index, row in enumerate(request.candidates):
            if rows[row.item_id][1] is not row:
                said.add("comes again, the last row of an item counts", f"candidates.{index}.item_id", row.item_id)
        past = _distinct(reversed(list(enumerate(request.history or ()))), "history")
        latest_first = list(past)[: self.unit.settings.history_length]
        return OnlineReader(
            self._state,
            request.user_id,
            self._time(request, said),
            list(dict.fromkeys(row.item_id for row in request.candidates)),
            now=time.time_ns() // 1000,
            skew=round(self.settings.clock_skew * SECOND),
            inline=self._request_items({**past, **rows}, said),
            history=None if request.history is None else latest_first[::-1],
            query=request.query or None,
        )

    def _read_tables(self, reader: OnlineReader) -> RequestTables | None:
        """The collaborative tables that a request reads."""
        if self._tables is None:
            return None
        moment = reader.time - self._state.settings.data.event_delay
        tables = self._tables.read(reader.catalog.ids, reader.histories.items.codes, moment)
        self.telemetry.read_tables(None if tables.edge == NO_TIME else (moment - tables.edge) / SECOND)
        return tables

    def _request_items(self, rows: Mapping[str, tuple[str, schemas.Item]], said: Warned) -> dict[str, StoredItem]:
        """The items that came with columns of their own: these win over the stored ones."""
        given = {item_id: found for item_id, found in rows.items() if len(found[1].model_fields_set) > 1}
        if not given:
            return {}
        with self._state.snapshot() as (snapshot, meta):
            stored = self._state.items(snapshot, meta, given)
        return {
            item_id: self._columns.overlay(stored.get(item_id), row, field, said)
            for item_id, (field, row) in given.items()
        }

    def _time(self, request: schemas.RankRequest, said: Warned) -> int | None:
        if request.user_id is not None:
            said.check_id(request.user_id, "user_id")
        if request.timestamp is None:
            return None
        found = moment_of(request.timestamp, self.unit.settings.data.timezone)
        if found is None:
            raise BadRequest(f"expected {EXPECTED}, got {request.timestamp!r}", "timestamp")
        said.check_time(found, "timestamp", request.timestamp)
        return found

    def _count(self, reader: OnlineReader, texts: Sequence[str], seconds: float) -> None:
        self.telemetry.ranks.labels(FULL).inc()
        self.telemetry.rank_seconds.observe(seconds)
        self.telemetry.candidates.observe(reader.requests.n_rows)
        self.telemetry.items_without_text.inc(sum(not texts[code] for code in reader.requests.item))
        self.telemetry.users_without_history.inc(len(reader.histories.times) == 0)


def stored_tables(unit: Unit, state: OnlineState) -> OnlineSnapshots | None:
    """A unit's collaborative tables in a state's store; None where it reads none."""
    settings = unit.settings.collaborative
    if settings is None:
        return None
    return OnlineSnapshots(state.store, settings, encoder=unit.encoder.fingerprint, dim=unit.encoder.dim)


def _distinct(rows: Iterable[tuple[int, schemas.Item]], name: str) -> dict[str, tuple[str, schemas.Item]]:
    """Rows by item id, the first of each in the order given, with the path of its fields."""
    found: dict[str, tuple[str, schemas.Item]] = {}
    for index, row in rows:
        found.setdefault(row.item_id, (f"{name}.{index}.", row))
    return found
