"""`recsys candidates DIR --users FILE|all --k N --out OUT`: items worth ranking for each user, as Parquet files.

Reads the tables in DIR and, of a registered version, the encoder and how tables are read. Memory holds the tables and
the candidates of a thousand users at a time. The output folder appears when it is complete, or not at all;
`recsys score --candidates` reads it as it is.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.arrays import Float32
from features.atomic_files import atomic_folder
from features.clock import format_time
from features.errors import InputError
from features.offline.reader import LogIndex, OfflineSettings
from features.tables.encodings import FileOptions
from features.tables.id_lists import ASKED_USERS, EXCLUSIONS, read_asked_users, read_exclusions, read_table_ids
from features.tables.load import load_log
from features.tables.rejects import Rejects
from features.tables.report import TableReport
from features.tables.table_reader import DEFAULT_FILES
from pipelines.data_options import moment_in, read_options_of_model
from recsys.batch.local_copy import local_copy
from recsys.batch.manifest import MANIFEST
from recsys.batch.progress import RunProgress
from recsys.candidates.asked_users import AskedUsers, asked_users
from recsys.candidates.filters import Skip, make_filters
from recsys.candidates.generate import CandidateBlock, CandidateGenerator, CandidateSettings, make_generator
from recsys.candidates.recall import RecallReport, RecallTally, later_clicks
from recsys.collaborative.settings import CollaborativeSettings
from recsys.config import EvaluationConfig
from recsys.encoder.text import item_texts
from recsys.evaluation.report import count, format_interval
from recsys.evaluation.text_table import text_table
from recsys.ranker.model import Settings
from recsys.registry import tracking, versions

log = logging.getLogger(__name__)

REJECTED = "_rejects"
"""Folder of rows that cannot be used; its name keeps it out of what `recsys score --candidates` reads."""
PART_USERS = 1_000
"""Users of one Parquet file: files are the same however many users are worked on at a time."""


@dataclass(frozen=True)
class CandidateRequest:
    """What `recsys candidates` and `recsys recommend` are asked for.

    users: a file of ids, None for all users known at the time. most: candidates of each. at: microseconds or as people
    write it, without a zone in the model's; None is now. skip: items that a user does not get again. exclude: files of
    items that nobody, or one user, may get. threads: 0 is one a core.
    """

    users: Path | str | None
    most: int = 500
    model: str = "models:/recsys-ranker@champion"
    at: int | str | None = None
    skip: Skip = "clicked"
    exclude: tuple[Path | str, ...] = ()
    threads: int = 0
    files: FileOptions = DEFAULT_FILES


@dataclass(frozen=True)
class CandidateBatch:
    """The users of a request and what finds their candidates. at: microseconds. vectors: (n_items + 1, d) of the items'
    texts. rejected: rows of the request's files that cannot be used, by file and reason."""

    request: CandidateRequest
    loaded: versions.LoadedModel
    index: LogIndex
    tables: TableReport
    users: AskedUsers
    generator: CandidateGenerator
    vectors: Float32
    at: int
    threads: int
    rejected: Mapping[str, Mapping[str, int]]

    def parts(self, title: str) -> Iterator[Iterator[CandidateBlock]]:
        """The candidates of all users in order: the blocks of one file of output after the other."""
        n = len(self.users)
        with RunProgress(title, "user", n) as progress:
            for first in range(0, n, PART_USERS):
                end = min(first + PART_USERS, n)
                yield self.generator.blocks(first, end, threads=self.threads)
                progress.add(end - first)

    def facts(self) -> dict[str, Any]:
        """The manifest's part that both commands share."""
        has_history = self.generator.history.lengths() > 0
        return {
            "models": self.loaded.uris(),
            "data_fingerprint": self.tables.fingerprint,
            "trained_on_fingerprint": self.loaded.ranking_model.settings.data_fingerprint,
            "at": format_time(self.at),
            "k": self.request.most,
            "skip": self.request.skip,
            "users": len(self.users),
            "unknown_users": int((~self.users.known).sum()),
            "users_without_clicks": int((self.users.known & ~has_history).sum()),
            "items": int(self.generator.filters.allowed.sum()),
            "rejected": {name: dict(reasons) for name, reasons in self.rejected.items()},
            "warnings": list(self.tables.warnings),
        }


def open_batch(folder: Path | str, request: CandidateRequest, now: datetime, rejects: Path) -> CandidateBatch:
    """Read the version, the tables, the users and the exclusions, and prepare the sources. now: in place of a time.

    rejects: folder for rows that cannot be used. Raises InputError for unusable files, and where there is no user;
    RecsysError where an object store cannot be reached.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(local_copy(folder))
        users = None if request.users is None else stack.enter_context(local_copy(request.users))
        exclude = [stack.enter_context(local_copy(place)) for place in request.exclude]
        return _open_batch(folder, users, exclude, request, now, rejects)


def _open_batch(
    folder: Path,
    users_file: Path | None,
    exclude: Sequence[Path],
    request: CandidateRequest,
    now: datetime,
    rejects: Path,
) -> CandidateBatch:
    tracking.connect()
    loaded = versions.load(request.model)
    settings, threads = loaded.ranking_model.settings, request.threads or os.cpu_count() or 1
    at = moment_in(request.at, settings.data.timezone, "at")
    at = int(now.timestamp() * 1e6) if at is None else at
    with Rejects(rejects) as rejected:
        asked = None if users_file is None else read_asked_users(users_file, rejected, request.files)
        names = [EXCLUSIONS, *(f"{EXCLUSIONS}_{number}" for number in range(2, len(exclude) + 1))]
        exclusions = [
            read_exclusions(path, rejected, request.files, name=name)
            for path, name in zip(exclude, names, strict=False)
        ]
        by_file = {name: rejected.by_reason(name) for name in (ASKED_USERS, *names)}
    data, tables = load_log(folder, read_options_of_model(settings, request.files), rejects=rejects)
    for warning in tables.warnings:
        log.info("warning: %s", warning)
    index = LogIndex(data, OfflineSettings(settings.data, settings.history_length, threads))
    as_of = at - settings.data.event_delay
    users = asked_users(data, asked, read_table_ids(folder, "users", request.files), as_of)
    if not len(users):
        raise InputError(
            f"data directory {str(folder)!r}: expected a users table, or users with an event or an impression before "
            f"{format_time(at)}, found none; name users with --users FILE"
        )
    described = read_table_ids(folder, "items", request.files)
    filters = make_filters(data, users, described, exclusions, at=at, as_of=as_of, skip=request.skip)
    vectors = loaded.ranking_model.encoder.encode_texts(item_texts(data.catalog, settings.template))
    sizes = CandidateSettings(most=request.most, collaborative=_collaborative(settings))
    generator = make_generator(index, users.code, vectors, filters, at, sizes, threads=threads)
    return CandidateBatch(request, loaded, index, tables, users, generator, vectors, at, threads, by_file)


def _collaborative(settings: Settings) -> CollaborativeSettings:
    """How co-click neighbours are made: as in the version's own columns, where it has some."""
    table = settings.collaborative
    if table is None:
        return CollaborativeSettings()
    return CollaborativeSettings(user_items=table.user_items, neighbours=table.neighbours, shrinkage=table.shrinkage)


def write_part(rows: Sequence[pa.Table], folder: Path, number: int) -> int:
    """Write one file of output, unless it has no row; how many it has."""
    table = pa.concat_tables(rows).combine_chunks()
    if len(table):
        pq.write_table(table, folder / f"part-{number:05d}.parquet", compression="zstd")
    return len(table)


def write_manifest(folder: Path, facts: Mapping[str, Any], started: datetime) -> dict[str, Any]:
    """Write `_manifest.json`. Raises InputError where the run has no row."""
    if not facts["rows_out"]:
        raise InputError(
            f"none of {count(facts['users'], 'user')} gets a candidate: {facts['items']:,} items of the items table "
            f"may be candidates at {facts['at']}; check --exclude, --skip and published_at"
        )
    manifest = {**facts, "started": started.isoformat(), "finished": datetime.now(UTC).isoformat()}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return manifest


def users_line(manifest: Mapping[str, Any]) -> str:
    """Whom a run knew little of, for a person."""
    rejected = sum(n for reasons in manifest["rejected"].values() for n in reasons.values())
    return (
        f"{count(manifest['unknown_users'], 'unknown user')} and {manifest['users_without_clicks']:,} without clicks "
        f"get popular and new items; {manifest['users_without_candidates']:,} get none; {rejected:,} rows rejected"
    )


@dataclass(frozen=True)
class CandidatesReport:
    """What was found, and the recall where it was measured; `_manifest.json` holds the same."""

    out: Path
    manifest: Mapping[str, Any]
    recall: RecallReport | None

    def as_dict(self) -> dict[str, Any]:
        """The manifest."""
        return dict(self.manifest)

    def lines(self) -> list[str]:
        """The report for a person."""
        found = self.manifest
        by_source = ", ".join(f"{n:,} by {name}" for name, n in found["by_source"].items())
        return [
            f"{found['rows_out']:,} candidates of {count(found['users'], 'user')} as of {found['at']}: {by_source}",
            users_line(found),
            *([] if self.recall is None else _recall_lines(self.recall)),
            f"written into {str(self.out)!r}",
        ]


def candidates(
    folder: Path | str, out: Path, request: CandidateRequest, *, evaluate_until: int | str | None = None
) -> CandidatesReport:
    """Find candidates for each user with what `folder` knows before the request's time.

    evaluate_until: also measure how many of the items are found that users click from that time on and before this one;
    microseconds or as people write it. Raises InputError for unusable tables, users and exclusions, where `out` is
    taken, and where nobody gets a candidate; ModelNotFound and its kin for the model.
    """
    started = datetime.now(UTC)
    with atomic_folder(out) as partial:
        batch = open_batch(folder, request, started, partial / REJECTED)
        tally = None if evaluate_until is None else _tally(batch, evaluate_until)
        names, counts = batch.generator.names, Counter[str]()
        for number, blocks in enumerate(batch.parts("candidates")):
            rows = []
            for block in blocks:
                rows.append(_table(batch, block))
                counts["users_without_candidates"] += int((block.merged.items.lengths() == 0).sum())
                of_source = np.bincount(block.merged.source, minlength=len(names)).tolist()
                counts.update(dict(zip(names, of_source, strict=True)))
                if tally is not None:
                    tally.add(block.first, block.by_source, block.merged.items)
            counts["rows_out"] += write_part(rows, partial, number)
        recall = None if tally is None else tally.report(resamples=EvaluationConfig().resamples)
        facts = batch.facts() | {
            "rows_out": counts["rows_out"],
            "users_without_candidates": counts["users_without_candidates"],
            "by_source": {name: counts[name] for name in names},
        }
        if recall is not None:
            facts["recall"] = recall.as_dict()
        return CandidatesReport(out, write_manifest(partial, facts, started), recall)


def _tally(batch: CandidateBatch, evaluate_until: int | str) -> RecallTally:
    settings, at = batch.loaded.ranking_model.settings, batch.at
    until = moment_in(evaluate_until, settings.data.timezone, "evaluate-until")
    if until is None or until <= at:
        raise InputError(
            f"evaluate-until: expected a time after --at, {format_time(at)}, got {evaluate_until!r}; clicks between "
            "the two are what is to be found"
        )
    if settings.trained_until >= at and batch.vectors.shape[1]:
        log.warning(
            "warning: %s learnt from labels up to %s, after %s: the recall of 'nearest' is too good",
            batch.loaded.ranker,
            format_time(settings.trained_until),
            format_time(at),
        )
    position = batch.users.position(len(batch.index.log.users))
    later = later_clicks(batch.index.log, position, batch.generator.filters, start=at, end=until)
    return RecallTally(later, batch.generator.names, batch.request.most)


def _table(batch: CandidateBatch, block: CandidateBlock) -> pa.Table:
    """The rows of a block: request_id, user_id, timestamp, item_id, rank and, by source, rank and score there."""
    merged, names = block.merged, pa.array(batch.generator.names)
    lengths = merged.items.lengths()
    user = pa.array(np.repeat(np.arange(len(lengths)), lengths))
    ids = pa.array(batch.users.ids[block.first : block.first + len(lengths)], pa.string()).take(user)
    rank = np.arange(len(ids)) - np.repeat(merged.items.offsets[:-1], lengths) + 1
    entries = pa.StructArray.from_arrays(
        [names.take(pa.array(merged.source)), pa.array(merged.rank), pa.array(merged.score)],
        ["source", "rank", "score"],
    )
    return pa.table(
        {
            "request_id": ids,
            "user_id": ids,
            "timestamp": pa.array(np.full(len(ids), batch.at), pa.timestamp("us", tz="UTC")),
            "item_id": pa.array(batch.index.log.catalog.ids[merged.items.codes], pa.string()),
            "rank": rank.astype(np.int32),
            "sources": pa.ListArray.from_arrays(pa.array(merged.by_source.astype(np.int32)), entries),
        }
    )


def _recall_lines(recall: RecallReport) -> list[str]:
    later = recall.later
    rows = [["source", f"recall@{recall.k}", "found", "found by it alone"]]
    for name, interval in recall.recall.items():
        alone = f"{recall.alone[name]:,}" if name in recall.alone else ""
        rows.append([name, format_interval(interval), f"{recall.found[name]:,}", alone])
    return [
        "",
        f"{count(len(later.items.codes), 'clicked item')} of {count(recall.users, 'user')} before "
        f"{format_time(later.end)}; {later.n_banned:,} that these users may not get again are left out, "
        f"{later.n_not_allowed:,} that nobody may get count as not found",
        text_table(rows),
        "",
    ]
