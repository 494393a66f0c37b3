"""`recsys score DIR --candidates FILE --out DIR`: ranked lists as Parquet files and a manifest.

Reads the tables in DIR, which are all that the model may know, and the candidates, streamed: memory holds a partition
of whole requests at a time, and the columns of one batch of them. The output folder appears when it is complete, or not
at all; `--resume` goes on with what an earlier run has done of it (`recsys.batch`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import mlflow

from features.clock import format_time
from features.errors import InputError
from features.offline.reader import LogIndex
from features.tables.candidate_files import CandidateFiles, find_candidates
from features.tables.candidates import CandidateChunk, CandidateReader
from features.tables.encodings import FileOptions
from features.tables.load import load_log
from features.tables.rejects import Rejects
from features.tables.report import TableReport
from features.tables.table_reader import DEFAULT_FILES
from pipelines.data_options import moment_in, read_options_of_model
from pipelines.process import one_blas_thread
from recsys.batch.candidate_scorer import BATCH_ROWS, CandidateScorer, ScoringSettings
from recsys.batch.folder import BatchFolder, batch_folder, require_place
from recsys.batch.local_copy import local_copy
from recsys.batch.partitions import PARTITION_ROWS, partitions_of
from recsys.batch.processes import Processes
from recsys.batch.progress import RunProgress
from recsys.batch.run import Workers, write_partitions
from recsys.batch.shared_arrays import shared_object
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import tracking, versions

log = logging.getLogger(__name__)

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run. resume: go on with an earlier run. workers: processes or actors that score, None for one
    process, or for one actor a core. batch_rows: rows whose columns are in memory together. partition_rows: candidate
    rows of an output file. skip_unreadable: leave out files of candidates that cannot be read to their end. engine:
    local processes, or actors of the Ray cluster at `ray_address`, without one of a cluster of this machine."""

    resume: bool = False
    workers: int | None = None
    batch_rows: int = BATCH_ROWS
    partition_rows: int = PARTITION_ROWS
    skip_unreadable: bool = False
    engine: Engine = "local"
    ray_address: str | None = None


@dataclass(frozen=True)
class ScoreReport:
    """What a batch read and wrote; `_manifest.json` holds the same."""

    out: Path | str
    manifest: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The manifest."""
        return dict(self.manifest)

    def lines(self) -> list[str]:
        """The report for a person."""
        rows_in, rows_out = self.manifest["rows_in"], self.manifest["rows_out"]
        rejected = sum(self.manifest["rejected"].values())
        skipped = [f"left out {name!r}: {problem}" for name, problem in self.manifest["skipped_files"].items()]
        return [
            f"{self.manifest['requests']:,} requests with {rows_in:,} rows in, {rows_out:,} rows out, "
            f"{rejected:,} rejected, {self.manifest['repeats']:,} repeated items left out",
            f"{self.manifest['unknown_users']:,} requests of users without events, "
            f"{self.manifest['unknown_items']:,} rows of items that no table names",
            *skipped,
            f"ranked by {self.manifest['models']['ranker']} into {str(self.out)!r}",
        ]


def score(
    folder: Path | str,
    candidates: Path | str,
    out: Path | str,
    *,
    model: str = "models:/recsys-ranker@champion",
    at: int | str | None = None,
    top_k: int | None = None,
    threads: int = 0,
    files: FileOptions = DEFAULT_FILES,
    options: BatchOptions = BatchOptions(),
) -> ScoreReport:
    """Rank the candidates with the events of `folder` before each request's time.

    at: for requests without a time, microseconds or as people write it, without a zone in the model's; None is now, or
    what it was when the batch that is resumed began. top_k: rows kept of each request, None for all. threads: of all
    workers together, 0 is one a core. files: how the tables and the candidates are read. Raises InputError
    for unusable tables and candidates, whose columns are checked first, where no request can be ranked, after
    which only the rejected rows are in `out`, and where an earlier run had other inputs; ModelNotFound and its kin for
    the model.
    """
    started = datetime.now(UTC)
    require_place(out, resume=options.resume)
    with ExitStack() as stack:
        found = find_candidates(
            stack.enter_context(local_copy(candidates)), files.encoding, skip_unreadable=options.skip_unreadable
        )
        for problem in found.skipped.values():
            log.warning("warning: left out: %s", problem)
        CandidateReader(found, files=files).check()
        batch = stack.enter_context(batch_folder(out, resume=options.resume))
        tracking.connect()
        loaded = versions.load(model)
        asked = batch.earlier("at") if at is None else at
        default_time = moment_in(asked, loaded.ranking_model.settings.data.timezone, "at")
        if default_time is None:
            default_time = int(started.timestamp() * 1e6)
        scoring = _Scoring(loaded, found, default_time, top_k, threads or os.cpu_count() or 1, files, options)
        try:
            return ScoreReport(out, scoring.run(stack.enter_context(local_copy(folder)), batch, started))
        except InputError as error:
            rejects = batch.publish_rejects()
            if rejects is None:
                raise
            raise InputError(f"{error}; the rejected rows are in {rejects!r}") from error


@dataclass(frozen=True)
class _Scoring:
    """Candidates and the version that ranks them. default_time: of requests without a time, microseconds. threads: of
    all workers together."""

    loaded: versions.LoadedModel
    candidates: CandidateFiles
    default_time: int
    top_k: int | None
    threads: int
    files: FileOptions
    options: BatchOptions

    def run(self, folder: Path, batch: BatchFolder, started: datetime) -> dict[str, Any]:
        """Write the batch, or what is left of it; its manifest. Raises InputError."""
        settings = self.loaded.ranking_model.settings
        rejects = batch.rejects
        data, tables = load_log(folder, read_options_of_model(settings, self.files), rejects=rejects)
        for warning in tables.warnings:
            log.info("warning: %s", warning)
        batch.begin(self._inputs(tables), started=started.isoformat())
        if batch.finished is not None:
            log.info("%r is complete already", batch.name)
            return batch.finished
        with Rejects(rejects) as rejected:
            reader = CandidateReader(
                self.candidates,
                timezone=settings.data.timezone,
                rejects=rejected,
                files=self.files,
                rows=self.options.batch_rows,
            )
            self._write(reader, LogIndex(data), batch)
            for warning in reader.warnings:
                log.info("warning: %s", warning)
            totals = batch.manifest.totals()
            if not totals["requests"]:
                raise InputError(
                    f"candidates {str(self.candidates.path)!r}: none of its {reader.n_rows:,} rows can be ranked: "
                    f"{', '.join(f'{n:,} x {reason}' for reason, n in reader.rejected.items())}"
                )
        return batch.publish(
            {
                "trained_on_fingerprint": settings.data_fingerprint,
                "requests": totals["requests"],
                "rows_in": reader.n_rows,
                "rows_out": totals["rows_out"],
                "rejected": reader.rejected,
                "repeats": reader.n_repeats,
                "unknown_users": totals["unknown_users"],
                "unknown_items": totals["unknown_items"],
                "warnings": [*tables.warnings, *reader.warnings],
                "finished": datetime.now(UTC).isoformat(),
            }
        )

    def _inputs(self, tables: TableReport) -> dict[str, Any]:
        """All that the bytes of the batch depend on."""
        return {
            "models": self.loaded.uris(),
            "data_fingerprint": tables.fingerprint,
            "candidates_fingerprint": self.candidates.fingerprint(),
            "skipped_files": dict(self.candidates.skipped),
            "encoding": self.files.encoding,
            "at": format_time(self.default_time),
            "top_k": self.top_k,
            "partition_rows": self.options.partition_rows,
        }

    def _write(self, reader: CandidateReader, index: LogIndex, batch: BatchFolder) -> None:
        """Score what is not done yet."""
        ranking_model = self.loaded.ranking_model
        scorer = OfflineScorer(ranking_model, index, ranking_model.texts(index.log.catalog), self.threads)
        settings = ScoringSettings(reader.id_column, self.default_time, self.top_k, self.options.batch_rows)
        with ExitStack() as stack:
            workers = self._workers(scorer, settings, batch, stack)
            progress = stack.enter_context(RunProgress("score", "row"))

            def count(partition: CandidateChunk) -> None:
                progress.add(len(partition.item))

            write_partitions(batch, partitions_of(reader, self.options.partition_rows), workers, on_done=count)

    def _workers(
        self, scorer: OfflineScorer, settings: ScoringSettings, batch: BatchFolder, stack: ExitStack
    ) -> Workers[CandidateChunk]:
        """What scores: this process, several of this machine or the actors of a cluster, which get the log and the
        vectors once a machine."""
        number = self.options.workers
        if self.options.engine == "ray":
            from recsys.batch.ray_cluster import RayActors, ray_cluster

            cluster = stack.enter_context(ray_cluster(self.options.ray_address))
            number = number or cluster.cpus
            cpus = max(1, cluster.cpus // number)
            scorer.prepare()
            fetch = cluster.share((scorer.index, scorer.texts))
            return RayActors(cluster, self._opened_elsewhere(fetch, settings, cpus), number=number, cpus=cpus)
        if number is None or number == 1:
            return Processes(partial(CandidateScorer, scorer, settings))
        scorer.prepare()
        shared = stack.enter_context(shared_object((scorer.index, scorer.texts), batch.temporary()))
        threads = max(1, self.threads // number)
        return Processes(self._opened_elsewhere(shared, settings, threads), number)

    def _opened_elsewhere(
        self, fetch: Callable[[], Any], settings: ScoringSettings, threads: int
    ) -> Callable[[], CandidateScorer]:
        return _WorkerScorer(self.loaded.ranker.uri, mlflow.get_tracking_uri(), fetch, settings, threads)


@dataclass(frozen=True)
class _WorkerScorer:
    """What a worker scores with, opened there: the model from the registry, the log and the vectors that `fetch` gets.
    threads: of one worker."""

    model: str
    tracking_uri: str
    fetch: Callable[[], Any]
    settings: ScoringSettings
    threads: int

    def __call__(self) -> CandidateScorer:
        one_blas_thread()
        mlflow.set_tracking_uri(self.tracking_uri)
        index, texts = self.fetch()
        ranking_model = versions.load(self.model).ranking_model
        return CandidateScorer(OfflineScorer(ranking_model, index, texts, self.threads), self.settings)
