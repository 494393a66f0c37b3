"""`recsys score DIR --candidates FILE --out DIR`: ranked lists as Parquet files and a manifest.

Reads the tables in DIR, which are all that the model may know, and the candidates, streamed: memory holds one chunk of
whole requests at a time. The output folder appears when it is complete, or not at all.
"""

from __future__ import annotations

import json
import logging
import os
import sys
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

from features.candidates import CandidateChunk, CandidateReader, read_candidates
from features.log import NO_TIME, Log, Requests
from features.offline import LogIndex
from features.outputs import fresh_folder
from features.rejects import Rejects
from features.tables import load_log
from pipelines.reading import settings_options
from recsys.ordering import ordered
from recsys.over_log import scores_over_log, unit_tables
from recsys.registry import tracking, versions
from recsys.unit import ItemTexts, Unit

log = logging.getLogger(__name__)

MANIFEST = "_manifest.json"


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


@dataclass
class _Counts:
    requests: int = 0
    rows_out: int = 0
    unknown_users: int = 0
    unknown_items: int = 0


def score(
    folder: Path,
    candidates: Path,
    out: Path,
    *,
    model: str = "models:/recsys-ranker@champion",
    at: int | None = None,
    top_k: int | None = None,
    threads: int = 0,
) -> ScoreReport:
    """Rank the candidates with the events of `folder` before each request's time.

    at: microseconds, for requests without a time; None is now. top_k: rows kept of each request, None for all.
    Raises InputError for unusable tables, ModelNotFound and its kin for the model.
    """
    started = datetime.now(UTC)
    tracking.connect()
    loaded = versions.load(model)
    unit = loaded.unit
    threads = threads or os.cpu_count() or 1
    moment = int(started.timestamp() * 1e6) if at is None else at
    with fresh_folder(out) as partial:
        data, tables = load_log(folder, settings_options(unit.settings), rejects=partial / "rejects")
        for warning in tables.warnings:
            log.info("warning: %s", warning)
        index, texts = LogIndex(data), unit.texts(data.catalog)
        with Rejects(partial / "rejects") as rejects:
            reader = read_candidates(candidates, timezone=unit.settings.timezone, rejects=rejects)
            counts = _score_chunks(reader, unit, index, texts, partial, moment=moment, top_k=top_k, threads=threads)
            for warning in reader.warnings:
                log.info("warning: %s", warning)
        manifest = {
            "models": {"ranker": loaded.ranker.uri, "encoder": loaded.encoder.uri},
            "data_fingerprint": tables.fingerprint,
            "trained_on_fingerprint": unit.settings.data_fingerprint,
            "requests": counts.requests,
            "rows_in": reader.n_rows,
            "rows_out": counts.rows_out,
            "rejected": reader.rejected,
            "repeats": reader.n_repeats,
            "unknown_users": counts.unknown_users,
            "unknown_items": counts.unknown_items,
            "top_k": top_k,
            "warnings": [*tables.warnings, *reader.warnings],
            "at": str(np.datetime64(moment, "us")) + "Z",
            "started": started.isoformat(),
            "finished": datetime.now(UTC).isoformat(),
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return ScoreReport(out, manifest)


def requests_of(chunk: CandidateChunk, data: Log, moment: int) -> Requests:
    """A chunk in the log's codes; `moment` is the time of requests without one."""
    queries = chunk.query if any(query is not None for query in chunk.query) else None
    return Requests(
        data.user_codes(chunk.user),
        np.where(chunk.time == NO_TIME, moment, chunk.time),
        chunk.offsets,
        data.catalog.codes(chunk.item),
        queries,
    )


def _score_chunks(
    reader: CandidateReader,
    unit: Unit,
    index: LogIndex,
    texts: ItemTexts,
    folder: Path,
    *,
    moment: int,
    top_k: int | None,
    threads: int,
) -> _Counts:
    counts, tables = _Counts(), unit_tables(unit, index, texts)
    with tqdm(desc="score", unit="row", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        for part, chunk in enumerate(reader):
            requests = requests_of(chunk, index.log, moment)
            scores = scores_over_log(unit, index, requests, texts, threads=threads, tables=tables)
            table = _table(chunk, scores, reader.id_column, top_k)
            pq.write_table(table, folder / f"part-{part:05d}.parquet", compression="zstd")
            counts.requests += len(chunk)
            counts.rows_out += len(table)
            counts.unknown_users += int((requests.user < 0).sum())
            counts.unknown_items += int((requests.item < 0).sum())
            bar.update(len(scores))
    return counts


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
