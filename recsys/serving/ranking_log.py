"""Logs answered rankings with their features, beside the requests: a bounded queue, and one thread that writes files.

    with open_ranking_log(settings, telemetry) as service.ranking_log:
        ...

Which rankings are logged is decided by their request ids, so that all workers decide alike. What does not fit into
the queue is dropped, and what cannot be written is lost; both are counted, and no ranking fails or waits for it. At
the end all that waits is written.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from recsys.serving.prometheus import Telemetry
from recsys.serving.ranking_files import RankingFiles
from recsys.serving.ranking_rows import LoggedRanking, table_of, weight_of
from recsys.serving.request_parsing import ParsedRequest
from recsys.serving.rungs import Ranking
from recsys.settings.serving import ServingConfig

logger = logging.getLogger(__name__)
_HASHES = 1 << 64
PRUNE_SECONDS = 3600.0
"""How often old files are looked for, beside when much was written: each look reads the whole folder."""
_CLOSE_SECONDS = 4.0
"""How long the last file may take, so that a disk that hangs does not keep a server from ending."""


class RankingLog:
    """A log into files. Safe for threads. share: of the rankings that are logged, 0 to 1. file_rows, file_seconds: a
    file is written when so many candidates wait, or the first of them for so long."""

    def __init__(
        self, files: RankingFiles, telemetry: Telemetry, *, share: float, file_rows: int, file_seconds: float
    ) -> None:
        self._files = files
        self._telemetry = telemetry
        self._below = share * _HASHES
        self._file_rows, self._file_seconds = file_rows, file_seconds
        self._queue: SimpleQueue[LoggedRanking | None] = SimpleQueue()
        self._waiting, self._lock = 0, Lock()
        self._failed = False
        self._thread = Thread(target=self._run, name="ranking-log", daemon=True)
        self._thread.start()

    def add(
        self,
        request_id: str,
        parsed: ParsedRequest,
        ranking: Ranking,
        names: Mapping[str, str | None],
        *,
        propensity: float | None,
    ) -> None:
        """Log a ranking, if its request id is one of the share. names: of the version that answered. propensity: the
        probability with which this version answered this user, 0 to 1; None where it stood in for another one."""
        if not self.takes(request_id):
            return
        n = len(parsed.candidates)
        weight = weight_of(n, parsed.request.query)
        with self._lock:
            fits = self._waiting + weight <= 2 * self._file_rows or not self._waiting
            self._waiting += weight if fits else 0
        if fits:
            self._queue.put(LoggedRanking.of(request_id, parsed, ranking, names, propensity=propensity))
        else:
            self._telemetry.logged_rows.labels("dropped").inc(n)

    def takes(self, request_id: str) -> bool:
        """Whether the ranking of a request is logged."""
        digest = hashlib.blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._below

    def close(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            logger.warning("the last rankings are not logged: writing them takes over %g s", _CLOSE_SECONDS)

    def _run(self) -> None:
        """Gather rankings and write them, until None comes."""
        gathered: list[LoggedRanking] = []
        weight, due, prune_at = 0, math.inf, time.monotonic()
        while True:
            now = time.monotonic()
            if gathered and (weight >= self._file_rows or now >= due):
                self._write(gathered)
                gathered, weight, due = [], 0, math.inf
            if now >= prune_at or self._files.has_written_much:
                self._prune()
                prune_at = now + PRUNE_SECONDS
            try:
                ranking = self._queue.get(timeout=max(0.0, min(due, prune_at) - time.monotonic()))
            except Empty:
                continue
            if ranking is None:
                break
            due = min(due, time.monotonic() + self._file_seconds)
            gathered.append(ranking)
            weight += ranking.weight
        if gathered:
            self._write(gathered)

    def _write(self, rankings: list[LoggedRanking]) -> None:
        n_rows = sum(map(len, rankings))
        try:
            self._files.write(table_of(rankings), time.time_ns() // 1000)
        except Exception as error:
            self._telemetry.logged_rows.labels("failed").inc(n_rows)
            if not self._failed:
                logger.warning("rankings are not logged: %s", error)
            self._failed = True
        else:
            self._telemetry.logged_rows.labels("written").inc(n_rows)
            if self._failed:
                logger.info("rankings are logged again")
            self._failed = False
        with self._lock:
            self._waiting -= sum(ranking.weight for ranking in rankings)

    def _prune(self) -> None:
        try:
            self._files.prune(time.time_ns() // 1000)
        except OSError as error:
            logger.warning("old logged rankings are not removed: %s", error)


@contextmanager
def open_ranking_log(settings: ServingConfig, telemetry: Telemetry) -> Iterator[RankingLog | None]:
    """The log that the settings name while the block runs, None for none. Raises ServerError where its folder cannot be
    made."""
    if settings.log_rankings is None:
        yield None
        return
    files = RankingFiles(Path(settings.log_rankings), max_gb=settings.log_max_gb, days=settings.log_days)
    log = RankingLog(
        files,
        telemetry,
        share=settings.log_share,
        file_rows=settings.log_file_rows,
        file_seconds=settings.log_file_seconds,
    )
    try:
        yield log
    finally:
        log.close()
