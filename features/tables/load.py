"""The input tables of a data directory, read into a `Log`: the one way in for training, scoring and the checks.

Reads `items`, `events`, `impressions` and `users` (each a file or a folder; the latter three where they exist), one
pass each, batch by batch. What is held for a row of events or impressions is its integer codes and its time, about
25 bytes; texts are held for items only. Writes nothing but reject files, and those only where a folder is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrays import Int32
from features.errors import InputError
from features.log import HISTORY_TYPE, Events, Impressions, Log, Requests
from features.tables.click_matching import ClickedRows, Matches, add_unmatched_clicks, match_clicks
from features.tables.data_settings import DataSettings
from features.tables.encodings import FileOptions
from features.tables.events import EventRows, event_types, read_events, types_found
from features.tables.formats import find_table
from features.tables.impressions import ImpressionTable, no_lists, read_lists
from features.tables.items import CatalogColumns, ItemsTable, build_catalog, items_reader, read_items, strings
from features.tables.reading_warnings import reading_warnings
from features.tables.rejects import Rejects
from features.tables.report import (
    TableCounts,
    TableReport,
    click_warnings,
    fingerprint,
    item_warnings,
    list_warnings,
    repeat_warnings,
    type_warnings,
)
from features.tables.schema import TABLES
from features.tables.string_codes import sorted_union
from features.tables.table_reader import DEFAULT_FILES, TableReader
from features.tables.users import attributes, read_users

__all__ = ["ReadOptions", "TableCounts", "TableReport", "load_log", "read_table_rows", "validate"]


@dataclass(frozen=True)
class ReadOptions:
    """How the tables are read.

    data: how times and events are understood. item_columns: the further columns of the items table. files: encoding,
    and how much may be rejected. now: microseconds, by which a time is in the future; None is the clock's.
    """

    data: DataSettings = field(default_factory=DataSettings)
    item_columns: CatalogColumns = field(default_factory=CatalogColumns)
    files: FileOptions = DEFAULT_FILES
    now: int | None = None


@dataclass(frozen=True)
class InputTables:
    """Everything read, codes not yet joined, and the readers, which know the counts. user_repeats: rows of users whose
    id comes again later."""

    items: ItemsTable
    events: EventRows
    lists: ImpressionTable
    users: pa.Table | None
    user_repeats: int
    readers: dict[str, TableReader]


@dataclass(frozen=True)
class EncodedTables:
    """The tables in the log's codes, while a clicked row and its event are still two things.

    item_ids, user_ids: sorted. user: (n_lists,). item: (n_rows,) of the lists. events: in the table's order, unsorted.
    clicked: the clicked rows of lists, in order. matches: the event of each.
    """

    item_ids: pa.Array
    user_ids: pa.Array
    user: Int32
    item: Int32
    events: Events
    clicked: ClickedRows
    matches: Matches


def load_log(
    folder: Path,
    options: ReadOptions | None = None,
    *,
    rejects: Path | None = None,
    impressions_required: bool = False,
) -> tuple[Log, TableReport]:
    """The log of a data directory and the report of its reading.

    rejects: folder for `<table>.jsonl` files of rows left out; None counts them only. impressions_required: a
    directory with events alone is an error. Raises InputError where the tables cannot be used: one line that names
    the file or field, what was expected and what was found.
    """
    options = options or ReadOptions()
    folder = Path(folder)
    with Rejects(rejects) as bin_:
        bin_.clear(tuple(TABLES))
        tables = read_tables(folder, options, bin_, impressions_required=impressions_required)
        log, matches, added = build_log(tables, join(tables, options))
        if not log.events.positive.any():
            raise InputError(
                f"data directory {str(folder)!r}: expected at least one click, found none: no impression has clicked "
                f"above 0 and no event is of a positive type (found {list(log.events.types)})"
            )
        return log, _report(tables, log, matches, added, options, bin_)


def validate(folder: Path, options: ReadOptions | None = None, *, rejects: Path | None = None) -> TableReport:
    """The report of a reading: the same pass, counts, fingerprint and InputError as `load_log`."""
    return load_log(folder, options, rejects=rejects)[1]


def read_table_rows(
    path: Path, table: str, options: ReadOptions | None = None, *, rejects: Rejects | None = None
) -> TableReader:
    """One pass over the checked rows of one table, for a reader that wants no log; iterate it for `CheckedBatch`es.

    table: items, events, impressions or users. Items come with their further columns, named as `category NAME`,
    `number NAME`, `vector NAME` and `text NAME`. Raises InputError for an unusable file, and ValueError for another
    table name.
    """
    if table not in TABLES:
        raise ValueError(f"table: expected one of {sorted(TABLES)}, got {table!r}")
    return _table_reader(Path(path), table, options or ReadOptions(), rejects or Rejects(None))


def _table_reader(path: Path, table: str, options: ReadOptions, rejects: Rejects) -> TableReader:
    zone, files, now = options.data.timezone, options.files, options.now
    if table == "items":
        return items_reader(path, options.item_columns, timezone=zone, rejects=rejects, files=files, now=now)
    return TableReader(path, TABLES[table], timezone=zone, rejects=rejects, files=files, now=now)


def read_tables(
    folder: Path, options: ReadOptions, rejects: Rejects, *, impressions_required: bool = False
) -> InputTables:
    """The tables of a data directory, read and checked row by row. Raises InputError where they cannot be used."""
    paths = {table: find_table(folder, table) for table in TABLES}
    if paths["items"] is None:
        raise InputError(
            f"data directory {str(folder)!r}: expected an items table (items.parquet, .csv, …), found none"
        )
    if paths["impressions"] is None and (impressions_required or paths["events"] is None):
        got = "events alone; `recsys data slates` makes impressions from them" if paths["events"] else "none"
        raise InputError(f"data directory {str(folder)!r}: expected an impressions table, found {got}")
    readers = {table: _table_reader(path, table, options, rejects) for table, path in paths.items() if path is not None}
    users, user_repeats = read_users(readers["users"]) if "users" in readers else (None, 0)
    tables = InputTables(
        read_items(readers["items"], options.item_columns),
        read_events(readers.get("events", ())),
        read_lists(readers["impressions"], rejects) if "impressions" in readers else no_lists(),
        users,
        user_repeats,
        readers,
    )
    for reader in readers.values():
        reader.check_rejects()
    return tables


def join(tables: InputTables, options: ReadOptions) -> EncodedTables:
    """The tables in the log's codes, and which event is the click of which clicked row."""
    items, events, lists = tables.items, tables.events, tables.lists
    described_users = [] if tables.users is None else tables.users.column("user_id").chunks
    item_ids = sorted_union([items.ids, events.item.used(), lists.item.used()])
    user_ids = sorted_union([*described_users, events.user.used(), lists.user.used()])
    log_events = _events(events, item_ids, user_ids, options)
    user, item = lists.user.recode(user_ids), lists.item.recode(item_ids)
    rows = np.flatnonzero(lists.label > 0)
    owner = np.searchsorted(lists.offsets, rows, side="right") - 1
    clicked = ClickedRows(owner, user[owner], item[rows], lists.time[owner])
    matches = match_clicks(
        log_events, _list_of_event(events, lists), clicked, window=options.data.click_window, n_items=len(item_ids)
    )
    return EncodedTables(item_ids, user_ids, user, item, log_events, clicked, matches)


def build_log(tables: InputTables, joined: EncodedTables) -> tuple[Log, Matches, int]:
    """The log of joined tables, its matches, and how many clicks came from a list alone."""
    lists = tables.lists
    log_events, added = add_unmatched_clicks(joined.events, joined.clicked, joined.matches)
    query = lists.query.decoded() if len(lists.query.values) else None
    requests = Requests(joined.user, lists.time, lists.offsets, joined.item, query)
    impressions = Impressions(requests, lists.ids.decoded(), lists.sampled, lists.label, lists.position)
    user_attributes = None if tables.users is None else attributes(tables.users, joined.user_ids)
    catalog = build_catalog(tables.items, joined.item_ids)
    return Log(catalog, strings(joined.user_ids), log_events, impressions, user_attributes), joined.matches, added


def _events(rows: EventRows, item_ids: pa.Array, user_ids: pa.Array, options: ReadOptions) -> Events:
    names = rows.type.values.to_pylist()
    types, positive = event_types(names, options.data.positive_event_types)
    event_type = np.array([types.index(name) for name in names], np.int8)[rows.type.codes]
    dated = np.array([name != HISTORY_TYPE for name in types], np.bool_)
    user, item = rows.user.recode(user_ids), rows.item.recode(item_ids)
    return Events(user, item, rows.time, event_type, types, positive[event_type], dated[event_type])


def _list_of_event(events: EventRows, lists: ImpressionTable) -> Int32:
    """(n_events,) which list each event names, -1 for none and for one that is not there."""
    position = np.full(len(lists.ids.values) + 1, -1, np.int32)
    position[lists.ids.codes] = np.arange(len(lists), dtype=np.int32)
    return position[events.impression.recode(lists.ids.values)]


def _report(
    tables: InputTables, log: Log, matches: Matches, added: int, options: ReadOptions, rejects: Rejects
) -> TableReport:
    counts, units = {}, {}
    for name, reader in tables.readers.items():
        repeats = _repeats(tables)[name]
        by_reason = rejects.by_reason(name)
        n_kept = reader.n_rows - sum(by_reason.values()) - repeats
        emptied = {column: cells.count for column, cells in reader.observed.emptied.items()}
        counts[name] = TableCounts(reader.n_rows, n_kept, by_reason, repeats, emptied)
        for column, unit in reader.units.items():
            naive = f" without a zone, read as {options.data.timezone}" if column in reader.naive else ""
            units[f"{name}.{column}"] = unit + naive
    times = np.concatenate([log.events.time[log.events.dated], log.impressions.requests.time])
    described = len(tables.items.ids)
    return TableReport(
        counts,
        items=described,
        undescribed=len(log.catalog) - described,
        users=len(log.users),
        events=len(log.events),
        clicks=int(log.events.positive.sum()),
        impressions=len(log.impressions),
        candidates=log.impressions.requests.n_rows,
        matched=int((matches.event >= 0).sum()),
        added=added,
        first=int(times.min()) if len(times) else None,
        last=int(times.max()) if len(times) else None,
        time_units=units,
        categories=tables.items.categories,
        event_types=types_found(tables.events, log.events),
        warnings=tuple(_warnings(tables, log, matches, added, options)),
        fingerprint=fingerprint(log),
    )


def _repeats(tables: InputTables) -> dict[str, int]:
    """Rows of each table that say again what another one says, or that a later one replaces."""
    return {
        "items": tables.items.repeats,
        "events": tables.events.repeats,
        "impressions": tables.lists.repeats,
        "users": tables.user_repeats,
    }


def _warnings(tables: InputTables, log: Log, matches: Matches, added: int, options: ReadOptions) -> list[str]:
    ids = pa.array(log.catalog.ids, pa.large_string())
    described = pc.is_in(ids, value_set=tables.items.ids).to_numpy(zero_copy_only=False)
    clicks = int((log.events.positive & log.events.dated).sum())
    in_lists = len(np.unique(matches.event[matches.event >= 0]))
    unknown = (tables.events.impression.codes >= 0) & (_list_of_event(tables.events, tables.lists) < 0)
    return [
        *reading_warnings(tables.readers),
        *item_warnings(log, np.append(described, False)),
        *repeat_warnings(_repeats(tables)),
        *type_warnings(types_found(tables.events, log.events), options.data.positive_event_types),
        *list_warnings(log, tables.lists.repeats),
        *click_warnings(
            log,
            alone=clicks - added - in_lists,
            unknown_lists=int(unknown.sum()) if len(log.impressions) else 0,
            early=matches.n_before_impression,
            positive=options.data.positive_event_types,
        ),
    ]
