"""The offline reader: every count before the time of every candidate row, columnar over the sorted log.

A `LogIndex` sorts the log once by each key that is counted; the readers of chunks of requests share it and are cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from features.arrays import NO_TIME, CsrLists, Float64, Int64, segment_first, segment_latest, segment_sums
from features.definitions.aggregates import (
    CATALOGUE,
    DATED_CLICK,
    USER,
    Aggregate,
    Count,
    First,
    Key,
    Last,
    category_of,
    event_table_of,
    window_edge,
)
from features.history import Histories, UserClicks, clicked_before, clicks_by_user, histories
from features.log import Catalog, Log, Requests, chunk_bounds, slice_requests
from features.offline.sorted_events import (
    EventColumns,
    Lookups,
    SortedEvents,
    asked_keys,
    counters,
    occurrences,
    sort_lookups,
)

CHUNK_ROWS = 262_144
"""Candidate rows looked up together: the more, the nearer to each other the lookups in a counter, and the faster."""


@dataclass(frozen=True)
class OfflineSettings:
    """How the past is read. delay: microseconds that an event needs to become known. timezone: IANA name, of hour and
    weekday. history_length: latest distinct clicked items of a user. threads: how many look up chunks at a time; the
    values are the same with any number of them.
    """

    delay: int = 0
    timezone: str = "UTC"
    history_length: int = 50
    threads: int = 2


@dataclass
class LogIndex:
    """A log and its sorted counters, each built on first use; `prepare` before threads share it."""

    log: Log
    settings: OfflineSettings = OfflineSettings()
    _occurrences: dict[tuple[str, bool], EventColumns] = field(default_factory=dict)
    _counters: dict[tuple[str, Key, bool], SortedEvents] = field(default_factory=dict)
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
        changes no value. A reader looks nothing up before it is asked.
        """
        self.prepare(reads)
        chunk_rows = min(chunk_rows, -(-requests.n_rows // self.settings.threads))
        for first, end in chunk_bounds(requests.offsets, chunk_rows):
            yield slice(first, end), self.reader(slice_requests(requests, first, end))

    def histories(self, requests: Requests) -> Histories:
        """The histories of `requests`: the latest distinct items that their users clicked before."""
        return histories(self.clicks(), requests, length=self.settings.history_length, delay=self.settings.delay)

    def clicked_before(self, moment: int, *, length: int) -> CsrLists:
        """The latest `length` distinct items that each user clicked strictly before a moment; a row a user."""
        return clicked_before(self.clicks(), moment, length=length)

    def clicks(self) -> UserClicks:
        """The log's clicks by user."""
        if not self._clicks:
            self._clicks.append(clicks_by_user(self.log.events, len(self.log.users)))
        return self._clicks[0]

    def prepare(self, reads: Sequence[Aggregate]) -> None:
        """Build what `reads` need, so that threads only look up."""
        tables = {(event_table_of(read.what), read.by, True) for read in reads}
        tables |= {
            (event_table_of(read.what), read.by, False)
            for read in reads
            if isinstance(read, Count) and read.window is None and self.has_untimed_events(read.what)
        }
        for what, _, dated in sorted(tables):
            self.occurrences(what, dated=dated)
        slowest_first = sorted(tables, key=lambda table: (-len(table[1]), table))
        with ThreadPoolExecutor(self.settings.threads) as pool:
            jobs: list[Future[UserClicks] | Future[SortedEvents]] = [pool.submit(self.clicks)]
            jobs += [pool.submit(self.counters, what, by, dated=dated) for what, by, dated in slowest_first]
            for job in jobs:
                job.result()

    def has_untimed_events(self, what: str) -> bool:
        """Whether `what` counts any event of which only the order is known."""
        return what != DATED_CLICK and len(self.occurrences(what, dated=False)) > 0

    def occurrences(self, what: str, *, dated: bool) -> EventColumns:
        """The events (or shown candidates) of one kind, with a date or without, in time order."""
        kind = event_table_of(what)
        if (kind, dated) not in self._occurrences:
            self._occurrences[kind, dated] = occurrences(self.log, kind, dated=dated)
        return self._occurrences[kind, dated]

    def counters(self, what: str, by: Key, *, dated: bool) -> SortedEvents:
        """The same, sorted by a key."""
        kind = event_table_of(what)
        if (kind, by, dated) not in self._counters:
            self._counters[kind, by, dated] = counters(self.occurrences(kind, dated=dated), by, self.log)
        return self._counters[kind, by, dated]


@dataclass
class OfflineReader:
    """`features.definitions.aggregates.FeatureReader` over a log, for one batch of requests in that log's codes.

    Every probe is put in order once for each key, and every moment searched once for each kind of event; windows share
    both.
    """

    index: LogIndex
    requests: Requests
    _probes: dict[Key, Lookups] = field(default_factory=dict)
    _probes_of: dict[tuple[str, Key, bool], Lookups] = field(default_factory=dict)
    _positions: dict[tuple[str, int | None, bool], Int64] = field(default_factory=dict)
    _n_values: dict[str, Float64] = field(default_factory=dict)
    _counts: dict[Count, Int64] = field(default_factory=dict)
    _ends: dict[tuple[str, Key], Int64] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        """The log's items."""
        return self.index.log.catalog

    @property
    def delay(self) -> int:
        """Microseconds that an event needs to become known."""
        return self.index.settings.delay

    @property
    def timezone(self) -> str:
        """IANA name of the zone of hour and weekday."""
        return self.index.settings.timezone

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

    def count(self, read: Count) -> Int64:
        """Events counted for each candidate row, (n_rows,); looked up once, not to be written to."""
        if read not in self._counts:
            self._counts[read] = self._count(read)
        return self._counts[read]

    def _count(self, read: Count) -> Int64:
        probes, end = self._probes_in(read.what, read.by, dated=True), self._end(read.what, read.by)
        table = self.index.counters(read.what, read.by, dated=True)
        if read.window is None:
            answers = table.count_before(probes.key, end)
        else:
            opens = self._position(read.what, read.window, dated=True)
            answers = table.since(probes.key, opens[probes.request], end)
        found = self._to_rows(probes.in_row_order(answers), read.by)
        if read.window is None and self.index.has_untimed_events(read.what):
            found = found + self._count_undated(read)
        return found

    def _count_undated(self, read: Count) -> Int64:
        probes = self._probes_in(read.what, read.by, dated=False)
        end = self._before(read.what, read.by, dated=False)
        answers = self.index.counters(read.what, read.by, dated=False).count_before(probes.key, end)
        return self._to_rows(probes.in_row_order(answers), read.by)

    def last(self, read: Last) -> Int64:
        """Microseconds of the latest dated event for each candidate row, (n_rows,)."""
        return self._times(read.what, read.by, latest=True)

    def first(self, read: First) -> Int64:
        """Microseconds of the first dated event for each candidate row, (n_rows,)."""
        return self._times(read.what, read.by, latest=False)

    def _times(self, what: str, by: Key, *, latest: bool) -> Int64:
        probes, end = self._probes_in(what, by, dated=True), self._end(what, by)
        table = self.index.counters(what, by, dated=True)
        n = table.count_before(probes.key, end)
        times = probes.in_row_order(table.times(end - 1 if latest else end - n, n > 0), NO_TIME)
        if probes.offsets is None:
            return self._to_rows(times, by)
        return segment_latest(times, probes.offsets) if latest else segment_first(times, probes.offsets)

    def _end(self, what: str, by: Key) -> Int64:
        """Places after the dated occurrences before each probe's request, kept for all windows of one key."""
        kind = event_table_of(what)
        if (kind, by) not in self._ends:
            self._ends[kind, by] = self._before(kind, by, dated=True)
        return self._ends[kind, by]

    def _before(self, what: str, by: Key, *, dated: bool) -> Int64:
        """Places after the occurrences of each probe's key strictly before its request."""
        probes, position = self._probes_in(what, by, dated=dated), self._position(what, None, dated=dated)
        return self.index.counters(what, by, dated=dated).before(probes.key, position[probes.request])

    def _position(self, what: str, window: int | None, *, dated: bool) -> Int64:
        """How many occurrences are strictly before each request, or before a window of it, (n,)."""
        asked = (event_table_of(what), window, dated)
        if asked not in self._positions:
            moments = self.requests.time - self.delay
            if window is not None:
                moments = window_edge(moments, window)
            self._positions[asked] = np.searchsorted(self.index.occurrences(what, dated=dated).time, moments)
        return self._positions[asked]

    def _probes_in(self, what: str, by: Key, *, dated: bool) -> Lookups:
        """The probes of a key that a table of counters can answer."""
        asked = (event_table_of(what), by, dated)
        if asked not in self._probes_of:
            self._probes_of[asked] = self._probes_by(by).of(self.index.counters(what, by, dated=dated))
        return self._probes_of[asked]

    def _probes_by(self, by: Key) -> Lookups:
        if by not in self._probes:
            self._probes[by] = self._make_probes(by)
        return self._probes[by]

    def _make_probes(self, by: Key) -> Lookups:
        requests, log = self.requests, self.index.log
        if by in (CATALOGUE, USER):
            asked = asked_keys(requests.user, requests.user, by, log)
            return sort_lookups(asked, np.arange(len(requests), dtype=np.int32), None)
        request = requests.request_of_row()
        asked = asked_keys(requests.row_user(), requests.item, by, log)
        if asked.owner is None:
            return sort_lookups(asked, request, None)
        column = self.catalog.categories[str(category_of(by))]
        lengths = column.codes.lengths()[requests.item]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return sort_lookups(asked, request[asked.owner], offsets)

    def _to_rows(self, answers: Int64, by: Key) -> Int64:
        """From an answer a probe to one a candidate row."""
        if by in (CATALOGUE, USER):
            return np.repeat(answers, self.requests.lengths())
        offsets = self._probes_by(by).offsets
        return answers if offsets is None else segment_sums(answers, offsets)
