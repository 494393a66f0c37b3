"""`recsys features list [DIR]`: what a ranker of this configuration reads of a data set, column by column.

Reads the items table of DIR to find its categories; without DIR the columns are those of a table with `category`. Reads
the features file that the configuration names. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wcwidth import ljust, width

from features.errors import InputError
from features.tables.formats import find_table
from features.tables.items import CATEGORY, build_catalog, read_items
from features.tables.load import read_table_rows
from pipelines.data_options import read_options
from recsys.collaborative.snapshot import TableSettings
from recsys.config import Config
from recsys.ranker.column_docs import ColumnDoc, column_docs
from recsys.ranker.column_names import RESERVED_COLUMNS
from recsys.ranker.features import catalogue_categories, feature_set


@dataclass(frozen=True)
class FeatureList:
    """The columns, and where the item columns were found. horizon_days: how far back any of them looks, None for no
    limit."""

    columns: tuple[ColumnDoc, ...]
    source: str
    horizon_days: float | None = None

    @property
    def n_columns(self) -> int:
        """Columns of the matrix, within-list columns included."""
        return sum(1 + len(column.places) for column in self.columns)

    def as_dict(self) -> dict[str, Any]:
        """The report of `--json`."""
        return {
            "source": self.source,
            "columns": self.n_columns,
            "horizon_days": self.horizon_days,
            "features": [column.as_dict() for column in self.columns],
        }

    def lines(self) -> list[str]:
        """The table for a person: two lines a feature, since seven columns fit no screen."""
        longest = max(width(column.name) for column in self.columns)
        indent = " " * longest
        lines = [f"{'name':<{longest}}  meaning", f"{indent}  unit | range | known since | missing when", ""]
        for column in self.columns:
            also = f" In reports: {column.shown}." if column.shown else ""
            lines.append(f"{ljust(column.name, longest)}  {column.meaning}{also}")
            details = (column.unit, column.range, column.known, column.missing)
            lines.append(f"{indent}  {' | '.join(details)}" + (" *" if column.places else ""))
        placed = sum(1 for column in self.columns if column.places)
        lines.append("")
        if self.horizon_days is not None:
            lines.append(
                f"data.horizon_days is {self.horizon_days:g}: nothing looks further back, and longer windows, as "
                "`ever`, are cut to it"
            )
        return [
            *lines,
            f"* {placed} of {len(self.columns)} also have their percentile and z-score in the list as columns, "
            f"NAME_percentile and NAME_zscore: {self.n_columns} columns of {self.source}",
        ]


def list_features(config: Config, folder: Path | None = None) -> FeatureList:
    """What a ranker trained with `config` on `folder` reads. Raises InputError for a table or file of no use."""
    custom = config.features.custom
    if folder is None:
        categories = _named(config.features.categories)
    else:
        path = find_table(folder, "items")
        if path is None:
            raise InputError(f"data directory {str(folder)!r}: expected an items table, found none")
        options = read_options(config)
        items = read_items(read_table_rows(path, "items", options), options.item_columns)
        categories = sorted(catalogue_categories(build_catalog(items, items.ids), config.features.categories, custom))
    features = feature_set(dict.fromkeys(categories, ()), config.features, custom, reserved=RESERVED_COLUMNS)
    tables = config.collaborative
    settings = TableSettings(first_build=0, build_interval=1, **tables.model_dump(exclude={"tables"}))
    docs = column_docs(features, settings.columns if tables.tables else ())
    source = "a table with a column category" if folder is None else str(folder)
    return FeatureList(docs, source, config.data.horizon_days)


def _named(categories: Sequence[str] | None) -> Sequence[str]:
    return sorted({CATEGORY, *(categories or ())})
