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
from features.tables.events import EventRows, event_schema, event_types, read_events, types_found
from features.tables.formats import find_table
from features.tables.impressions import ImpressionTable, empty_impression_table, read_impression_table
from features.tables.items import CatalogColumns, ItemsTable, build_catalog, item_schema, read_items, strings
from features.tables.ratings import rating_warnings
from features.tables.reading_warnings import reading_warnings
from features.tables.rejects import Rejects
from features.tables.report import (
    TableCounts,
    TableReport,
    click_warnings,
    fingerprint,
    impression_warnings,
    item_warnings,
    repeat_warnings,
    type_warnings,
)
from features.tables.schema import TABLES
from features.tables.string_codes import sorted_union
from features.tables.table_reader import DEFAULT_FILES, TableReader
from features.tables.users import attributes, read_users


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
    """The tables read, codes not yet joined, and the readers, which hold the counts. user_repeats: rows of users that a
    later row of the same id replaces."""

    items: ItemsTable
    events: EventRows
    impressions: ImpressionTable
    users: pa.Table | None
    user_repeats: int
    readers: dict[str, TableReader]


@dataclass(frozen=True)
class EncodedTables:
    """The tables in the log's codes, before a clicked row and its event become one click.

    item_ids, user_ids: sorted. user: (n_impressions,). item: (n_rows,) of the impressions. events: in the table's
    order, unsorted. clicked: the clicked rows of impressions, in order. matches: the event of each.
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
    with Rejects(rejects) as rejected:
        rejected.clear(tuple(TABLES))
        tables = read_tables(folder, options, rejected, impressions_required=impressions_required)
        joined = join(tables, options)
        log, added = build_log(tables, joined)
        if not log.events.positive.any():
            raise InputError(
                f"data directory {str(folder)!r}: expected at least one click, found none: no impression has clicked "
                f"above 0 and no event is of a positive type (found {list(log.events.types)})"
                + (f" and meets {options.data.positive!r}" if options.data.positive else "")
            )
        return log, _report(tables, log, joined.matches, added, options, rejected)


def read_table_rows(
    path: Path, table: str, options: ReadOptions | None = None, *, rejects: Rejects | None = None
) -> TableReader:
    """One pass over the checked rows of one table, without a log; iterate it for `CheckedBatch`es.

    table: items, events, impressions or users. Items come with their further columns, named as `category NAME`,
    `number NAME`, `vector NAME` and `text NAME`. Raises InputError for an unusable file, and ValueError for another
    table name.
    """
    if table not in TABLES:
        raise ValueError(f"table: expected one of {sorted(TABLES)}, got {table!r}")
    options, rejects = options or ReadOptions(), rejects or Rejects(None)
    schema = TABLES[table]
    if table == "items":
        schema = item_schema(path, options.files.encoding, options.item_columns)
    elif table == "events":
        schema = event_schema(options.data.positive_rule)
    zone = options.data.timezone
    return TableReader(path, schema, timezone=zone, rejects=rejects, files=options.files, now=options.now)


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
    readers = {
        table: read_table_rows(path, table, options, rejects=rejects)
        for table, path in paths.items()
        if path is not None
    }
    users, user_repeats = read_users(readers["users"]) if "users" in readers else (None, 0)
    tables = InputTables(
        read_items(readers["items"], options.item_columns),
        read_events(readers.get("events", ()), options.data.positive_rule),
        read_impression_table(readers["impressions"], rejects)
        if "impressions" in readers
        else empty_impression_table(),
        users,
        user_repeats,
        readers,
    )
    for reader in readers.values():
        reader.check_rejects()
    return tables


def join(tables: InputTables, options: ReadOptions) -> EncodedTables:
    """The tables in the log's codes, and which event is the click of which clicked row."""
    items, events, impressions = tables.items, tables.events, tables.impressions
    described_users = [] if tables.users is None else tables.users.column("user_id").chunks
    item_ids = sorted_union([items.ids, events.item.used(), impressions.item.used()])
    user_ids = sorted_union([*described_users, events.user.used(), impressions.user.used()])
    log_events = _events(events, item_ids, user_ids, options)
    user, item = impressions.user.recode(user_ids), impressions.item.recode(item_ids)
    rows = np.flatnonzero(impressions.label > 0)
    owner = np.searchsorted(impressions.offsets, rows, side="right") - 1
    clicked = ClickedRows(owner, user[owner], item[rows], impressions.time[owner])
    matches = match_clicks(
        log_events,
        _impression_of_event(events, impressions),
        clicked,
        window=options.data.click_window,
        n_items=len(item_ids),
    )
    return EncodedTables(item_ids, user_ids, user, item, log_events, clicked, matches)


def build_log(tables: InputTables, joined: EncodedTables) -> tuple[Log, int]:
    """The log of joined tables, and how many clicks came from an impression without an event."""
    table = tables.impressions
    log_events, added = add_unmatched_clicks(joined.events, joined.clicked, joined.matches)
    query = table.query.decoded() if len(table.query.values) else None
    requests = Requests(joined.user, table.time, table.offsets, joined.item, query)
    impressions = Impressions(requests, table.ids.decoded(), table.sampled, table.label, table.position)
    user_attributes = None if tables.users is None else attributes(tables.users, joined.user_ids)
    catalog = build_catalog(tables.items, joined.item_ids)
    return Log(catalog, strings(joined.user_ids), log_events, impressions, user_attributes), added


def _events(rows: EventRows, item_ids: pa.Array, user_ids: pa.Array, options: ReadOptions) -> Events:
    names = rows.type.values.to_pylist()
    types, positive = event_types(names, options.data.positive_event_types)
    event_type = np.array([types.index(name) for name in names], np.int8)[rows.type.codes]
    dated = np.array([name != HISTORY_TYPE for name in types], np.bool_)
    user, item = rows.user.recode(user_ids), rows.item.recode(item_ids)
    is_dated = dated[event_type]
    is_positive = positive[event_type] & (rows.meets_rule | ~is_dated)
    return Events(user, item, rows.time, event_type, types, is_positive, is_dated)


def _impression_of_event(events: EventRows, impressions: ImpressionTable) -> Int32:
    """(n_events,) index of the impression that each event names, -1 for none and for one that the table lacks."""
    position = np.full(len(impressions.ids.values) + 1, -1, np.int32)
    position[impressions.ids.codes] = np.arange(len(impressions), dtype=np.int32)
    return position[events.impression.recode(impressions.ids.values)]


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
    """Rows of each table that repeat another row, or that a later row replaces."""
    return {
        "items": tables.items.repeats,
        "events": tables.events.repeats,
        "impressions": tables.impressions.repeats,
        "users": tables.user_repeats,
    }


def _warnings(tables: InputTables, log: Log, matches: Matches, added: int, options: ReadOptions) -> list[str]:
    ids = pa.array(log.catalog.ids, pa.large_string())
    described = pc.is_in(ids, value_set=tables.items.ids).to_numpy(zero_copy_only=False)
    clicks = int((log.events.positive & log.events.dated).sum())
    n_matched = len(np.unique(matches.event[matches.event >= 0]))
    unknown = (tables.events.impression.codes >= 0) & (_impression_of_event(tables.events, tables.impressions) < 0)
    return [
        *reading_warnings(tables.readers),
        *item_warnings(log, np.append(described, False)),
        *repeat_warnings(_repeats(tables)),
        *type_warnings(types_found(tables.events, log.events), options.data.positive_event_types),
        *([] if options.data.positive else rating_warnings(tables.events.values)),
        *impression_warnings(log, tables.impressions.repeats),
        *click_warnings(
            log,
            unmatched=clicks - added - n_matched,
            unknown_impressions=int(unknown.sum()) if len(log.impressions) else 0,
            early=matches.n_before_impression,
            positive=options.data.positive_event_types,
        ),
    ]
