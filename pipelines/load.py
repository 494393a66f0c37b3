"""`recsys load-items`, `load-events`: fill the online store from tables, in bulk.

Reads a file or folder in any of the input formats, batch by batch. Writes the store (rows are upserted by id; events
and lists count once however often they come), and, where a folder is named, the rows left out as <table>.jsonl. May
run beside a server on the same store: what is loaded is seen by the next request.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from features.clock import SECOND
from features.definitions.aggregates import CLICK
from features.online.events import id_problem
from features.online.state import OnlineState
from features.tables.encodings import FileOptions
from features.tables.formats import columns_of, files_of
from features.tables.impressions import read_impression_table
from features.tables.load import ReadOptions, read_table_rows
from features.tables.report import type_warnings
from features.tables.table_reader import DEFAULT_FILES
from pipelines.data_options import read_options_of_model
from pipelines.loading import AT_ONCE, EVENTS_AT_ONCE, Load, LoadReport
from pipelines.online_rows import read_events, read_impressions, read_items
from pipelines.refresh_collaborative import refresh_in
from recsys.config import ServingConfig
from recsys.online.model import OnlineModel
from recsys.online.open_state import open_state
from recsys.ranker.model import RankingModel, Settings
from recsys.registry import tracking
from recsys.registry.versions import load


def load_items(
    path: Path, store: str, model_uri: str, *, rejects: Path | None = None, files: FileOptions = DEFAULT_FILES
) -> LoadReport:
    """Upsert an items table into the store of a model, made where there is none; new texts are encoded.

    rejects: folder for the rows left out. files: how the table's files are read. Raises InputError for an unusable
    table and one of which no row is taken, StoreError for the store, ModelError or ModelNotFound for the model.
    """
    ranking_model = _ranking_model(model_uri)
    with open_state(
        store, ranking_model.settings, create=True, widths=vector_widths(path, ranking_model.settings, files)
    ) as state:
        report = load_items_into(state, ranking_model, path, rejects=rejects, files=files)
    report.require_any(path)
    return report


def load_events(
    path: Path, store: str, model_uri: str, *, rejects: Path | None = None, files: FileOptions = DEFAULT_FILES
) -> LoadReport:
    """Count an events or an impressions table in the store of a model, as `load_items`. An impressions table has a
    column `clicked`.

    The model's collaborative snapshot is built again at the end, from everything that the store then holds.
    """
    ranking_model = _ranking_model(model_uri)
    with open_state(store, ranking_model.settings, create=True) as state:
        report = events_into(state, path, rejects=rejects, files=files)
        report.require_any(path)
        refresh_in(state, ranking_model)
        return report


def load_items_into(
    state: OnlineState,
    ranking_model: RankingModel,
    path: Path,
    *,
    rejects: Path | None = None,
    files: FileOptions = DEFAULT_FILES,
) -> LoadReport:
    """`load_items` with everything open. The last row of an item counts, as in training."""
    encoded: list[int] = []
    online = OnlineModel.of(ranking_model, state, on_encoded=encoded.append)
    seen: set[str] = set()
    changed: set[str] = set()
    with Load("items", path, read_options_of_model(ranking_model.settings, files), rejects) as loading:
        for checked in loading.batches():
            items, refused = {}, 0
            for row, item in enumerate(read_items(checked)):
                if reason := _long_id(item.item_id):
                    loading.reject(checked, row, reason, "item_id", item.item_id)
                    refused += 1
                    continue
                loading.report.repeats += item.item_id in seen
                seen.add(item.item_id)
                items[item.item_id] = item
            changed.update(state.add_items(list(items.values())))
            online.encode(items)
            loading.done(len(checked.rows), len(checked.rows) - refused)
    loading.report.encoded, loading.report.changed = sum(encoded), len(changed)
    return loading.report


def events_into(
    state: OnlineState, path: Path, *, rejects: Path | None = None, files: FileOptions = DEFAULT_FILES
) -> LoadReport:
    """`load_events` with everything open."""
    if "clicked" in columns_of(files_of(path, files.encoding)[0]):
        return _lists_into(state, path, rejects, files)
    types: Counter[str] = Counter()
    with Load("events", path, ReadOptions(state.settings.data, files=files), rejects) as loading:
        for checked in loading.batches(EVENTS_AT_ONCE):
            counts = pc.value_counts(checked.data.column("event_type").fill_null(CLICK)).to_pylist()
            types.update({count["values"]: count["counts"] for count in counts})
            rejected = state.add_events(read_events(checked), latest=_latest())
            for rejection in rejected:
                loading.reject(
                    checked, rejection.index, rejection.code, rejection.message.partition(":")[0], rejection.message
                )
            loading.done(len(checked.rows), len(checked.rows) - len(rejected))
        counted = {name: (rows, state.settings.is_positive(name)) for name, rows in sorted(types.items())}
        loading.report.warnings += tuple(type_warnings(counted, state.settings.data.positive_event_types))
    return loading.report


def _lists_into(state: OnlineState, path: Path, rejects: Path | None, files: FileOptions) -> LoadReport:
    """Lists are read whole before the first is counted, since their rows may stand anywhere; about 30 bytes a row."""
    with Load("impressions", path, ReadOptions(state.settings.data, files=files), rejects) as loading:
        reader = loading.reader(loading.rejects)
        table = read_impression_table(reader, loading.rejects)
        reader.check_rejects()
        rows = np.diff(table.offsets)
        loading.report.rows = reader.n_rows
        for start in range(0, len(table), AT_ONCE):
            chunk = list(read_impressions(table, start, min(start + AT_ONCE, len(table))))
            rejected = state.add_impressions(chunk, latest=_latest())
            for rejection in rejected:
                loading.reject_list(chunk[rejection.index], rejection)
            lost = sum(int(rows[start + rejection.index]) for rejection in rejected)
            loading.done(0, int(rows[start : start + len(chunk)].sum()) - lost)
        loading.report.accepted += table.repeats
        loading.check(reader)
    return loading.report


def vector_widths(path: Path, settings: Settings, files: FileOptions = DEFAULT_FILES) -> dict[str, int]:
    """The width of each vector column that the model reads, from the first rows of an items table that have one."""
    widths: dict[str, int] = {}
    options = read_options_of_model(settings, files)
    vectors = options.item_columns.vectors
    if not vectors:
        return widths
    for checked in read_table_rows(path, "items", options):
        for name in vectors:
            present = checked.data.column(f"vector {name}").drop_null()
            if len(present):
                widths.setdefault(name, len(present[0]))
        if len(widths) == len(vectors):
            break
    return widths


def _ranking_model(model_uri: str) -> RankingModel:
    tracking.connect()
    return load(model_uri).ranking_model


def _long_id(item_id: str) -> str:
    problem = id_problem("item_id", item_id)
    return "" if problem is None else problem[0]


def _latest() -> int:
    """The latest time that an event may have, microseconds."""
    return time.time_ns() // 1000 + round(ServingConfig().future_seconds * SECOND)
