"""A small simulated site as an audit looks at it, and features that leak, for tests alone."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
from small_ranking_model import small_encoder, tiny_settings

from features.arrays import Float64
from features.definitions.aggregates import Aggregate
from features.definitions.event_measures import REQUEST_TIME, Feature
from features.log import Log, Requests
from features.offline.reader import OfflineReader
from pipelines.audit import training_context
from pipelines.simulate import simulate
from recsys.audit.context import AuditContext
from recsys.config import Config, load_config


@dataclass(frozen=True)
class Planted:
    """A measure that reads what it likes. values: of each candidate row, from the offline reader."""

    unit: ClassVar[str] = "whatever"
    low: ClassVar[float] = -np.inf
    high: ClassVar[float] = np.inf
    missing: ClassVar[str] = "never"
    categorical: ClassVar[bool] = False
    values: Callable[[OfflineReader], Float64]
    available_from: str = REQUEST_TIME

    def reads(self) -> tuple[Aggregate, ...]:
        return ()

    def compute(self, reader: OfflineReader) -> Float64:
        return self.values(reader)


def planted(name: str, values: Callable[[OfflineReader], Float64], *, available_from: str = REQUEST_TIME) -> Feature:
    return Feature(name, "Planted.", Planted(values, available_from))  # type: ignore[arg-type]


def with_feature(context: AuditContext, feature: Feature) -> AuditContext:
    return replace(context, features=(*context.features, feature))


def clicks_of_item(log: Log, requests: Requests, *, until: int | None) -> Float64:
    """Clicks on each candidate's item up to its request's time plus `until` microseconds, None for ever."""
    clicks = log.events.positive
    item, time = log.events.item[clicks], log.events.time[clicks]
    order = np.lexsort((time, item))
    item, time = item[order], time[order]
    first, end = np.searchsorted(item, requests.item), np.searchsorted(item, requests.item, side="right")
    if until is None:
        return (end - first).astype(np.float64)
    moments = requests.row_time() + until
    counts = [
        np.searchsorted(time[a:b], moment, side="right") for a, b, moment in zip(first, end, moments, strict=True)
    ]
    return np.array(counts, np.float64)


@lru_cache
def site_folder() -> tuple[Path, Config]:
    """Tables of a simulated site and the configuration of a training with a random encoder."""
    folder = Path(tempfile.mkdtemp(prefix="audited-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    simulate(folder / "data", users=150, items=120, impressions=4000, seed=3)
    return folder / "data", tiny_base(folder / "base", folder / "data")


def tiny_base(base: Path, data: Path, *settings: str) -> Config:
    """A random base model that knows the words of a data directory's titles, and a configuration that names it."""
    titles = pq.read_table(data / "items.parquet").column("title").to_pylist()
    config = load_config(None, (*tiny_settings(base), *settings))
    small_encoder(base, sorted({word.lower() for title in titles for word in title.split()}), config)
    return config


@lru_cache
def site_context() -> AuditContext:
    """What an audit of that site looks at."""
    return training_context(*site_folder())
