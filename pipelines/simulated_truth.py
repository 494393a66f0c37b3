"""The truth of a simulated site: written beside its tables, read back to check what a model has learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.log import Float64, Strings
from pipelines import simulated_site as site
from pipelines.simulated_site import Items, Readers
from pipelines.simulated_tables import TIME, microseconds
from pipelines.simulated_texts import Language


def write_truth(
    folder: Path, language: Language, *, items: Items, item_ids: Strings, readers: Readers, user_ids: Strings
) -> None:
    """Makes `folder` with README.md, items.parquet, users.parquet and tastes.parquet."""
    folder.mkdir()
    names = np.array([topic.name for topic in language.topics], object)
    categories = np.array([topic.category for topic in language.topics], object)
    _write(
        folder / "items.parquet",
        item_id=item_ids,
        topic=names[items.topic],
        category=categories[items.topic],
        quality=items.quality,
    )
    _write(folder / "users.parquet", user_id=user_ids, activity=readers.activity, clickiness=readers.clickiness)
    row, slot = np.nonzero(np.isfinite(readers.since) | (np.arange(2 * site.TASTES) < site.TASTES))
    _write(
        folder / "tastes.parquet",
        user_id=user_ids[row],
        topic=names[readers.topic[row, slot]],
        weight=readers.weight[row, slot],
        since=_times(readers.since[row, slot]),
        until=_times(readers.until[row, slot]),
    )


def _times(hours: Float64) -> pa.Array:
    known = np.isfinite(hours)
    return pa.array(microseconds(np.where(known, hours, 0.0)), mask=~known).cast(TIME)


def _write(path: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")
