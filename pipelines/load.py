"""`recsys load-items`, `load-events`, `load-users`: fill the online store from tables, in bulk.

Reads a file or folder in any of the input formats, batch by batch. Writes the store (rows are upserted by id; events
and lists count once however often they come), and, where a folder is named, the rows left out as <table>.jsonl. May
run beside a server on the same store: what is loaded is seen by the next request.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.compute as pc
from tqdm import tqdm

from features.arrivals import Rejection, ShownList, id_problem
from features.checking import Checked, TableReader
from features.lists import read_lists
from features.online import OnlineState
from features.reading import columns_of, files_of
from features.reads import CLICK, SECOND
from features.rejects import Reject, Rejects
from features.table_warnings import type_warnings
from features.tables import read_table_rows
from pipelines.load_rows import read_events, read_items, shown_lists
from pipelines.reading import settings_options
from pipelines.rebuild import rebuild_in
from recsys.config import Serving
from recsys.registry import tracking
from recsys.registry.versions import load
from recsys.serving.cached_encoder import CachedEncoder
from recsys.serving.item_texts import ItemTextReader
from recsys.serving.states import open_filled_state, open_state
from recsys.serving.stored_vectors import StoredVectors
from recsys.unit import Settings, Unit

_AT_ONCE = 5_000
_CACHED_TEXTS = 20_000


@dataclass
class LoadReport:
    """What a load did. table: items, events, impressions or users. rows: of the file. accepted: rows taken, repeats of
    known ones included. changed: items that are new or differ from before. encoded: texts that no vector was known of.
    rejected: reason to number of rows (of lists, for impressions that the store refused). repeats: rows of an item or
    user whose id came before in the same load; the last row counts. warnings: plain sentences.
    """

    table: str
    rows: int = 0
    accepted: int = 0
    changed: int = 0
    encoded: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    repeats: int = 0
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report of `--json`."""
        return {
            "table": self.table,
            "rows": self.rows,
            "accepted": self.accepted,
            "changed": self.changed,
            "encoded": self.encoded,
            "rejected": dict(self.rejected),
            "seconds": round(self.seconds, 3),
            "repeats": self.repeats,
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        rate = self.rows / max(self.seconds, 1e-9)
        found = [f"{self.table}: {self.accepted:,} of {self.rows:,} rows in {self.seconds:.1f} s ({rate:,.0f} rows/s)"]
        if self.table == "items":
            found.append(f"{self.changed:,} items are new or changed, {self.encoded:,} texts were encoded")
        if self.repeats:
            found.append(f"{self.repeats:,} rows repeat an id; the last row of each counts")
        found += [f"rejected: {count:,} x {reason}" for reason, count in self.rejected.items()]
        return found + [f"warning: {warning}" for warning in self.warnings]


def load_items(path: Path, store: str, model_uri: str, *, rejects: Path | None = None) -> LoadReport:
    """Upsert an items table into the store of a model, made where there is none; new texts are encoded.

    rejects: folder for the rows left out. Raises InputError for an unusable table, StoreError for the store, ModelError
    or ModelNotFound for the model.
    """
    unit = _unit(model_uri)
    with open_state(store, unit.settings, create=True, widths=vector_widths(path, unit.settings)) as state:
        return items_into(state, unit, path, rejects=rejects)


def load_events(path: Path, store: str, model_uri: str, *, rejects: Path | None = None) -> LoadReport:
    """Count an events or an impressions table in the store of a model, told apart by their columns; as `load_items`.

    The model's collaborative tables are made anew at the end, from everything that the store then holds.
    """
    unit = _unit(model_uri)
    with open_state(store, unit.settings, create=True) as state:
        report = events_into(state, path, rejects=rejects)
        rebuild_in(state, unit)
        return report


def load_users(path: Path, store: str, *, rejects: Path | None = None) -> LoadReport:
    """Keep the attributes of a users table in a store that `load_items` has made; as `load_items`."""
    with open_filled_state(store) as state:
        return users_into(state, path, rejects=rejects)


def items_into(state: OnlineState, unit: Unit, path: Path, *, rejects: Path | None = None) -> LoadReport:
    """`load_items` with everything open. The last row of an item counts, as in training."""
    report = LoadReport("items")
    made: list[int] = []
    encoder = CachedEncoder(unit.encoder, StoredVectors(state.store), _CACHED_TEXTS, on_made=made.append)
    texts = ItemTextReader(encoder, unit.lexical, _CACHED_TEXTS)
    seen: set[str] = set()
    changed: set[str] = set()
    options = settings_options(unit.settings)
    with _Load(report, path, rejects) as load_:
        reader = read_table_rows(path, "items", timezone=options.timezone, rejects=load_.rejects, options=options)
        for checked in load_.batches(reader):
            items, refused = {}, 0
            for place, item in enumerate(read_items(checked)):
                if reason := _long_id(item.item_id):
                    load_.reject(checked, place, reason, "item_id", item.item_id)
                    refused += 1
                    continue
                report.repeats += item.item_id in seen
                seen.add(item.item_id)
                items[item.item_id] = item
            changed.update(state.add_items(list(items.values())))
            texts.encode(items)
            load_.done(len(checked.rows), len(checked.rows) - refused)
    report.encoded, report.changed = sum(made), len(changed)
    return report


def events_into(state: OnlineState, path: Path, *, rejects: Path | None = None) -> LoadReport:
    """`load_events` with everything open."""
    if "clicked" in columns_of(files_of(path)[0]):
        return _lists_into(state, path, rejects)
    report = LoadReport("events")
    with _Load(report, path, rejects) as load_:
        reader = read_table_rows(path, "events", timezone=state.settings.timezone, rejects=load_.rejects)
        types: Counter[str] = Counter()
        for checked in load_.batches(reader):
            found = pc.value_counts(checked.data.column("event_type").fill_null(CLICK)).to_pylist()
            types.update({one["values"]: one["counts"] for one in found})
            rejected = state.add_events(read_events(checked), latest=_latest())
            for one in rejected:
                load_.reject(checked, one.index, one.code, one.message.partition(":")[0], one.message)
            load_.done(len(checked.rows), len(checked.rows) - len(rejected))
        counted = {name: (rows, state.settings.is_positive(name)) for name, rows in sorted(types.items())}
        report.warnings += tuple(type_warnings(counted, state.settings.positive_event_types))
    return report


def users_into(state: OnlineState, path: Path, *, rejects: Path | None = None) -> LoadReport:
    """`load_users` with everything open."""
    report = LoadReport("users")
    seen: set[str] = set()
    with _Load(report, path, rejects) as load_:
        reader = read_table_rows(path, "users", timezone=state.settings.timezone, rejects=load_.rejects)
        for checked in load_.batches(reader):
            rows = checked.data.to_pylist()
            users = [row.pop("user_id") for row in rows]
            report.repeats += len(users) - len(set(users) - seen)
            seen.update(users)
            state.add_users([(user, orjson.dumps(row, default=str)) for user, row in zip(users, rows, strict=True)])
            load_.done(len(rows), len(rows))
    return report


def _lists_into(state: OnlineState, path: Path, rejects: Path | None) -> LoadReport:
    """Lists are read whole before the first is counted, since their rows may stand anywhere; about 30 bytes a row."""
    report = LoadReport("impressions")
    with _Load(report, path, rejects) as load_:
        reader = read_table_rows(path, "impressions", timezone=state.settings.timezone, rejects=load_.rejects)
        lists = read_lists(reader, load_.rejects)
        rows = np.diff(lists.offsets)
        report.rows = reader.n_rows
        report.warnings = tuple(reader.observed.warnings())
        for start in range(0, len(lists), _AT_ONCE):
            part = list(shown_lists(lists, start, min(start + _AT_ONCE, len(lists))))
            rejected = state.add_impressions(part, latest=_latest())
            for one in rejected:
                load_.reject_list(part[one.index], one)
            lost = sum(int(rows[start + one.index]) for one in rejected)
            load_.done(0, int(rows[start : start + len(part)].sum()) - lost)
        report.accepted += lists.repeats
    return report


def vector_widths(path: Path, settings: Settings) -> dict[str, int]:
    """The width of each vector column that the model reads, from the first rows of an items table that have one."""
    widths: dict[str, int] = {}
    if not settings.item_vectors:
        return widths
    for checked in read_table_rows(path, "items", options=settings_options(settings)):
        for name in settings.item_vectors:
            found = checked.data.column(f"vector {name}").drop_null()
            if len(found):
                widths.setdefault(name, len(found[0]))
        if len(widths) == len(settings.item_vectors):
            break
    return widths


class _Load:
    """One load under way: its rejects, its progress, its clock."""

    def __init__(self, report: LoadReport, path: Path, folder: Path | None) -> None:
        self.rejects = Rejects(folder)
        self._report = report
        self._path = path
        self._started = time.perf_counter()
        self._bar = tqdm(desc=f"load {report.table}", unit=" rows", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> _Load:
        self.rejects.__enter__()
        self.rejects.clear((self._report.table,))
        return self

    def __exit__(self, *error: Any) -> None:
        self.rejects.__exit__(*error)
        self._bar.close()
        self._report.rejected = self.rejects.by_reason(self._report.table)
        self._report.seconds = time.perf_counter() - self._started

    def batches(self, reader: TableReader) -> Iterator[Checked]:
        """The reader's batches, cut to a size that a transaction takes well."""
        for checked in reader:
            for start in range(0, len(checked.rows), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                yield Checked(checked.file, checked.rows[part], checked.data.slice(start, _AT_ONCE))
        self._report.rows = reader.n_rows
        self._report.warnings = tuple(reader.observed.warnings())

    def done(self, rows: int, accepted: int) -> None:
        """Count rows that have been dealt with."""
        self._report.accepted += accepted
        self._bar.update(rows or accepted)

    def reject(self, checked: Checked, place: int, reason: str, name: str, value: str) -> None:
        """Count and write down a row of a batch."""
        row = int(checked.rows[place])
        self.rejects.add(self._report.table, Reject(str(checked.file), row, reason, name, value))

    def reject_list(self, shown: ShownList, why: Rejection) -> None:
        """Count and write down a list; its rows are found by its id."""
        reject = Reject(str(self._path), 0, why.code, "impression_id", f"{shown.impression_id}: {why.message}")
        self.rejects.add(self._report.table, reject)


def _unit(model_uri: str) -> Unit:
    tracking.connect()
    return load(model_uri).unit


def _long_id(item_id: str) -> str:
    problem = id_problem("item_id", item_id)
    return "" if problem is None else problem[0]


def _latest() -> int:
    """The latest time that an event may have, microseconds."""
    return time.time_ns() // 1000 + round(Serving().future_seconds * SECOND)
