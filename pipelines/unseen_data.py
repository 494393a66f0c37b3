"""Registered versions on the lists of a data directory that none of them has learnt from.

What `recsys evaluate`, `compare --data` and `promote` share: each version reads the tables as its own training did.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from features.arrays import Int64
from features.clock import format_time
from features.errors import InputError
from features.log import Impressions
from features.offline.reader import LogIndex
from features.tables.encodings import FileOptions
from features.tables.load import load_log
from features.tables.report import TableReport
from pipelines.data_options import read_options_of_model
from recsys.config import Config
from recsys.evaluation.model_evaluation import evaluate_model
from recsys.evaluation.report import Evaluation, count
from recsys.ranker.matrix import ItemRepresentations
from recsys.registry.versions import LoadedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnseenData:
    """A version and a data directory as that version reads it.

    after: microseconds; None for lists at any time. positions: of the impressions after it that have a clicked and an
    unclicked item. n_later: all lists after it, with or without both.
    """

    loaded: LoadedModel
    folder: Path
    index: LogIndex
    tables: TableReport
    after: int | None
    positions: Int64
    n_later: int

    @property
    def impressions(self) -> Impressions:
        """All lists of the directory."""
        return self.index.log.impressions

    @cached_property
    def texts(self) -> ItemRepresentations:
        """What the version's text models know of the items."""
        return self.loaded.ranking_model.texts(self.index.log.catalog)

    def evaluate(self, config: Config) -> Evaluation:
        """The version on the impressions at `positions`. Raises InputError where there is none."""
        if not len(self.positions):
            raise InputError(self.none_left())
        return evaluate_model(
            self.loaded.ranking_model, self.index, self.impressions.take(self.positions), self.texts, config
        )

    def none_left(self) -> str:
        """Why there is nothing to evaluate, for an error."""
        where = f"data directory {str(self.folder)!r}"
        if self.after is None:
            return f"{where}: expected lists with a clicked and an unclicked item, found none"
        newest = format_time(int(self.impressions.requests.time.max())) if len(self.impressions) else "none"
        return (
            f"{where}: expected lists with a clicked and an unclicked item later than every label that was learnt "
            f"from, the newest of {format_time(self.after)}; the newest list is of {newest}, "
            f"{count(self.n_later, 'list')} later, none with both; give newer data"
        )


def trained_until(versions: Sequence[LoadedModel]) -> int:
    """Time of the newest label that any version's training, early stopping or choices used; microseconds."""
    return max(loaded.ranking_model.settings.trained_until for loaded in versions)


def load_unseen(
    versions: Sequence[LoadedModel], folder: Path, *, after: int | None, files: FileOptions
) -> tuple[UnseenData, ...]:
    """Each version with the lists of `folder` that are later than `after`; the tables are read again only where a
    version reads them in another way than the one before. Raises InputError for tables that cannot be used."""
    opened: list[UnseenData] = []
    for loaded in versions:
        options = read_options_of_model(loaded.ranking_model.settings, files)
        if opened and options == read_options_of_model(opened[-1].loaded.ranking_model.settings, files):
            index, tables = opened[-1].index, opened[-1].tables
        else:
            log, tables = load_log(folder, options, impressions_required=True)
            for warning in tables.warnings:
                logger.info("warning: %s", warning)
            index = LogIndex(log)
        impressions = index.log.impressions
        later = np.ones(len(impressions), np.bool_) if after is None else impressions.requests.time > after
        positions = np.flatnonzero(later & impressions.has_both()).astype(np.int64)
        opened.append(UnseenData(loaded, folder, index, tables, after, positions, int(later.sum())))
    return tuple(opened)
