"""The input of the audit's rules: a log, its slices, and everything that the ranker of a training reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from features.arrays import Float32, Int64
from features.definitions.column_names import PERCENTILE, Z_SCORE
from features.definitions.event_measures import Feature
from features.log import Impressions, Log, Requests
from features.offline.reader import LogIndex
from recsys.audit.finding import Row
from recsys.ranker.matrix import ranker_columns
from recsys.ranker.offline_matrix import build_matrix_by_encoder
from recsys.ranker.text_snapshots import RepresentationSchedule
from recsys.ranker.tfidf import Lexical
from recsys.training.context import TrainingContext

SLICES = ("ranker", "valid", "test")
"""The slices whose rows the ranker sees, in time order."""


@dataclass(frozen=True)
class Rows:
    """Lists of one slice and their columns, (n_rows, n_columns)."""

    impressions: Impressions
    matrix: Float32


@dataclass(frozen=True)
class AuditContext:
    """training: settings, log, slices and counters. features, lexical, texts: what the ranker's columns are made of;
    texts of the log's catalog, by every state of the encoder that scores any of the slices.

    max_lists: most lists of a slice that are examined, None for all. permuted: the log of the same tables with clicks
    permuted within lists, by seed; None where the tables are not at hand. train_text: train the encoder on permuted
    clicks too, which takes as long as a training; else it is not trained again.
    """

    training: TrainingContext
    features: tuple[Feature, ...]
    lexical: Lexical
    texts: RepresentationSchedule
    max_lists: int | None = None
    permuted: Callable[[int], Log] | None = None
    train_text: bool = False

    @property
    def log(self) -> Log:
        """The unmodified log."""
        return self.training.log

    def columns(self, requests: Requests, index: LogIndex | None = None) -> Float32:
        """Every column for requests, over the training's log or another with the same items, (n_rows, n_columns)."""
        return build_matrix_by_encoder(self.features, self.texts, index or self.training.index, requests)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        columns = ranker_columns(self.features, self.texts.collaborative_columns)
        return tuple(column.name for column in columns)

    @cached_property
    def slices(self) -> dict[str, Rows]:
        """The lists of each slice with a clicked and an unclicked item, at most `max_lists`, and their columns."""
        slices = {}
        for name in SLICES:
            impressions = self.usable(getattr(self.training.sliced, name), most=self.max_lists)
            slices[name] = Rows(impressions, self.columns(impressions.requests))
        return slices

    def usable(self, positions: Int64, *, most: int | None) -> Impressions:
        """Lists at `positions` that have a clicked and an unclicked item, at most `most` of them, drawn by the seed."""
        impressions = self.training.usable(positions)
        if most is None or len(impressions) <= most:
            return impressions
        drawn = np.random.default_rng(self.training.config.seed).choice(len(impressions), most, replace=False)
        return impressions.take(np.sort(drawn))

    def sample(self) -> Impressions:
        """A few lists of the three slices together, in time order, for rules that compute them over modified logs."""
        positions = np.concatenate([getattr(self.training.sliced, name) for name in SLICES])
        return self.usable(positions, most=self.training.config.audit.lists)

    @cached_property
    def requests_at_fixed_times(self) -> tuple[Rows, ...]:
        """The sample at a few times: each part of it requested at the time of its middle list, with its columns."""
        sample = self.sample()
        groups = np.array_split(np.arange(len(sample), dtype=np.int64), self.training.config.audit.moments)
        requested = []
        for positions in filter(len, groups):
            impressions = requested_at(
                sample.take(positions), int(sample.requests.time[positions[len(positions) // 2]])
            )
            requested.append(Rows(impressions, self.columns(impressions.requests)))
        return tuple(requested)

    @cached_property
    def allowed(self) -> frozenset[str]:
        """Names of the features that the configuration allows to be known only afterwards."""
        allowed = set(self.training.config.features.allow_known_after)
        return frozenset(
            feature.name for feature in self.features if feature.name in allowed or column_of(feature) in allowed
        )

    def feature_of(self, column: str) -> str:
        """The feature or text column that a column of the matrix belongs to: itself, or the one of which it is a
        within-list twin."""
        for suffix in (PERCENTILE, Z_SCORE):
            base = column.removesuffix(f"_{suffix}")
            if base != column and base in self.names:
                return base
        return column

    def raw_columns(self) -> list[int]:
        """Positions of the columns that are no within-list twin of another one, without those of allowed features."""
        return [i for i, name in enumerate(self.names) if self.feature_of(name) == name and name not in self.allowed]

    def row(
        self, impressions: Impressions, row: int, *, before: float | None = None, after: float | None = None
    ) -> Row:
        """A candidate row of some lists, named for a report."""
        position = int(np.searchsorted(impressions.requests.offsets, row, side="right")) - 1
        item = int(impressions.requests.item[row])
        return Row(
            item_id=str(self.log.catalog.ids[item]),
            time=int(impressions.requests.time[position]),
            impression_id=str(impressions.ids[position]),
            before=before,
            after=after,
        )


def column_of(feature: Feature) -> str | None:
    """The column of the items or users table that a feature reads, None for one that reads none."""
    column = getattr(feature.measure, "column", None)
    return column if isinstance(column, str) else None


def requested_at(impressions: Impressions, time: int) -> Impressions:
    """The same lists as if they were requested at `time`."""
    requests = impressions.requests
    return replace(impressions, requests=replace(requests, time=np.full(len(requests), time, np.int64)))
