"""MIND (Microsoft News, https://msnews.github.io) as it is shipped, turned into the native tables.

Reads `behaviors.tsv` and `news.tsv` from a folder, or from its subfolders (`train`, `dev`, …), whose names are then
put before the impression ids, as `train-17`. Writes `items.parquet`, `impressions.parquet` and `events.parquet`.

- The click history that MIND repeats on every row of a user becomes events of type `history`, once a user, in order,
  one second apart and before the log's first impression. Where a user's rows disagree, the history on the user's
  earliest impression holds, since a later one may contain clicks that the log itself shows.
- Times have no zone and are taken as UTC. MIND shuffles every list, so there is no position.
- Rows without labels (MIND's test set) are rejected as `unlabelled`.
- Items that are shown but never described have no row in items; the loader keeps them as candidates without text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.arrays import Bool, Int64
from features.atomic_files import atomic_folder
from features.clock import SECOND
from features.errors import InputError
from features.log import HISTORY_TYPE
from features.tables.cells import mask_of, read_text
from features.tables.delimited import CsvDialect, delimited_batches
from features.tables.encodings import FileOptions, reason_for
from features.tables.mind_report import MindReport
from features.tables.raw_batch import RawBatch
from features.tables.rejects import Rejects
from features.tables.schema import CANONICAL
from features.tables.sources import Source
from features.tables.table_reader import DEFAULT_FILES

_BEHAVIORS = CsvDialect("\t", ("impression_id", "user_id", "time", "history", "impressions"), quoted=False)
_NEWS = CsvDialect(
    "\t",
    ("item_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities"),
    quoted=False,
)
_TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
_TEXT, _TIME = CANONICAL["id"], CANONICAL["time"]
_ITEMS = pa.schema([(name, _TEXT) for name in ("item_id", "title", "description", "category", "subcategory")])
_IMPRESSIONS = pa.schema(
    [("impression_id", _TEXT), ("user_id", _TEXT), ("timestamp", _TIME), ("item_id", _TEXT), ("clicked", pa.int8())]
)
_EVENTS = pa.schema([("user_id", _TEXT), ("item_id", _TEXT), ("timestamp", _TIME), ("event_type", _TEXT)])
_USERS_A_BATCH = 20_000


@dataclass
class _History:
    """The history of a user's earliest impression so far. time: of that impression, microseconds."""

    time: int
    items: str
    differs: bool = False


class _Import:
    """The state of one import: counts, ids met, and the history of each user."""

    def __init__(self, rejects: Rejects) -> None:
        self.rejects = rejects
        self.described: set[str] = set()
        self.item_ids: set[str] = set()
        self.histories: dict[str, _History] = {}
        self.rows: Counter[str] = Counter()
        self.impressions = self.candidates = self.clicks = self.history_events = 0
        self.first: int | None = None

    def reject(self, raw: RawBatch, table: str, bad: Bool, reason: str, field: str, usable: Bool) -> None:
        """Count the rows `bad` that are still `usable`, and clear them."""
        for reject in raw.rejected(bad & usable, reason, field):
            self.rejects.add(table, reject)
        usable &= ~bad


def import_mind(source: Path, out: Path, files: FileOptions = DEFAULT_FILES) -> MindReport:
    """Write MIND's files in `source` as native tables into the new folder `out`, and report what they hold.

    Rejected rows are in `out`/rejects. Raises InputError where there is no behaviors.tsv or news.tsv, where they are
    not MIND's, where no row has labels, where more rows are rejected than `files` allows (those without labels not
    counted), or where `out` holds anything; then nothing is written.
    """
    splits = _splits(Path(source))
    with atomic_folder(Path(out)) as target, Rejects(target / "rejects") as rejects:
        state = _Import(rejects)
        news = (_news(folder / "news.tsv", files.encoding, state) for _, folder in splits)
        _write(target / "items.parquet", _ITEMS, chain.from_iterable(news))
        behaviors = (_behaviors(folder / "behaviors.tsv", files.encoding, prefix, state) for prefix, folder in splits)
        _write(target / "impressions.parquet", _IMPRESSIONS, chain.from_iterable(behaviors))
        _check_usable(Path(source), state, files)
        if any(user_history.items for user_history in state.histories.values()):
            _write(target / "events.parquet", _EVENTS, _history_events(state))
        return _report(state)


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _splits(source: Path) -> list[tuple[str, Path]]:
    """(prefix, folder) of every pair of files."""
    if (source / "behaviors.tsv").exists():
        splits = [("", source)]
    else:
        inside = sorted(path.parent for path in source.glob("*/behaviors.tsv"))
        splits = [(f"{folder.name}-", folder) for folder in inside]
    if not splits:
        raise InputError(
            f"folder {str(source)!r}: expected MIND's behaviors.tsv and news.tsv, in it or in subfolders such as train "
            "and dev, found no behaviors.tsv"
        )
    for _, folder in splits:
        if not (folder / "news.tsv").exists():
            raise InputError(f"folder {str(folder)!r}: expected news.tsv beside behaviors.tsv, found none")
        for name in ("behaviors.tsv", "news.tsv"):
            if (folder / name).stat().st_size == 0:
                raise InputError(f"file {str(folder / name)!r} is empty; expected MIND's {name}")
    return splits


def _texts(raw: RawBatch, table: str, names: tuple[str, ...], state: _Import, usable: Bool) -> list[pa.Array]:
    """Columns as text; rows with bytes that are no UTF-8 are rejected."""
    state.rows[table] += len(raw.rows) + len(raw.rejects)
    for reject in raw.rejects:
        state.rejects.add(table, reject)
    texts = []
    for name in names:
        cells = read_text(raw.data.column(name))
        for bad, _ in cells.problems:
            state.reject(raw, table, bad, reason_for(raw.source.encoding), name, usable)
        texts.append(cells.values)
    return texts


def _news(file: Path, encoding: str, state: _Import) -> Iterator[pa.RecordBatch]:
    for raw in delimited_batches(Source(file, encoding), _NEWS.names[:5], _NEWS):
        usable = np.ones(len(raw.rows), np.bool_)
        texts = _texts(raw, "news", _NEWS.names[:5], state, usable)
        state.reject(raw, "news", mask_of(texts[0].is_null()), "missing_value", "item_id", usable)
        for index in np.flatnonzero(usable):
            item = texts[0][int(index)].as_py()
            usable[index] = item not in state.described
            state.described.add(item)
        item_id, category, subcategory, title, abstract = (text.filter(pa.array(usable)) for text in texts)
        yield pa.RecordBatch.from_arrays([item_id, title, abstract, category, subcategory], schema=_ITEMS)


def _behaviors(file: Path, encoding: str, prefix: str, state: _Import) -> Iterator[pa.RecordBatch]:
    table, names = "behaviors", _BEHAVIORS.names
    for raw in delimited_batches(Source(file, encoding), names, _BEHAVIORS):
        usable = np.ones(len(raw.rows), np.bool_)
        texts = _texts(raw, table, names, state, usable)
        for name, text in zip(names, texts, strict=True):
            if name in ("impression_id", "time", "impressions"):
                state.reject(raw, table, mask_of(text.is_null()), "missing_value", name, usable)
        time = pc.strptime(texts[2], format=_TIME_FORMAT, unit="us", error_is_null=True)
        state.reject(raw, table, mask_of(time.is_null()), "unreadable_time", "time", usable)
        candidates = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts[4].fill_null("")))
        unlabelled, wrong = _without_labels(candidates)
        state.reject(raw, table, unlabelled, "unlabelled", "impressions", usable)
        state.reject(raw, table, wrong, "bad_label", "impressions", usable)
        keep = pa.array(usable)
        ids, user, history = (texts[column].filter(keep) for column in (0, 1, 3))
        micros = time.filter(keep).cast(pa.int64()).to_numpy(zero_copy_only=False)
        if len(micros):
            _remember(state, user, micros, history)
            yield _rows(state, _prefixed(prefix, ids), user, micros, candidates.filter(keep))


def _without_labels(candidates: pa.Array) -> tuple[Bool, Bool]:
    """Masks of the rows without any label, and of those with a label that is neither 0 nor 1."""
    rows = pc.list_parent_indices(candidates).to_numpy(zero_copy_only=False)
    labelled = mask_of(pc.match_substring_regex(candidates.flatten(), r"^.+-[01]$"))
    good = np.bincount(rows[labelled], minlength=len(candidates))
    total = np.bincount(rows, minlength=len(candidates))
    return good == 0, (good > 0) & (good < total)


def _remember(state: _Import, user: pa.Array, micros: Int64, history: pa.Array) -> None:
    """Keep the first time of the log, and of each user the history of the earliest impression."""
    earliest = int(micros.min())
    state.first = earliest if state.first is None else min(state.first, earliest)
    for name, time, items in zip(user.to_pylist(), micros.tolist(), history.fill_null("").to_pylist(), strict=True):
        if name is None:
            continue
        history_so_far = state.histories.get(name)
        if history_so_far is None:
            state.histories[name] = _History(time, items)
            continue
        history_so_far.differs |= history_so_far.items != items
        if (time, -len(items)) < (history_so_far.time, -len(history_so_far.items)):
            history_so_far.time, history_so_far.items = time, items


def _rows(state: _Import, ids: pa.Array, user: pa.Array, micros: Int64, candidates: pa.Array) -> pa.RecordBatch:
    """One row for each shown item."""
    tokens = candidates.flatten()
    parent = pc.list_parent_indices(candidates)
    item = pc.utf8_slice_codeunits(tokens, 0, -2)
    clicked = pc.ends_with(tokens, "-1").cast(pa.int8())
    state.impressions += len(ids)
    state.candidates += len(tokens)
    state.clicks += pc.sum(clicked).as_py() or 0
    state.item_ids.update(item.unique().to_pylist())
    time = pa.array(micros).cast(_TIME)
    return pa.RecordBatch.from_arrays(
        [ids.take(parent), user.take(parent), time.take(parent), item, clicked], schema=_IMPRESSIONS
    )


def _prefixed(prefix: str, ids: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(prefix, _TEXT), ids, pa.scalar("", _TEXT))


def _check_usable(source: Path, state: _Import, files: FileOptions) -> None:
    if not state.impressions:
        first = state.rejects.first("behaviors")
        got = "none" if first is None else f"only rejected ones, the first in row {first.row}: {first.reason}"
        raise InputError(
            f"folder {str(source)!r}: expected rows with labels such as 'N123-1 N456-0' in behaviors.tsv, found {got}"
        )
    for table in ("news", "behaviors"):
        state.rejects.check_share(table, source, state.rows[table], files)


def _history_events(state: _Import) -> Iterator[pa.RecordBatch]:
    """The histories as events, the last one a second before the log's first impression."""
    users = sorted(state.histories)
    for start in range(0, len(users), _USERS_A_BATCH):
        names = users[start : start + _USERS_A_BATCH]
        items = [state.histories[name].items.split() for name in names]
        lengths = np.array([len(user_items) for user_items in items], np.int64)
        flat = [item for user_items in items for item in user_items]
        ends = np.repeat(np.cumsum(lengths), lengths)
        time = (state.first or 0) - SECOND * (ends - np.arange(len(flat)))
        state.history_events += len(flat)
        state.item_ids.update(flat)
        user = pa.array(names, _TEXT).take(pa.array(np.repeat(np.arange(len(names)), lengths)))
        event_type = pa.repeat(pa.scalar(HISTORY_TYPE, _TEXT), len(flat))
        yield pa.RecordBatch.from_arrays(
            [user, pa.array(flat, _TEXT), pa.array(time).cast(_TIME), event_type], schema=_EVENTS
        )


def _report(state: _Import) -> MindReport:
    return MindReport(
        items=len(state.described),
        undescribed=len(state.item_ids - state.described),
        impressions=state.impressions,
        candidates=state.candidates,
        clicks=state.clicks,
        users=len(state.histories),
        history_events=state.history_events,
        differing_histories=sum(user_history.differs for user_history in state.histories.values()),
        rejected=dict(Counter(state.rejects.by_reason("news")) + Counter(state.rejects.by_reason("behaviors"))),
    )
