"""The tables of a simulated site: arrays in, Parquet out, a row group at a time and in the order of time."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.arrays import Float64, Int32, Int64, Strings
from features.clock import HOUR
from features.tables.schema import WRITTEN_IMPRESSIONS
from pipelines.simulation.pages import PageViews

START = int(pd.Timestamp("2025-03-03T00:00:00Z").value // 1000)
"""When the impression log begins, microseconds since the epoch: a Monday."""

TIME = pa.timestamp("us", tz="UTC")
_TRUTH = pa.schema(
    [
        ("impression_id", pa.string()),
        ("item_id", pa.string()),
        ("interest", pa.float64()),
        ("examination", pa.float64()),
    ]
)
_EVENTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", TIME),
        ("event_type", pa.string()),
        ("value", pa.float64()),
        ("impression_id", pa.string()),
    ]
)
_CLICK, _VIEW, _SHARE, _LIKE = 0, 1, 2, 3
_TYPES = pa.array(["click", "view", "share", "like"])
_VIEWED, _SHARED = 0.6, 0.04
_ROW_GROUP = 400_000
_TOGETHER = 5_000


def microseconds(hours: Float64) -> Int64:
    """Microseconds since the epoch of hours since the log began; same shape."""
    return START + np.round(hours * HOUR).astype(np.int64)


def ids(letter: str, n: int) -> Strings:
    """(n,) ids whose order is that of their codes."""
    return np.array([f"{letter}{code:0{len(str(n - 1))}d}" for code in range(n)], object)


class SiteTables:
    """Writers of the tables that grow with the log. Use as a context; `add` takes lists in the order of time.

    impressions, rows, clicks, events, without_click: how many were taken so far.
    """

    def __init__(self, folder: Path, *, user_ids: Strings, item_ids: Strings, rng: np.random.Generator) -> None:
        self._user_ids = pa.array(user_ids, pa.string())
        self._item_ids = pa.array(item_ids, pa.string())
        self._rng = rng
        self._impressions = _Growing(folder / "impressions.parquet", WRITTEN_IMPRESSIONS)
        self._truth = _Growing(folder / "truth" / "impressions.parquet", _TRUTH)
        self._events = _Growing(folder / "events.parquet", _EVENTS)
        self._waiting: list[PageViews] = []
        self._late: pd.DataFrame | None = None
        self.impressions = self.rows = self.clicks = self.events = self.without_click = 0

    def __enter__(self) -> SiteTables:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error_type is None:
            self._write_waiting()
            self._add_events(None, before=int(np.iinfo(np.int64).max))
        for table in (self._impressions, self._truth, self._events):
            table.close(complete=error_type is None)

    def add_likes(self, reader: Int32, item: Int32, hours: Float64) -> None:
        """Takes likes from before the first list, all (n,), in the order of time."""
        likes = {
            "time": microseconds(hours),
            "item": item,
            "user": reader,
            "type": _LIKE,
            "value": np.nan,
            "list": None,
        }
        self._add_events(pd.DataFrame(likes), before=START)

    def add(self, views: PageViews) -> None:
        """Takes lists that were shown after all that came before, in the order of time."""
        self._waiting.append(views)
        if sum(len(batch.time) for batch in self._waiting) >= _TOGETHER:
            self._write_waiting()

    def _write_waiting(self) -> None:
        batches, self._waiting = self._waiting, []
        if not batches:
            return
        views = PageViews(
            *(np.concatenate([getattr(batch, field.name) for batch in batches]) for field in fields(PageViews))
        )
        row, column = np.nonzero(views.item >= 0)
        numbers = np.arange(self.impressions, self.impressions + len(views.time))
        list_ids = pa.array([f"i{number:09d}" for number in numbers], pa.string())
        time = microseconds(views.time)
        clicked = views.clicked[row, column]
        list_id, item_id = list_ids.take(pa.array(row)), self._item_ids.take(pa.array(views.item[row, column]))
        self._impressions.add(
            list_id,
            self._users(views.reader[row]),
            pa.array(time[row], TIME),
            item_id,
            pa.array((column + 1).astype(np.int32)),
            pa.array(clicked.astype(np.int8)),
            pa.array(np.zeros(len(row), bool)),
        )
        truth = (views.interest[row, column], views.examination[row, column])
        self._truth.add(list_id, item_id, pa.array(truth[0]), pa.array(truth[1]))
        self._add_events(self._actions(views, time, list_ids), before=int(time[-1]))
        self.impressions += len(views.time)
        self.rows += len(row)
        self.clicks += int(clicked.sum())
        self.without_click += int((~views.clicked.any(axis=1)).sum())

    def _actions(self, views: PageViews, time: Int64, list_ids: pa.StringArray) -> pd.DataFrame:
        """Clicks some seconds after the list; of those, some are views with the seconds read, and a few are shares."""
        row, column = np.nonzero(views.clicked)
        n = len(row)
        delay = np.clip(self._rng.lognormal(np.log(15.0), 0.9, n), 1.0, 600.0)
        click = time[row] + (delay * 1e6).astype(np.int64)
        seconds_read = np.round(self._rng.lognormal(np.log(30.0) + views.interest[row, column], 0.8), 1)
        viewed = np.flatnonzero(self._rng.random(n) < _VIEWED)
        shared = np.flatnonzero(self._rng.random(n) < _SHARED)
        which = np.concatenate([np.arange(n), viewed, shared])
        event_type = np.repeat([_CLICK, _VIEW, _SHARE], [n, len(viewed), len(shared)])
        read = (seconds_read[which] * 1e6).astype(np.int64)
        return pd.DataFrame(
            {
                "time": click[which] + np.select([event_type == _VIEW, event_type == _SHARE], [1_000_000, read], 0),
                "item": views.item[row, column][which],
                "user": views.reader[row][which],
                "type": event_type,
                "value": np.where(event_type == _VIEW, seconds_read[which], np.nan),
                "list": pd.array(list_ids.take(pa.array(row[which])).to_numpy(zero_copy_only=False), dtype=object),
            }
        )

    def _add_events(self, actions: pd.DataFrame | None, *, before: int) -> None:
        """Writes what happened before the time `before`, and keeps the rest until later lists have come."""
        events = pd.concat([batch for batch in (self._late, actions) if batch is not None])
        events = events.sort_values(["time", "item", "user", "type"])
        early = (events["time"] < before).to_numpy()
        self._late, done = events[~early], events[early]
        event_type = done["type"].to_numpy()
        self._events.add(
            self._users(done["user"].to_numpy()),
            self._item_ids.take(pa.array(done["item"].to_numpy())),
            pa.array(done["time"].to_numpy(), TIME),
            _TYPES.take(pa.array(event_type)),
            pa.array(done["value"].to_numpy(), from_pandas=True),
            pa.array(done["list"].to_numpy(), pa.string(), mask=event_type != _CLICK),
        )
        self.events += len(done)

    def _users(self, reader: npt.NDArray[np.integer]) -> pa.StringArray:
        return self._user_ids.take(pa.array(reader.astype(np.int64), mask=reader < 0))


class _Growing:
    """A Parquet file that takes columns in parts and writes them in row groups."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._parts: list[pa.Table] = []
        self._rows = 0

    def add(self, *columns: pa.Array) -> None:
        self._parts.append(pa.table(list(columns), schema=self._schema))
        self._rows += len(columns[0])
        if self._rows >= _ROW_GROUP:
            self._write()

    def close(self, *, complete: bool) -> None:
        if complete:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._parts).combine_chunks(), row_group_size=2 * _ROW_GROUP)
        self._parts, self._rows = [], 0
