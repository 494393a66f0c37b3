"""`recsys score DIR --candidates FILE --out DIR`: ranked lists as Parquet files and a manifest.

Reads the tables in DIR, which are all that the model may know, and the candidates, streamed: memory holds one chunk of
whole requests at a time. The output folder appears when it is complete, or not at all.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from features.arrays import NO_TIME
from features.atomic_files import atomic_folder, require_fresh_folder
from features.clock import format_time
from features.errors import InputError
from features.log import Log, Requests
from features.offline.reader import LogIndex
from features.tables.candidates import CandidateChunk, CandidateReader
from features.tables.encodings import FileOptions
from features.tables.load import load_log
from features.tables.rejects import Rejects
from features.tables.table_reader import DEFAULT_FILES
from pipelines.data_options import moment_in, read_options_of_model
from recsys.metrics.rank_order import ordered
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import tracking, versions

log = logging.getLogger(__name__)

MANIFEST = "_manifest.json"
REJECTS = "rejects"


@dataclass(frozen=True)
class ScoreReport:
    """What a batch read and wrote; `_manifest.json` holds the same."""

    out: Path
    manifest: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The manifest."""
        return dict(self.manifest)

    def lines(self) -> list[str]:
        """The report for a person."""
        rows_in, rows_out = self.manifest["rows_in"], self.manifest["rows_out"]
        rejected = sum(self.manifest["rejected"].values())
        return [
            f"{self.manifest['requests']:,} requests with {rows_in:,} rows in, {rows_out:,} rows out, "
            f"{rejected:,} rejected, {self.manifest['repeats']:,} repeated items left out",
            f"{self.manifest['unknown_users']:,} requests of users without events, "
            f"{self.manifest['unknown_items']:,} rows of items that no table names",
            f"ranked by {self.manifest['models']['ranker']} into {str(self.out)!r}",
        ]


def score(
    folder: Path,
    candidates: Path,
    out: Path,
    *,
    model: str = "models:/recsys-ranker@champion",
    at: int | str | None = None,
    top_k: int | None = None,
    threads: int = 0,
    files: FileOptions = DEFAULT_FILES,
) -> ScoreReport:
    """Rank the candidates with the events of `folder` before each request's time.

    at: for requests without a time, microseconds or as people write it, without a zone in the model's; None is now.
    top_k: rows kept of each request, None for all. files: how the tables and the candidates are read. Raises InputError
    for unusable tables and candidates, whose columns are checked first, and where no request can be ranked, after
    which only the rejected rows are in `out`; ModelNotFound and its kin for the model.
    """
    started = datetime.now(UTC)
    require_fresh_folder(out, replaceable=(REJECTS,))
    CandidateReader(candidates, files=files).check()
    tracking.connect()
    loaded = versions.load(model)
    default_time = moment_in(at, loaded.ranking_model.settings.data.timezone, "at")
    batch = _Batch(
        loaded,
        candidates,
        int(started.timestamp() * 1e6) if default_time is None else default_time,
        top_k,
        threads or os.cpu_count() or 1,
        files,
    )
    failure: InputError | None = None
    with atomic_folder(out, replaceable=(REJECTS,)) as partial:
        try:
            manifest = batch.run(folder, partial) | {
                "started": started.isoformat(),
                "finished": datetime.now(UTC).isoformat(),
            }
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        except InputError as error:
            if not (partial / REJECTS).is_dir():
                raise
            failure = error
            for path in partial.iterdir():
                if path.name != REJECTS:
                    path.unlink()
    if failure is not None:
        raise InputError(f"{failure}; the rejected rows are in {str(out / REJECTS)!r}") from failure
    return ScoreReport(out, manifest)


@dataclass(frozen=True)
class _Batch:
    """Candidates and the version that ranks them. default_time: of requests without a time, microseconds."""

    loaded: versions.LoadedModel
    candidates: Path
    default_time: int
    top_k: int | None
    threads: int
    files: FileOptions

    def run(self, folder: Path, out: Path) -> dict[str, Any]:
        """Write the ranked files and the rejects into `out`; what the manifest says of them. Raises InputError."""
        ranking_model = self.loaded.ranking_model
        data, tables = load_log(
            folder, read_options_of_model(ranking_model.settings, self.files), rejects=out / REJECTS
        )
        for warning in tables.warnings:
            log.info("warning: %s", warning)
        scorer = OfflineScorer(ranking_model, LogIndex(data), ranking_model.texts(data.catalog), self.threads)
        with Rejects(out / REJECTS) as rejects:
            timezone = ranking_model.settings.data.timezone
            reader = CandidateReader(self.candidates, timezone=timezone, rejects=rejects, files=self.files)
            counts = self._score(reader, scorer, out)
            for warning in reader.warnings:
                log.info("warning: %s", warning)
            if not counts["requests"]:
                raise InputError(
                    f"candidates {str(self.candidates)!r}: none of its {reader.n_rows:,} rows can be ranked: "
                    f"{', '.join(f'{n:,} x {reason}' for reason, n in reader.rejected.items())}"
                )
        return {
            "models": self.loaded.uris(),
            "data_fingerprint": tables.fingerprint,
            "trained_on_fingerprint": ranking_model.settings.data_fingerprint,
            "requests": counts["requests"],
            "rows_in": reader.n_rows,
            "rows_out": counts["rows_out"],
            "rejected": reader.rejected,
            "repeats": reader.n_repeats,
            "unknown_users": counts["unknown_users"],
            "unknown_items": counts["unknown_items"],
            "top_k": self.top_k,
            "warnings": [*tables.warnings, *reader.warnings],
            "at": format_time(self.default_time),
        }

    def _score(self, reader: CandidateReader, scorer: OfflineScorer, folder: Path) -> Counter[str]:
        """Write a file of ranked rows for each chunk of candidates; the numbers that the manifest holds."""
        counts = Counter[str]()
        with tqdm(desc="score", unit="row", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
            for number, chunk in enumerate(reader):
                requests = requests_of(chunk, scorer.index.log, self.default_time)
                scores = scorer.scores(requests)
                table = _table(chunk, scores, reader.id_column, self.top_k)
                pq.write_table(table, folder / f"part-{number:05d}.parquet", compression="zstd")
                counts["requests"] += len(chunk)
                counts["rows_out"] += len(table)
                counts["unknown_users"] += int((requests.user < 0).sum())
                counts["unknown_items"] += int((requests.item < 0).sum())
                bar.update(len(scores))
        return counts


def requests_of(chunk: CandidateChunk, data: Log, default_time: int) -> Requests:
    """A chunk in the log's codes; `default_time` is the time of requests without one."""
    queries = chunk.query if any(query is not None for query in chunk.query) else None
    return Requests(
        data.user_codes(chunk.user),
        np.where(chunk.time == NO_TIME, default_time, chunk.time),
        chunk.offsets,
        data.catalog.codes(chunk.item),
        queries,
    )


def _table(chunk: CandidateChunk, scores: np.ndarray, id_column: str, top_k: int | None) -> pa.Table:
    """The chunk's rows in the order of the answer: id, user_id, item_id, score, rank."""
    tie = pd.factorize(chunk.item, sort=True)[0].astype(np.int64)
    rows, ranks = ordered(scores, tie, chunk.offsets)
    if top_k is not None:
        rows, ranks = rows[ranks <= top_k], ranks[ranks <= top_k]
    request = np.repeat(np.arange(len(chunk)), np.diff(chunk.offsets))[rows]
    return pa.table(
        {
            id_column: pa.array(chunk.ids, pa.string()).take(pa.array(request)),
            "user_id": pa.array(chunk.user, pa.string()).take(pa.array(request)),
            "item_id": pa.array(chunk.item, pa.string()).take(pa.array(rows)),
            "score": scores[rows],
            "rank": ranks.astype(np.int32),
        }
    )
