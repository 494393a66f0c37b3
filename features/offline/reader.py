"""The offline reader: every count before the time of every candidate row, columnar over the sorted log.

A `LogIndex` sorts the log once by each key that is counted; the readers of chunks of requests share it and are cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from features.arrays import NO_TIME, CsrLists, Float64, Int64, segment_first, segment_latest, segment_sums
from features.clock import window_edge
from features.definitions.aggregates import (
    DATED_CLICK,
    GLOBAL,
    USER,
    Aggregate,
    Count,
    Key,
    Last,
    category_of,
    event_table_of,
    within,
)
from features.history import Histories, UserClicks, clicked_before, clicks_by_user, histories
from features.log import Catalog, Log, Requests, chunk_bounds, slice_requests
from features.offline.sorted_events import (
    EventColumns,
    Lookups,
    SortedEvents,
    lookup_keys,
    select_events,
    sort_events,
    sort_lookups,
)
from features.tables.data_settings import DataSettings

CHUNK_ROWS = 262_144
"""Candidate rows looked up together: the more, the nearer to each other the lookups in a counter, and the faster."""


@dataclass(frozen=True)
class OfflineSettings:
    """How the past is read. data: when events become known, and the zone of hour and weekday. history_length: latest
    distinct clicked items of a user. threads: how many look up chunks at a time; they change no value.
    """

    data: DataSettings = field(default_factory=DataSettings)
    history_length: int = 50
    threads: int = 2


@dataclass
class LogIndex:
    """A log and its sorted counters, each built on first use; `prepare` before threads share it."""

    log: Log
    settings: OfflineSettings = field(default_factory=OfflineSettings)
    _events: dict[tuple[str, bool], EventColumns] = field(default_factory=dict)
    _sorted: dict[tuple[str, Key, bool], SortedEvents] = field(default_factory=dict)
    _clicks: list[UserClicks] = field(default_factory=list)

    def with_settings(self, settings: OfflineSettings) -> LogIndex:
        """The same log and counters, read with other settings."""
        return replace(self, settings=settings)

    def reader(self, requests: Requests) -> OfflineReader:
        """A reader for `requests` in the log's codes."""
        return OfflineReader(self, requests)

    def chunks(
        self, requests: Requests, reads: Sequence[Aggregate], *, chunk_rows: int = CHUNK_ROWS
    ) -> Iterator[tuple[slice, OfflineReader]]:
        """Runs of `requests` in order, each with a reader that answers `reads`; for use by several threads.

        A run has at most `chunk_rows` candidate rows, or one request: that bounds the memory beside the index, and
        changes no value. A reader looks up an aggregate on its first use.
        """
        self.prepare(reads)
        chunk_rows = min(chunk_rows, -(-requests.n_rows // self.settings.threads))
        for first, end in chunk_bounds(requests.offsets, chunk_rows):
            yield slice(first, end), self.reader(slice_requests(requests, first, end))

    @property
    def horizon(self) -> int | None:
        """Microseconds that any read looks back, None for no limit."""
        return self.settings.data.horizon

    def histories(self, requests: Requests) -> Histories:
        """The histories of `requests`: the latest distinct items that their users clicked before."""
        length, delay = self.settings.history_length, self.settings.data.event_delay
        return histories(self.clicks(), requests, length=length, delay=delay, horizon=self.horizon)

    def clicked_before(self, time: int, *, length: int) -> CsrLists:
        """The latest `length` distinct items that each user clicked strictly before a time; a row a user."""
        return clicked_before(self.clicks(), time, length=length, horizon=self.horizon)

    def clicks(self) -> UserClicks:
        """The log's clicks by user."""
        if not self._clicks:
            self._clicks.append(clicks_by_user(self.log.events, len(self.log.users)))
        return self._clicks[0]

    def prepare(self, reads: Sequence[Aggregate]) -> None:
        """Build what `reads` need, so that threads only look up."""
        reads = [within(read, self.horizon) for read in reads]
        tables = {(event_table_of(read.event_type), read.key, True) for read in reads}
        tables |= {
            (event_table_of(read.event_type), read.key, False)
            for read in reads
            if isinstance(read, Count) and read.window is None and self.has_untimed_events(read.event_type)
        }
        for event_type, _, dated in sorted(tables):
            self.events(event_type, dated=dated)
        slowest_first = sorted(tables, key=lambda table: (-len(table[1]), table))
        with ThreadPoolExecutor(self.settings.threads) as pool:
            jobs: list[Future[UserClicks] | Future[SortedEvents]] = [pool.submit(self.clicks)]
            jobs += [pool.submit(self.sorted_events, *table[:2], dated=table[2]) for table in slowest_first]
            for job in jobs:
                job.result()

    def has_untimed_events(self, event_type: str) -> bool:
        """Whether a type has any event of which only the order is known."""
        return event_type != DATED_CLICK and len(self.events(event_type, dated=False)) > 0

    def events(self, event_type: str, *, dated: bool) -> EventColumns:
        """The events of a type, or the candidates of impressions, with a time or without, in time order."""
        table = event_table_of(event_type)
        if (table, dated) not in self._events:
            self._events[table, dated] = select_events(self.log, table, dated=dated)
        return self._events[table, dated]

    def sorted_events(self, event_type: str, key: Key, *, dated: bool) -> SortedEvents:
        """The events of `events`, sorted by a key."""
        table = event_table_of(event_type)
        if (table, key, dated) not in self._sorted:
            self._sorted[table, key, dated] = sort_events(self.events(table, dated=dated), key, self.log)
        return self._sorted[table, key, dated]


@dataclass
class OfflineReader:
    """`features.definitions.aggregates.FeatureReader` over a log, for one batch of requests in that log's codes.

    The lookups of a key are sorted once, and every time is searched once for each type of event; windows share both.
    """

    index: LogIndex
    requests: Requests
    _lookups: dict[Key, Lookups] = field(default_factory=dict)
    _positions: dict[tuple[str, int | None, bool], Int64] = field(default_factory=dict)
    _ends: dict[tuple[str, Key, bool], tuple[Lookups, Int64]] = field(default_factory=dict)
    _n_values: dict[str, Float64] = field(default_factory=dict)
    _answers: dict[Aggregate, Int64] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        """The log's items."""
        return self.index.log.catalog

    @property
    def delay(self) -> int:
        """Microseconds that an event needs to become known."""
        return self.index.settings.data.event_delay

    @property
    def timezone(self) -> str:
        """IANA name of the zone of hour and weekday."""
        return self.index.settings.data.timezone

    @cached_property
    def histories(self) -> Histories:
        """Each request's latest clicked items before its time."""
        return self.index.histories(self.requests)

    def n_values(self, column: str) -> Float64:
        """How many values of a categorical column each candidate row's item has, (n_rows,)."""
        if column not in self._n_values:
            lengths = self.catalog.categories[column].codes.lengths()
            self._n_values[column] = lengths[self.requests.item].astype(np.float64)
        return self._n_values[column]

    def answers(self, reads: Sequence[Aggregate], rows: slice) -> Int64:
        """Counts and times of some candidate rows, (n_reads, n); looked up once for all rows."""
        answers = [self._answer(read)[rows] for read in reads]
        return np.stack(answers) if answers else np.empty((0, 0), np.int64)

    def count(self, read: Count) -> Int64:
        """Events counted for each candidate row, (n_rows,); looked up once, not to be written to."""
        return self._answer(read)

    def _answer(self, read: Aggregate) -> Int64:
        read = within(read, self.index.horizon)
        if read not in self._answers:
            if isinstance(read, Count):
                self._answers[read] = self._counts(read)
            else:
                self._answers[read] = self._times(read.event_type, read.key, latest=isinstance(read, Last))
        return self._answers[read]

    def _counts(self, read: Count) -> Int64:
        counts = self._count(read, dated=True)
        if read.window is None and self.index.has_untimed_events(read.event_type):
            counts = counts + self._count(read, dated=False)
        return counts

    def _count(self, read: Count, *, dated: bool) -> Int64:
        lookups, events, end = self._find(read.event_type, read.key, dated=dated)
        if read.window is None:
            answers = events.count_before(lookups.key, end)
        else:
            opens = self._position(read.event_type, read.window, dated=dated)
            answers = events.count_in_window(lookups.key, opens[lookups.request], end)
        return self._to_rows(read.key, lookups.in_row_order(answers), lookups.offsets, segment_sums)

    def _times(self, event_type: str, key: Key, *, latest: bool) -> Int64:
        lookups, events, end = self._find(event_type, key, dated=True)
        if self.index.horizon is None:
            n = events.count_before(lookups.key, end)
        else:
            opens = self._position(event_type, self.index.horizon, dated=True)
            n = events.count_in_window(lookups.key, opens[lookups.request], end)
        times = lookups.in_row_order(events.times(end - 1 if latest else end - n, n > 0), NO_TIME)
        return self._to_rows(key, times, lookups.offsets, segment_latest if latest else segment_first)

    def _find(self, event_type: str, key: Key, *, dated: bool) -> tuple[Lookups, SortedEvents, Int64]:
        """The lookups of a key that its sorted events can answer, these events, and the index after each lookup's
        events strictly before its request, kept for all windows of the key."""
        table = (event_table_of(event_type), key, dated)
        events = self.index.sorted_events(event_type, key, dated=dated)
        if table not in self._ends:
            lookups = self._lookups_of(key).numbered(events)
            position = self._position(event_type, None, dated=dated)
            self._ends[table] = lookups, events.end_before(lookups.key, position[lookups.request])
        lookups, end = self._ends[table]
        return lookups, events, end

    def _position(self, event_type: str, window: int | None, *, dated: bool) -> Int64:
        """How many events are strictly before each request, or before a window of it, (n,)."""
        searched = (event_table_of(event_type), window, dated)
        if searched not in self._positions:
            as_of = self.requests.time - self.delay
            if window is not None:
                as_of = window_edge(as_of, window)
            self._positions[searched] = np.searchsorted(self.index.events(event_type, dated=dated).time, as_of)
        return self._positions[searched]

    def _lookups_of(self, key: Key) -> Lookups:
        if key not in self._lookups:
            self._lookups[key] = self._sort_lookups(key)
        return self._lookups[key]

    def _sort_lookups(self, key: Key) -> Lookups:
        requests, log = self.requests, self.index.log
        if key in (GLOBAL, USER):
            keys = lookup_keys(requests.user, requests.user, key, log)
            return sort_lookups(keys, np.arange(len(requests), dtype=np.int32), None)
        request = requests.request_of_row()
        keys = lookup_keys(requests.row_user(), requests.item, key, log)
        if keys.owner is None:
            return sort_lookups(keys, request, None)
        lengths = self.catalog.categories[str(category_of(key))].codes.lengths()[requests.item]
        return sort_lookups(keys, request[keys.owner], np.append(0, np.cumsum(lengths)))

    def _to_rows(
        self, key: Key, answers: Int64, offsets: Int64 | None, combine: Callable[[Int64, Int64], Int64]
    ) -> Int64:
        """One answer for each candidate row, from one for each lookup. combine: of the answers of a row's segment."""
        if offsets is not None:
            return combine(answers, offsets)
        return np.repeat(answers, self.requests.lengths()) if key in (GLOBAL, USER) else answers
