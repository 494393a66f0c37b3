"""Exact replay: lists run through the online path in time order, against the offline matrix, feature by feature.

The rows of the tables reach an online store in order of arrival: each event and list after every list of its time or
earlier was ranked. The store matches clicked rows with events. Every value of every candidate row must equal the
offline one to the last bit; NaN equals NaN.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from features.arrays import Float32, Int64
from features.clock import format_time
from features.definitions.builtin import required_aggregates
from features.errors import StoreError
from features.log import Impressions
from features.online.events import Impression, IncomingEvent
from features.online.reader import OnlineReader
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from recsys.audit.context import AuditContext
from recsys.audit.differences import Difference, DifferenceTally, difference_lines
from recsys.encoder.model import Encoder
from recsys.encoder.text_model import NoEncoder
from recsys.metrics.jsonable import jsonable
from recsys.online.model import OnlineModel

_AT_ONCE = 2000
_FED_AT_ONCE = 5000
_CACHED_TEXTS = 200_000


@dataclass(frozen=True)
class ReplayFeed:
    """What reaches the store, in order of arrival. time: (n,) ascending, microseconds. arrivals: n of them."""

    time: Int64
    arrivals: Sequence[IncomingEvent | Impression]


@dataclass(frozen=True)
class ReplayReport:
    """lists, rows, columns: what was compared. first, last: times of the lists, microseconds; None without any.
    arrivals: how many reached the store. refused: code to how many it did not take. seconds: of the whole."""

    lists: int
    rows: int
    columns: int
    first: int | None
    last: int | None
    arrivals: int
    refused: Mapping[str, int]
    differences: tuple[Difference, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no value differs."""
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys audit --replay --json`."""
        return {
            "passed": self.passed,
            **jsonable(self),
            "first": None if self.first is None else format_time(self.first),
            "last": None if self.last is None else format_time(self.last),
            "differences": [difference.as_dict() for difference in self.differences],
            "seconds": round(self.seconds, 3),
        }

    def lines(self) -> list[str]:
        """The report for a person; the last line is the figure."""
        lines = []
        if self.first is not None and self.last is not None:
            lines.append(f"lists from {format_time(self.first)} to {format_time(self.last)}")
        lines.append(f"{self.arrivals:,} events and lists reached the store, {self.seconds:.0f} s in all")
        lines += [f"not taken by the store: {count:,} x {code}" for code, count in self.refused.items()]
        of_what = f"{self.columns} columns of {self.rows:,} candidates in {self.lists:,} lists"
        return [*lines, *difference_lines(self.differences, self.rows * self.columns, of_what)]


class OnlinePath:
    """The columns of one request as the server computes them, from an online state that is fed as time goes by."""

    def __init__(self, context: AuditContext, state: OnlineState, feed: ReplayFeed) -> None:
        self._state = state
        self._feed = feed
        self._model = OnlineModel(
            state,
            context.features,
            served_encoder(context),
            context.lexical,
            context.texts.collaborative,
            context.training.config.encoder.template,
            read=context.texts.read,
            cached_texts=_CACHED_TEXTS,
        )
        self.fed = 0
        self.refused: dict[str, int] = {}

    def matrix(self, user: str | None, time: int, candidates: Sequence[str], query: str | None) -> Float32:
        """The columns of a request, (n_candidates, n_columns), from what arrived before its time."""
        self._advance(time)
        self._model.refresh(time)
        with self._state.snapshot() as view:
            reader = OnlineReader(view, user, time, candidates, now=time, query=query)
            return self._model.matrix(view, reader).values

    def _advance(self, timestamp: int) -> None:
        """Write to the store what arrived before a timestamp and is not written yet."""
        end = int(np.searchsorted(self._feed.time, timestamp))
        for start in range(self.fed, end, _FED_AT_ONCE):
            due = self._feed.arrivals[start : min(start + _FED_AT_ONCE, end)]
            impressions = [arrival for arrival in due if isinstance(arrival, Impression)]
            events = [arrival for arrival in due if isinstance(arrival, IncomingEvent)]
            for rejected in self._state.add([*events, *impressions]):
                self.refused[rejected.code] = self.refused.get(rejected.code, 0) + 1
        self.fed = max(end, self.fed)


def served_encoder(context: AuditContext) -> Encoder | NoEncoder:
    """The encoder that answers online. Raises ValueError where the context has only what is kept of a past state."""
    model = context.texts.served
    if not isinstance(model, Encoder | NoEncoder):
        raise ValueError(f"expected a whole encoder to replay with, got {type(model).__name__}")
    return model


def replay(context: AuditContext, state: OnlineState, feed: ReplayFeed, impressions: Impressions) -> ReplayReport:
    """Rank `impressions`, which are in time order, online and offline, and compare every value.

    state: an empty one that knows the items. Raises StoreError where it cannot be read or written.
    """
    started = time.perf_counter()
    online, tally = OnlinePath(context, state, feed), DifferenceTally()
    n = len(impressions)
    with tqdm(total=n, desc="replay", unit="list", leave=False, disable=not sys.stderr.isatty()) as bar:
        for first in range(0, n, _AT_ONCE):
            chunk = impressions.take(np.arange(first, min(first + _AT_ONCE, n)))
            rows = [_online_rows(context, online, chunk, position, bar) for position in range(len(chunk))]
            offline = context.columns(chunk.requests)
            tally.add(context.names, offline, np.concatenate(rows), partial(context.row, chunk))
    times = impressions.requests.time
    return ReplayReport(
        lists=n,
        rows=impressions.requests.n_rows,
        columns=len(context.names),
        first=int(times[0]) if n else None,
        last=int(times[-1]) if n else None,
        arrivals=online.fed,
        refused=online.refused,
        differences=tally.differences(),
        seconds=time.perf_counter() - started,
    )


def _online_rows(
    context: AuditContext, online: OnlinePath, impressions: Impressions, position: int, bar: Any
) -> Float32:
    requests, log = impressions.requests, context.log
    user = int(requests.user[position])
    candidates = log.catalog.ids[requests.item[requests.offsets[position] : requests.offsets[position + 1]]].tolist()
    query = None if requests.query is None else requests.query[position]
    bar.update()
    return online.matrix(None if user < 0 else str(log.users[user]), int(requests.time[position]), candidates, query)


def replay_settings(context: AuditContext) -> StoreSettings:
    """What the store of a replay has to answer and hold."""
    config, catalog = context.training.config, context.log.catalog
    absent = [name for name in config.features.vectors if name not in catalog.vectors]
    if absent:
        raise StoreError(f"expected vectors of items in columns {absent!r}, found none in the items table")
    return StoreSettings(
        reads=required_aggregates(context.features),
        data=config.data,
        history_length=context.texts.served.history_length,
        categories=tuple(sorted(catalog.categories)),
        numbers=tuple(sorted(catalog.numbers)),
        vectors=tuple((name, int(catalog.vectors[name].shape[1])) for name in config.features.vectors),
    )
