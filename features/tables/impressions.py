"""The impressions table grouped by impression id; the rows of an id may be anywhere in the input.

An id whose rows name different users or times is rejected whole. An item that repeats in an impression is kept once, at
its first position, with its largest label.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa

from features.arrays import Bool, Int8, Int32, Int64, offsets_of
from features.errors import InputError
from features.tables.rejects import Reject, Rejects
from features.tables.string_codes import DictionaryColumn, SourceRows, dictionary_encode
from features.tables.table_reader import CheckedBatch, TableReader

LONGEST_LIST = 10_000
"""Most candidates of an impression that LightGBM can train on; `recsys.ranker.lightgbm_ranker` samples this many from a
longer one."""
_NUMBERS: dict[str, type[np.generic]] = {
    "timestamp": np.int64,
    "clicked": np.int8,
    "position": np.int32,
    "sampled": np.bool_,
}
"""Columns of a row that are numbers, 0 where there is none."""


@dataclass(frozen=True)
class ImpressionTable:
    """Impressions sorted by (time, first appearance); each column's codes are of its own vocabulary.

    ids, user, time, sampled, query: (n,). offsets: (n + 1,). item, label, position: (n_rows,). repeats: rows left out
    because their impression has the item already.
    """

    ids: DictionaryColumn
    user: DictionaryColumn
    time: Int64
    sampled: Bool
    query: DictionaryColumn
    offsets: Int64
    item: DictionaryColumn
    label: Int8
    position: Int32
    repeats: int

    def __len__(self) -> int:
        return len(self.time)

    def take(self, chosen: Bool) -> ImpressionTable:
        """The impressions of a mask, (n,)."""
        lengths = np.diff(self.offsets)
        rows = np.repeat(chosen, lengths)
        return replace(
            self,
            ids=self.ids[chosen],
            user=self.user[chosen],
            time=self.time[chosen],
            sampled=self.sampled[chosen],
            query=self.query[chosen],
            offsets=offsets_of(lengths[chosen]),
            item=self.item[rows],
            label=self.label[rows],
            position=self.position[rows],
        )


@dataclass(frozen=True)
class _Rows:
    """The impressions table in the order of the input. impression: codes in order of first appearance."""

    impression: DictionaryColumn
    user: DictionaryColumn
    item: DictionaryColumn
    query: DictionaryColumn
    time: Int64
    label: Int8
    position: Int32
    sampled: Bool

    def take(self, rows: Int64 | Bool) -> _Rows:
        return _Rows(*(getattr(self, field.name)[rows] for field in fields(self)))


def empty_impression_table() -> ImpressionTable:
    """The impressions of a data set without an impressions table."""
    return _group_by_impression(_read_rows(())[0])


def read_impression_table(reader: TableReader, rejects: Rejects) -> ImpressionTable:
    """All usable impressions of an impressions table."""
    rows, origins = _read_rows(reader)
    wrong = _conflicting(rows)
    if wrong.any():
        _reject(rows, wrong, origins, rejects)
        if wrong.all():
            raise InputError(
                f"impressions table {str(reader.path)!r}: expected one user and one timestamp for every impression_id, "
                "found none that agrees with itself"
            )
        rows = rows.take(~wrong)
    return _group_by_impression(rows)


def _group_by_impression(rows: _Rows) -> ImpressionTable:
    if np.any(np.diff(rows.impression.codes) < 0) or np.any(np.diff(rows.time) < 0):
        rows = rows.take(np.lexsort((rows.impression.codes, rows.time)))
    n_rows = len(rows.time)
    rows = _without_repeats(rows)
    starts = np.flatnonzero(np.diff(rows.impression.codes, prepend=-1) != 0)
    first = rows.take(starts)
    return ImpressionTable(
        first.impression,
        first.user,
        first.time,
        np.logical_or.reduceat(rows.sampled, starts) if len(starts) else first.sampled,
        first.query,
        np.append(starts, len(rows.time)).astype(np.int64),
        rows.item,
        rows.label,
        rows.position,
        n_rows - len(rows.time),
    )


def _read_rows(batches: Iterable[CheckedBatch]) -> tuple[_Rows, SourceRows]:
    origins = SourceRows()
    texts: dict[str, list[pa.Array]] = {name: [] for name in ("impression_id", "user_id", "item_id", "query")}
    numbers: dict[str, list[np.ndarray]] = {name: [np.zeros(0, dtype)] for name, dtype in _NUMBERS.items()}
    for checked in batches:
        origins.add(checked.file, checked.rows)
        for name, chunks in texts.items():
            chunks.append(checked.data.column(name).dictionary_encode())
        for name, arrays in numbers.items():
            zero = np.zeros((), _NUMBERS[name])
            column = checked.data.column(name).cast(pa.from_numpy_dtype(zero.dtype))
            arrays.append(column.fill_null(zero.item()).to_numpy(zero_copy_only=False))
    impression, user, item, query = (dictionary_encode(chunks) for chunks in texts.values())
    time, label, position, sampled = (np.concatenate(arrays) for arrays in numbers.values())
    return _Rows(impression, user, item, query, time, label, position, sampled), origins


def _conflicting(rows: _Rows) -> Bool:
    """(n,) True for every row of an id whose rows name different users or times."""
    first = np.zeros(len(rows.impression.values), np.int64)
    first[rows.impression.codes[::-1]] = np.arange(len(rows.time))[::-1]
    first_row = first[rows.impression.codes]
    differs = (rows.user.codes != rows.user.codes[first_row]) | (rows.time != rows.time[first_row])
    wrong = np.zeros(len(rows.impression.values), np.bool_)
    wrong[rows.impression.codes[differs]] = True
    return wrong[rows.impression.codes]


def _reject(rows: _Rows, wrong: Bool, origins: SourceRows, rejects: Rejects) -> None:
    for index in np.flatnonzero(wrong):
        file, row = origins.locate(int(index))
        value = rows.impression.values[int(rows.impression.codes[index])].as_py()
        rejects.add("impressions", Reject(file, row, "conflicting_impression", "impression_id", value))


def _without_repeats(rows: _Rows) -> _Rows:
    key = rows.impression.codes.astype(np.int64) * max(1, len(rows.item.values)) + rows.item.codes
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1) != 0)
    if len(starts) == len(key):
        return rows
    label = rows.label.copy()
    label[order[starts]] = np.maximum.reduceat(rows.label[order], starts)
    return replace(rows, label=label).take(np.sort(order[starts]))
