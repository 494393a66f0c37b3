"""A ranking request as the reader of its past takes it: checked first without the store, then read from a snapshot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from features.clock import SECOND
from features.online.items import StoredItem
from features.online.reader import OnlineReader
from features.online.state import StateSnapshot
from features.tables.timestamps import EXPECTED, parse_time
from recsys.config import ServingConfig
from recsys.serving.errors import BadRequest
from recsys.serving.item_parsing import RequestItemColumns
from recsys.serving.limits import check_described_items, check_lengths
from recsys.serving.request_warnings import RequestWarnings
from recsys.serving.schemas import Item, RankRequest
from recsys.serving.served_model import ServedModel


@dataclass(frozen=True)
class ParsedRequest:
    """A request that is within the limits. candidates: their distinct ids, in order. history: likewise, newest first.
    time: microseconds, None for now. described: items that came with columns, with the path of their fields. warnings:
    collects doubtful values."""

    request: RankRequest
    candidates: list[str]
    history: list[str] | None
    time: int | None
    described: Mapping[str, tuple[str, Item]]
    columns: RequestItemColumns
    history_length: int
    clock_skew: float
    warnings: RequestWarnings

    def attempt(self) -> ParsedRequest:
        """The same with warnings of its own, for work that may be given up while it goes on."""
        return replace(self, warnings=self.warnings.copy())

    def reader(self, view: StateSnapshot) -> OnlineReader:
        """The reader of the request's past. Raises BadRequest where a column is not usable."""
        stored = view.items(self.described) if self.described else {}
        return OnlineReader(
            view,
            self.request.user_id,
            self.time,
            self.candidates,
            now=time.time_ns() // 1000,
            skew=round(self.clock_skew * SECOND),
            inline=self.items(stored),
            history=None if self.history is None else self.history[: self.history_length][::-1],
            history_length=self.history_length,
            query=self.request.query or None,
        )

    def items(self, stored: Mapping[str, StoredItem]) -> dict[str, StoredItem]:
        """The items that came with columns of their own: these win over the stored ones. Raises BadRequest."""
        return {
            item_id: self.columns.merge(stored.get(item_id), row, field, self.warnings)
            for item_id, (field, row) in self.described.items()
        }


def parse_request(request: RankRequest, served: ServedModel, settings: ServingConfig) -> ParsedRequest:
    """What a version reads of a request. Raises BadRequest for too much of something and for a time that is none."""
    check_lengths(request, settings)
    warnings = RequestWarnings()
    ids = [row if isinstance(row, str) else row.item_id for row in request.candidates]
    last = {item_id: index for index, item_id in enumerate(ids)}
    if len(last) < len(ids):
        for index, item_id in enumerate(ids):
            if last[item_id] != index:
                warnings.add("is repeated, the last row of an item counts", f"candidates.{index}.item_id", item_id)
    history = _distinct(request.history or (), "history")
    rows = {item_id: row for item_id, row in history.items() if item_id not in last}
    rows |= _distinct(request.candidates, "candidates")
    moment = _time(request, served.columns.timezone, warnings)
    described = {item_id: row for item_id, row in rows.items() if len(row[1].model_fields_set) > 1}
    check_described_items(described, settings.max_characters)
    return ParsedRequest(
        request,
        list(last),
        None if request.history is None else list(history),
        moment,
        described,
        served.columns,
        served.ranking_model.settings.history_length,
        settings.clock_skew,
        warnings,
    )


def _time(request: RankRequest, timezone: str, warnings: RequestWarnings) -> int | None:
    if request.user_id is not None:
        warnings.check_id(request.user_id, "user_id")
    if request.timestamp is None:
        return None
    timestamp = parse_time(request.timestamp, timezone)
    if timestamp is None:
        raise BadRequest(f"expected {EXPECTED}, got {request.timestamp!r}", "timestamp")
    warnings.check_time(timestamp, "timestamp", request.timestamp)
    return timestamp


def _distinct(rows: Sequence[Item | str], name: str) -> dict[str, tuple[str, Item]]:
    """Rows by item id, the last of each, from the last to the first, with the path of its fields. Mere ids are no
    rows."""
    distinct: dict[str, tuple[str, Item]] = {}
    for index in range(len(rows) - 1, -1, -1):
        row = rows[index]
        if isinstance(row, str):  # as are all others
            break
        distinct.setdefault(row.item_id, (f"{name}.{index}.", row))
    return distinct
