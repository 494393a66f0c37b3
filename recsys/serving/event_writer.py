"""Events, impressions and items as they are posted: each row is checked alone, usable ones are on disk on return."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from features.clock import SECOND
from features.definitions.aggregates import IMPRESSION
from features.online import events as arrivals
from features.online.items import StoredItem
from features.online.state import OnlineState
from features.tables.event_types import canonical_type, doubt_of
from features.tables.timestamps import EXPECTED, parse_time
from recsys.config import ServingConfig
from recsys.serving import schemas
from recsys.serving.errors import BadRequest, describe_error, field_path, most_telling
from recsys.serving.item_parsing import RequestItemColumns
from recsys.serving.limits import check_posted_items, check_text
from recsys.serving.plain_events import plain_event
from recsys.serving.prometheus import Telemetry
from recsys.serving.request_warnings import RequestWarnings
from recsys.serving.served_model import ServedModel

Rejected = dict[int, tuple[str, str]]
"""Code and message by the row's index in the batch."""


class Writer:
    """Writes to the online state. served: gives the version that answers now. encode_too: called with posted items, to
    have them encoded for other versions."""

    def __init__(
        self,
        state: OnlineState,
        settings: ServingConfig,
        served: Callable[[], ServedModel],
        telemetry: Telemetry,
        encode_too: Callable[[Mapping[str, StoredItem]], object] | None = None,
    ) -> None:
        self._state = state
        self._settings = settings
        self._served = served
        self._telemetry = telemetry
        self._encode_too = encode_too
        self._is_doubtful_type = lru_cache(maxsize=1024)(
            lambda event_type: state.settings.is_positive(event_type) and doubt_of(event_type) is not None
        )

    def add_events(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Count events and impressions, each once. Raises BadRequest for too many, StoreError where none is kept."""
        self._check_size(rows, "events")
        rejected: Rejected = {}
        warnings = RequestWarnings()
        read: list[arrivals.IncomingEvent | arrivals.Impression] = []
        places: list[int] = []
        timezone = self._served().columns.timezone
        for index, row in enumerate(rows):
            try:
                read.append(self._read_event(row, timezone, warnings.within(f"events.{index}.")))
                places.append(index)
            except (ValidationError, BadRequest) as error:
                rejected[index] = reason(error, schemas.Event.model_fields)
        latest = time.time_ns() // 1000 + round(self._settings.future_seconds * SECOND)
        for reject in self._state.add(read, latest=latest):
            rejected[places[reject.index]] = (reject.code, reject.message)
        self._telemetry.events.labels("accepted").inc(len(rows) - len(rejected))
        self._telemetry.events.labels("rejected").inc(len(rejected))
        return warnings.add_to(batch_answer(len(rows), rejected))

    def _read_event(
        self, row: Any, timezone: str, warnings: RequestWarnings
    ) -> arrivals.IncomingEvent | arrivals.Impression:
        """A row as the online state takes it. Raises ValidationError or BadRequest for one that cannot be used."""
        event = plain_event(row, timezone)
        if event is not None and not self._is_doubtful(event, warnings):
            return event
        check_object(row)
        posted = schemas.Event.model_validate(row)
        read = read_event(posted, timezone)
        self._warn(posted, read, warnings)
        return read

    def _is_doubtful(self, event: arrivals.IncomingEvent, warnings: RequestWarnings) -> bool:
        """Whether `_warn` may have something to say about an event."""
        return (
            warnings.is_doubtful(event.time, event.user_id, event.item_id, event.impression_id, event.event_id)
            or (event.value is None and self._state.settings.data.positive is not None)
            or self._is_doubtful_type(event.event_type)
        )

    def add_items(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Store items: a row replaces the stored item, the last of several rows counts. Their texts are encoded before
        this returns. Raises BadRequest for too many, StoreError where none is kept."""
        self._check_size(rows, "items")
        check_posted_items(rows, self._settings.max_characters)
        rejected: Rejected = {}
        warnings = RequestWarnings()
        items: dict[str, StoredItem] = {}
        served = self._served()
        for index, row in enumerate(rows):
            try:
                item = _read_item(row, served.columns, warnings.within(f"items.{index}."))
            except (ValidationError, BadRequest) as error:
                rejected[index] = reason(error, schemas.Item.model_fields)
                continue
            if item.item_id in items:
                warnings.add("is repeated, the last row of an item counts", f"items.{index}.item_id", item.item_id)
            items[item.item_id] = item
        self._state.add_items(list(items.values()))
        served.online.encode(items)
        if self._encode_too is not None:
            self._encode_too(items)
        self._telemetry.items.labels("accepted").inc(len(rows) - len(rejected))
        self._telemetry.items.labels("rejected").inc(len(rejected))
        return warnings.add_to(batch_answer(len(rows), rejected))

    def _warn(
        self, event: schemas.Event, read: arrivals.IncomingEvent | arrivals.Impression, warnings: RequestWarnings
    ) -> None:
        """Warn of doubtful values in an accepted event."""
        warnings.check_ids(event)
        warnings.check_time(read.time, "timestamp", event.timestamp)
        if isinstance(read, arrivals.IncomingEvent):
            click = self._state.settings.is_positive(event.event_type)
            warnings.check_type(event.event_type, click=click)
            name, rule = canonical_type(event.event_type), self._state.settings.data.positive_rule
            if click and event.value is None and arrivals.counted_type(name, None, rule) != name:
                warnings.add("is no number, so that data.positive takes the event for no click", "value", None)

    def _check_size(self, rows: Sequence[Any], field: str) -> None:
        if len(rows) > self._settings.max_rows:
            raise BadRequest(f"expected at most {self._settings.max_rows:,} rows, got {len(rows):,}; send fewer", field)


def read_event(event: schemas.Event, timezone: str) -> arrivals.IncomingEvent | arrivals.Impression:
    """An event or an impression as the online state takes them. Raises BadRequest naming the field."""
    timestamp = parse_time(event.timestamp, timezone)
    if timestamp is None:
        raise BadRequest(f"expected {EXPECTED}, got {event.timestamp!r}", "timestamp")
    if canonical_type(event.event_type) == IMPRESSION:
        items = event.items if event.items is not None else [event.item_id] if event.item_id is not None else []
        return arrivals.Impression(event.user_id, tuple(items), timestamp, event.impression_id)
    if event.item_id is None:
        raise BadRequest("expected the id of one item, found none; a shown list has event_type 'impression'", "item_id")
    return arrivals.IncomingEvent(
        event.user_id, event.item_id, timestamp, event.event_type, event.impression_id, event.event_id, event.value
    )


def _read_item(row: Any, columns: RequestItemColumns, warnings: RequestWarnings) -> StoredItem:
    check_object(row)
    read = schemas.Item.model_validate(row)
    if "title" not in read.model_fields_set:
        raise BadRequest("expected a title, found none; null is an item without one", "title")
    problem = arrivals.id_problem("item_id", read.item_id)
    if problem is not None:
        raise BadRequest(problem[1].partition(": ")[2], "item_id")
    warnings.check_id(read.item_id, "item_id")
    for name, value in read.columns().items():
        check_text(value, name)
    return columns.merge(None, read, warnings=warnings)


def check_object(row: Any) -> None:
    """Raise BadRequest where a row is no object."""
    if not isinstance(row, dict):
        raise BadRequest(f"expected an object, got {type(row).__name__}")


def reason(error: ValidationError | BadRequest, keys: Iterable[str]) -> tuple[str, str]:
    """Code and message of a rejected row. keys: those that it may have."""
    if isinstance(error, BadRequest):
        return f"bad_{error.field or 'row'}", f"{error.field}: {error}" if error.field else str(error)
    detail = most_telling(error.errors(include_url=False))
    field, message = field_path(detail["loc"]), describe_error(detail, keys)
    return f"bad_{field.partition('.')[0] or 'row'}", f"{field}: {message}" if field else message


def batch_answer(n_rows: int, rejected: Rejected) -> dict[str, Any]:
    """The contract's answer to a batch."""
    rows = [{"index": index, "code": code, "message": message} for index, (code, message) in sorted(rejected.items())]
    return {"accepted": n_rows - len(rows), "rejected": rows}
