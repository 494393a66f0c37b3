"""`recsys recommend DIR --users FILE|all --top N --out OUT`: the best items for each user, as Parquet files.

Candidates and their scores in one pass: what a mail or a home page shows. Reads the tables in DIR and a registered
version; memory holds the tables and one block of users. The output folder appears when it is complete, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.arrays import CsrLists, Float64
from features.atomic_files import atomic_folder
from features.log import Requests
from pipelines.candidates import (
    REJECTED,
    CandidateBatch,
    CandidateRequest,
    open_batch,
    users_line,
    write_manifest,
    write_part,
)
from recsys.candidates.best_items import ScoredLists, best_of_each
from recsys.candidates.generate import CandidateBlock
from recsys.encoder.text import item_texts
from recsys.evaluation.report import count
from recsys.ranker.matrix import ItemRepresentations
from recsys.ranker.offline_matrix import OfflineScorer


@dataclass(frozen=True)
class RecommendReport:
    """What was recommended; `_manifest.json` holds the same."""

    out: Path
    manifest: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The manifest."""
        return dict(self.manifest)

    def lines(self) -> list[str]:
        """The report for a person."""
        found = self.manifest
        return [
            f"{found['rows_out']:,} items for {count(found['users'], 'user')} as of {found['at']}, the best of "
            f"{found['rows_in']:,} candidates",
            users_line(found),
            f"ranked by {found['models']['ranker']} into {str(self.out)!r}",
        ]


def recommend(folder: Path | str, out: Path, request: CandidateRequest, *, top: int = 20) -> RecommendReport:
    """Rank the candidates of each user with what `folder` knows before the request's time, and keep the `top` best.

    Raises InputError for unusable tables, users and exclusions, where `out` is taken, and where nobody gets a
    candidate; ModelNotFound and its kin for the model.
    """
    started = datetime.now(UTC)
    with atomic_folder(out) as partial:
        batch = open_batch(folder, request, started, partial / REJECTED)
        scorer, counts = _scorer(batch), Counter[str]()
        for number, blocks in enumerate(batch.parts("recommend")):
            rows = []
            for block, scores in _scored(blocks, batch, scorer):
                rows.append(_best(batch, block, scores, top))
                counts["rows_in"] += len(scores)
                counts["users_without_candidates"] += int((block.merged.items.lengths() == 0).sum())
            counts["rows_out"] += write_part(rows, partial, number)
        names = ("rows_in", "rows_out", "users_without_candidates")
        facts = batch.facts() | {"top": top} | {name: counts[name] for name in names}
        return RecommendReport(out, write_manifest(partial, facts, started))


def _scorer(batch: CandidateBatch) -> OfflineScorer:
    model, catalog = batch.loaded.ranking_model, batch.index.log.catalog
    terms = model.lexical.transform(item_texts(catalog, model.settings.template))
    return OfflineScorer(model, batch.index, ItemRepresentations(batch.vectors, terms), batch.threads)


def _scored(
    blocks: Iterable[CandidateBlock], batch: CandidateBatch, scorer: OfflineScorer
) -> Iterator[tuple[CandidateBlock, Float64]]:
    """Each block with the scores of its candidates, (n_rows,)."""
    for block in blocks:
        items = block.merged.items
        users = np.flatnonzero(items.lengths())
        offsets = np.append(items.offsets[users], items.offsets[-1:])
        requests = Requests(batch.users.code[block.first + users], np.full(len(users), batch.at), offsets, items.codes)
        yield block, scorer.scores(requests) if len(users) else np.zeros(0)


def _best(batch: CandidateBatch, block: CandidateBlock, scores: Float64, top: int) -> pa.Table:
    """The best rows of a block in the order of the answer, equal scores by item id: user_id, item_id, score, rank."""
    items, filters = block.merged.items, batch.generator.filters
    nothing = CsrLists(np.zeros(len(items) + 1, np.int64), items.codes[:0])
    found = ScoredLists(items.offsets, items.codes, scores)
    best = best_of_each(found, most=top, allowed=filters.allowed, banned=nothing)
    user = np.repeat(np.arange(len(items)), best.lengths())
    return pa.table(
        {
            "user_id": pa.array(batch.users.ids[block.first + user], pa.string()),
            "item_id": pa.array(batch.index.log.catalog.ids[best.item], pa.string()),
            "score": best.score,
            "rank": (np.arange(len(user)) - best.offsets[user] + 1).astype(np.int32),
        }
    )
