"""The true model of a simulated site, written next to its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.arrays import Float64, Strings
from pipelines.simulation import pages, site
from pipelines.simulation.site import SimulatedItems, Users
from pipelines.simulation.tables import TIME, microseconds
from pipelines.simulation.texts import Language


def write_truth(
    folder: Path, language: Language, *, items: SimulatedItems, item_ids: Strings, readers: Users, user_ids: Strings
) -> None:
    """Makes `folder` with README.md, items.parquet, users.parquet and tastes.parquet."""
    folder.mkdir()
    readme = Path(__file__).with_name("truth_readme.txt").read_text(encoding="utf-8")
    (folder / "README.md").write_text(readme.format(pages=pages, site=site), encoding="utf-8")
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
        strength=readers.weight[row, slot],
        since=_times(readers.since[row, slot]),
        until=_times(readers.until[row, slot]),
    )


def _times(hours: Float64) -> pa.Array:
    is_finite = np.isfinite(hours)
    return pa.array(microseconds(np.where(is_finite, hours, 0.0)), mask=~is_finite).cast(TIME)


def _write(path: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")
