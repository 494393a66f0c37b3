"""A collaborative snapshot: tables of items, built from the clicks before one time.

neighbours, sequence: the most similar items of each, see `recsys.collaborative.neighbours`.
factors: a truncated SVD of the users by items matrix of clicks (Cremonesi et al., RecSys 2010, PureSVD).
audience: the mean text vector of the users who clicked the item, a user's being the mean of what they clicked.
alignment: factors predicted from text, see `recsys.collaborative.alignment`.

The same clicks give the same neighbours and audiences, to the last bit, on every CPU: counts are whole numbers, and
text vectors lie on the grid of `features.exact`, where sums are exact in any order. Factors and their alignment depend
on the CPU's kernels and, if BLAS has several, on its number of threads: the commands give it one. They are computed
once and stored, and what reads them computes on the grid again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer
from scipy.sparse import csr_matrix

from features.arrays import CsrLists, Float32, Int32, Int64
from features.exact import to_grid
from recsys.collaborative.alignment import Alignment, align
from recsys.collaborative.column_names import ALIGNED_COLUMN, COLLABORATIVE_COLUMNS, SEQUENCE_COLUMN
from recsys.collaborative.neighbours import Neighbours, co_click_neighbours, sequence_neighbours

_SEED = 0


class TableSettings(BaseModel):
    """How snapshots are built and when; part of a ranker version. Other fields: as `config.CollaborativeConfig`.

    The aliases are the names of older versions; stores name their snapshots by them. Fields that older versions do not
    have are 0 there, and are left out where they are 0, so that the names stay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    first_build: int = Field(alias="origin")
    """A time as of which a snapshot is built, microseconds since the epoch."""
    build_interval: int = Field(alias="period")
    """From one build to the next, microseconds."""
    user_items: int
    neighbours: int
    shrinkage: float
    factors: int
    sequence_window: int = 0
    alignment_clicks: float = 0.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The collaborative columns that the snapshots give, in the order of the matrix."""
        absent = {SEQUENCE_COLUMN: not self.sequence_window, ALIGNED_COLUMN: not self.alignment_clicks}
        return tuple(name for name in COLLABORATIVE_COLUMNS if not absent.get(name, False))

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        absent = [name for name in ("sequence_window", "alignment_clicks") if not fields.get(name)]
        return {name: value for name, value in fields.items() if name not in absent}

    def build_times(self, times: Int64) -> Int64:
        """The newest build at or before each time, (n,) microseconds: its snapshot holds the clicks before it."""
        return self.first_build + (times - self.first_build) // self.build_interval * self.build_interval


def collaborative_columns(settings: TableSettings | None) -> tuple[str, ...]:
    """The collaborative columns of a ranker; none without tables."""
    return () if settings is None else settings.columns


@dataclass(frozen=True)
class CollaborativeSnapshot:
    """The tables by code of n items. factors: (n, k) and audience: (n, d), float32, NaN rows where no click says
    anything. sequence, alignment: None where the settings leave them out."""

    neighbours: Neighbours
    factors: Float32
    audience: Float32
    sequence: Neighbours | None = None
    alignment: Alignment | None = None

    def to_global_codes(self, items: Int32, n: int) -> CollaborativeSnapshot:
        """The same for items whose codes are 0 to n - 1. items: (len(self),) the new code of each, ascending."""
        alignment = self.alignment
        return CollaborativeSnapshot(
            self.neighbours.to_global_codes(items, n),
            _spread_rows(self.factors, items, n),
            _spread_rows(self.audience, items, n),
            None if self.sequence is None else self.sequence.to_global_codes(items, n),
            None if alignment is None else Alignment(_spread_rows(alignment.vectors, items, n), alignment.weights),
        )


def build_tables(clicked: CsrLists, text_vectors: Float32, settings: TableSettings) -> CollaborativeSnapshot:
    """The snapshot of some users' clicks on n items.

    clicked: for each user, in the order of their ids, the codes of the distinct items clicked before its time, oldest
    click first, from 0 to n - 1, each of which some user clicked. text_vectors: (n, d), NaN rows for items without
    text.
    """
    n_items, shrinkage, most = len(text_vectors), settings.shrinkage, settings.neighbours
    with_clicks = clicked.take(np.flatnonzero(clicked.lengths() > 0))
    by_user = csr_matrix(
        (np.ones(len(with_clicks.codes)), with_clicks.codes.copy(), with_clicks.offsets),
        shape=(len(with_clicks), n_items),
    )
    by_user.sort_indices()
    by_item = by_user.T.tocsr()
    factors = _factors(by_user, settings.factors)
    sequence = alignment = None
    if settings.sequence_window:
        window, order = settings.sequence_window, with_clicks.codes
        sequence = sequence_neighbours(order, by_user, by_item, window=window, shrinkage=shrinkage, most=most)
    if settings.alignment_clicks:
        clicks = np.diff(by_item.indptr).astype(np.int64)
        alignment = align(factors, clicks, text_vectors, half_clicks=settings.alignment_clicks)
    return CollaborativeSnapshot(
        co_click_neighbours(by_user, by_item, shrinkage=shrinkage, most=most),
        factors,
        _audiences(by_user, by_item, text_vectors),
        sequence,
        alignment,
    )


def _factors(by_user: csr_matrix, width: int) -> Float32:
    """(n_items, width) rows of the right singular vectors times their singular values, each user's clicks at length 1;
    zeros beyond the rank."""
    n_users, n_items = by_user.shape
    factors = np.zeros((n_items, width), np.float32)
    rank = min(width, n_users, n_items)
    if rank:
        from sklearn.utils.extmath import randomized_svd

        weighted = by_user.multiply(1.0 / np.sqrt(np.diff(by_user.indptr))[:, None]).tocsr()
        _, values, vectors = randomized_svd(weighted, rank, n_iter=4, random_state=_SEED, flip_sign=False)
        factors[:, :rank] = vectors.T * values
    return factors


def _audiences(by_user: csr_matrix, by_item: csr_matrix, text_vectors: Float32) -> Float32:
    """(n_items, d) mean of the unit text vectors of those who clicked the item; NaN where none of them has one.

    text_vectors: (n_items, d), on the grid of `features.exact`, as users' unit vectors are here: both sums are exact.
    """
    has_text = np.asarray(~np.isnan(text_vectors).any(axis=1))
    users = by_user @ np.where(has_text[:, None], text_vectors, 0.0).astype(np.float64)
    length = np.sqrt((users * users).sum(axis=1))
    has_vector = length > 0
    users[has_vector] /= length[has_vector, None]
    users = to_grid(users).astype(np.float64)
    clickers = by_item @ has_vector.astype(np.float64)
    means = np.full((len(clickers), users.shape[1]), np.nan)
    np.divide(by_item @ users, clickers[:, None], out=means, where=clickers[:, None] > 0)
    return means.astype(np.float32)


def _spread_rows(rows: Float32, items: Int32, n: int) -> Float32:
    spread = np.full((n, rows.shape[1]), np.nan, np.float32)
    spread[items] = rows
    return spread
