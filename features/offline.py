"""The offline reader: every count before the time of every candidate row, columnar over the sorted log.

A `LogIndex` sorts the log once by each key that is asked for; readers over chunks of requests share it and are cheap.
Memory beside the index is bounded by the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from features.counters import Counters, Occurrences, Probes, ascending, counters, event_keys, occurrences
from features.definitions import Feature
from features.history import Clicks, Histories, clicked_before, clicks_by_user, histories
from features.log import Catalog, Float32, Float64, Int64, Log, Ragged, Requests
from features.matrix import column_names, feature_matrix
from features.reads import (
    CATALOGUE,
    CLICK,
    DATED_CLICK,
    USER,
    Count,
    First,
    Key,
    Last,
    Read,
    category_of,
    segment_first,
    segment_latest,
    segment_sums,
    window_edge,
)

CHUNK_ROWS = 65_536


@dataclass
class LogIndex:
    """A log and its sorted counters, each built when first asked for and kept; `prepare` before sharing by threads."""

    log: Log
    _occurrences: dict[tuple[str, bool], Occurrences] = field(default_factory=dict)
    _counters: dict[tuple[str, Key, bool], Counters] = field(default_factory=dict)
    _clicks: Clicks | None = None

    def reader(self, requests: Requests, history: Histories, *, delay: int = 0, timezone: str = "UTC") -> OfflineReader:
        """A reader for `requests` and their histories. delay: microseconds that an event needs to become known.
        timezone: IANA name, of hour and weekday.
        """
        return OfflineReader(self, requests, history, delay, timezone)

    def histories(self, requests: Requests, *, length: int = 50, delay: int = 0) -> Histories:
        """The histories of `requests`: the latest `length` distinct items their users clicked before."""
        return histories(self._by_user(), requests, length=length, delay=delay)

    def clicked_before(self, moment: int, *, length: int) -> Ragged:
        """The latest `length` distinct items that each user clicked strictly before a moment; a row a user."""
        return clicked_before(self._by_user(), moment, length=length)

    def _by_user(self) -> Clicks:
        if self._clicks is None:
            self._clicks = clicks_by_user(self.log.events, len(self.log.users))
        return self._clicks

    def prepare(self, reads: Sequence[Read]) -> None:
        """Build what `reads` need, so that threads only look up."""
        for read in reads:
            self.counters(read.what, read.by, dated=True)
            if isinstance(read, Count) and read.window is None and self.has_undated(read.what):
                self.counters(read.what, read.by, dated=False)

    def has_undated(self, what: str) -> bool:
        """Whether `what` counts any event of which only the order is known."""
        return what != DATED_CLICK and len(self.occurrences(what, dated=False)) > 0

    def occurrences(self, what: str, *, dated: bool) -> Occurrences:
        """The events (or shown candidates) of one kind, with a date or without, in time order."""
        kind = CLICK if what == DATED_CLICK else what
        if (kind, dated) not in self._occurrences:
            self._occurrences[kind, dated] = occurrences(self.log, kind, dated=dated)
        return self._occurrences[kind, dated]

    def counters(self, what: str, by: Key, *, dated: bool) -> Counters:
        """The same, sorted by a key."""
        kind = CLICK if what == DATED_CLICK else what
        if (kind, by, dated) not in self._counters:
            self._counters[kind, by, dated] = counters(self.occurrences(kind, dated=dated), by, self.log)
        return self._counters[kind, by, dated]


@dataclass
class OfflineReader:
    """`features.reads.Reader` over a log, for one batch of requests in that log's codes."""

    index: LogIndex
    requests: Requests
    histories: Histories
    delay: int
    timezone: str
    _probes: dict[Key, Probes] = field(default_factory=dict)
    _n_values: dict[str, Float64] = field(default_factory=dict)
    _counts: dict[Count, Int64] = field(default_factory=dict)
    _ends: dict[tuple[str, Key], Int64] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        """The log's items."""
        return self.index.log.catalog

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
        probes = self._probes_by(read.by)
        table = self.index.counters(read.what, read.by, dated=True)
        end = self._end(read.what, read.by)
        if read.window is not None:
            moments = window_edge(self.requests.time - self.delay, read.window)
            answers = end - self._before(read.what, read.by, moments, dated=True)
        else:
            answers = table.n_of_key(probes.key, end)
            if self.index.has_undated(read.what):
                undated = self.index.counters(read.what, read.by, dated=False)
                end = self._before(read.what, read.by, self.requests.time - self.delay, dated=False)
                answers = answers + undated.n_of_key(probes.key, end)
        return self._to_rows(probes.unsorted(answers), read.by)

    def last(self, read: Last) -> Int64:
        """Microseconds of the latest dated event for each candidate row, (n_rows,)."""
        return self._times(read.what, read.by, latest=True)

    def first(self, read: First) -> Int64:
        """Microseconds of the first dated event for each candidate row, (n_rows,)."""
        return self._times(read.what, read.by, latest=False)

    def _times(self, what: str, by: Key, *, latest: bool) -> Int64:
        probes, end = self._probes_by(by), self._end(what, by)
        table = self.index.counters(what, by, dated=True)
        n = table.n_of_key(probes.key, end)
        times = probes.unsorted(table.times(end - 1 if latest else end - n, n > 0))
        if probes.offsets is None:
            return self._to_rows(times, by)
        return segment_latest(times, probes.offsets) if latest else segment_first(times, probes.offsets)

    def _end(self, what: str, by: Key) -> Int64:
        """Places after the dated occurrences before each probe's request, kept for all windows of one key."""
        kind = CLICK if what == DATED_CLICK else what
        if (kind, by) not in self._ends:
            self._ends[kind, by] = self._before(kind, by, self.requests.time - self.delay, dated=True)
        return self._ends[kind, by]

    def _before(self, what: str, by: Key, moments: Int64, *, dated: bool) -> Int64:
        """Places after the occurrences of each probe's key strictly before its request's moment."""
        probes = self._probes_by(by)
        position = np.searchsorted(self.index.occurrences(what, dated=dated).time, moments)
        return self.index.counters(what, by, dated=dated).before(probes.key, position[probes.request])

    def _probes_by(self, by: Key) -> Probes:
        if by not in self._probes:
            self._probes[by] = self._make_probes(by)
        return self._probes[by]

    def _make_probes(self, by: Key) -> Probes:
        requests, log = self.requests, self.index.log
        if by in (CATALOGUE, USER):
            key = event_keys(requests.user, requests.user, by, log)[0]
            return ascending(key, np.arange(len(requests)), None)
        request = requests.request_of_row().astype(np.int64)
        key, owner, _ = event_keys(requests.row_user(), requests.item, by, log)
        if owner is None:
            return ascending(key, request, None)
        column = self.catalog.categories[str(category_of(by))]
        lengths = column.codes.lengths()[requests.item]
        return ascending(key, request[owner], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    def _to_rows(self, answers: Int64, by: Key) -> Int64:
        """From an answer a probe to one a candidate row."""
        if by in (CATALOGUE, USER):
            return np.repeat(answers, self.requests.lengths())
        offsets = self._probes_by(by).offsets
        return answers if offsets is None else segment_sums(answers, offsets)


def log_matrix(
    features: Sequence[Feature],
    index: LogIndex,
    requests: Requests,
    history: Histories,
    *,
    delay: int = 0,
    timezone: str = "UTC",
    threads: int = 2,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[tuple[str, ...], Float32]:
    """`feature_matrix` of any number of requests, chunk by chunk on `threads` threads; the same values at any chunk."""
    index.prepare(tuple(dict.fromkeys(read for feature in features for read in feature.measure.reads())))
    names = column_names(features)
    matrix = np.empty((requests.n_rows, len(names)), np.float32)

    def fill(bounds: tuple[int, int]) -> None:
        part, known = slice_requests(requests, history, *bounds)
        reader = index.reader(part, known, delay=delay, timezone=timezone)
        matrix[requests.offsets[bounds[0]] : requests.offsets[bounds[1]]] = feature_matrix(features, reader)[1]

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(fill, request_chunks(requests, chunk_rows)))
    return names, matrix


def request_chunks(requests: Requests, rows: int) -> list[tuple[int, int]]:
    """Bounds (first, end) of runs of requests with at most `rows` candidates each, or with one request."""
    bounds, first = [], 0
    while first < len(requests):
        end = int(np.searchsorted(requests.offsets, requests.offsets[first] + rows, side="right")) - 1
        end = min(max(end, first + 1), len(requests))
        bounds.append((first, end))
        first = end
    return bounds


def slice_requests(requests: Requests, history: Histories, first: int, end: int) -> tuple[Requests, Histories]:
    """Requests first to end and their histories, without copying rows."""
    rows = requests.offsets[first : end + 1]
    items = history.items.offsets[first : end + 1]
    query = None if requests.query is None else requests.query[first:end]
    part = Requests(
        requests.user[first:end], requests.time[first:end], rows - rows[0], requests.item[rows[0] : rows[-1]], query
    )
    codes = history.items.codes[items[0] : items[-1]]
    return part, Histories(Ragged(items - items[0], codes), history.times[items[0] : items[-1]])
