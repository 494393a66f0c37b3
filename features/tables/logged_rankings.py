"""Rankings that a server logged, read from the files that `features.tables.logged_columns` describes.

    lists = read_logged(Path("rankings"))

A file that is removed while it is read, since it is too old, counts as one that was not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.arrays import Bool, Float64, Int64, offsets_of, segment_sums
from features.errors import InputError
from features.tables.impressions import ImpressionTable
from features.tables.logged_columns import LOGGED, PATTERN
from features.tables.string_codes import DictionaryColumn, dictionary_encode


@dataclass(frozen=True)
class LoggedLists:
    """The n lists of a log as they were shown, by time; without what `top_k` left out.

    table: its labels are 0. score: (n_rows,). rung, ranker, encoder, propensity: (n,) of each list. cut: (n,) True
    where candidates were left out. own_columns: (n,) True where an item came with columns, or the history with the
    request. repeated: rankings that a later one of the same impression_id replaces.
    """

    table: ImpressionTable
    score: Float64
    rung: DictionaryColumn
    ranker: DictionaryColumn
    encoder: DictionaryColumn
    propensity: Float64
    cut: Bool
    own_columns: Bool
    repeated: int

    def __len__(self) -> int:
        return len(self.table)

    def take(self, chosen: Bool) -> LoggedLists:
        """The lists of a mask, (n,)."""
        return replace(
            self,
            table=self.table.take(chosen),
            score=self.score[np.repeat(chosen, np.diff(self.table.offsets))],
            rung=self.rung[chosen],
            ranker=self.ranker[chosen],
            encoder=self.encoder[chosen],
            propensity=self.propensity[chosen],
            cut=self.cut[chosen],
            own_columns=self.own_columns[chosen],
        )


def logged_tables(folder: Path, columns: Sequence[str], *, features: str = "") -> Iterator[pa.Table]:
    """The files of a log, a folder or one file, in the order of their times. Answers are whole in a file.

    columns: of `LOGGED`, that are read. features: beginning of the names of others that are, "" for none. Raises
    InputError where there is no file, or one that holds something else.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob(PATTERN))
    if not files:
        raise InputError(
            f"folder {str(folder)!r}: expected logged rankings ({PATTERN}), found none; `recsys serve --log-rankings` "
            "writes them"
        )
    for path in files:
        try:
            table = _read(path, columns, features)
        except FileNotFoundError:
            continue
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"file {str(path)!r}: expected logged rankings as Parquet, got something else ({reason}); move it away"
            ) from error
        yield table


def _read(path: Path, columns: Sequence[str], features: str) -> pa.Table:
    with pq.ParquetFile(path) as file:
        found = file.schema_arrow
        wrong = [
            name for name in columns if name not in found.names or found.field(name).type != LOGGED.field(name).type
        ]
        if wrong:
            raise InputError(
                f"file {str(path)!r}: expected the columns of logged rankings, found none, or of another type, for "
                f"{wrong}; move it away"
            )
        further = [name for name in found.names if features and name.startswith(features)]
        return file.read(columns=[*columns, *further])


@dataclass(frozen=True)
class _LoggedRows:
    """Rows of a log by column: texts, times and numbers as arrays."""

    texts: dict[str, DictionaryColumn]
    numbers: dict[str, np.ndarray]

    def take(self, rows: Int64) -> _LoggedRows:
        return _LoggedRows(
            {name: column[rows] for name, column in self.texts.items()},
            {name: values[rows] for name, values in self.numbers.items()},
        )


def read_logged(folder: Path) -> LoggedLists:
    """The lists of a log. Raises InputError where it cannot be used."""
    rows = _rows(folder)
    impression, time, position = rows.texts["impression_id"].codes, rows.numbers["timestamp"], rows.numbers["position"]
    latest = np.full(len(rows.texts["impression_id"].values), np.iinfo(np.int64).min)
    np.maximum.at(latest, impression, time)
    is_latest = time == latest[impression]
    earlier = np.column_stack([impression[~is_latest], time[~is_latest]])
    chosen = np.flatnonzero(is_latest)
    chosen = chosen[np.lexsort((position[chosen], impression[chosen], time[chosen]))]
    again = (np.diff(impression[chosen], prepend=-1) == 0) & (np.diff(position[chosen], prepend=-1) == 0)
    return _lists(rows.take(chosen[~again]), len(np.unique(earlier, axis=0)))


def _rows(folder: Path) -> _LoggedRows:
    chunks: dict[str, list[pa.Array]] = {name: [] for name in LOGGED.names}
    for table in logged_tables(folder, LOGGED.names):
        for name in LOGGED.names:
            column = table.column(name)
            if pa.types.is_string(column.type):  # encoded at once, so that no text of a row stays in memory
                column = column.cast(pa.large_string()).dictionary_encode()
            elif pa.types.is_timestamp(column.type):
                column = column.cast(pa.int64())
            chunks[name] += column.chunks
    texts, numbers = {}, {}
    for field in LOGGED:
        if pa.types.is_string(field.type):
            texts[field.name] = dictionary_encode(chunks[field.name])
        else:
            dtype = np.int64 if pa.types.is_timestamp(field.type) else field.type.to_pandas_dtype()
            arrays = [chunk.to_numpy(zero_copy_only=False) for chunk in chunks[field.name]]
            numbers[field.name] = np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype, copy=False)
    return _LoggedRows(texts, numbers)


def _lists(rows: _LoggedRows, repeated: int) -> LoggedLists:
    """rows: of whole answers, one after the other by time, in order of their positions."""
    impression, shown = rows.texts["impression_id"].codes, rows.numbers["shown"]
    starts = np.flatnonzero(np.diff(impression, prepend=-1) != 0)
    offsets = np.append(starts, len(impression))
    n_shown = segment_sums(shown, offsets)
    first, kept = rows.take(starts), rows.take(np.flatnonzero(shown))
    table = ImpressionTable(
        ids=first.texts["impression_id"],
        user=first.texts["user_id"],
        time=first.numbers["timestamp"],
        sampled=np.zeros(len(starts), np.bool_),
        query=first.texts["query"],
        offsets=offsets_of(n_shown),
        item=kept.texts["item_id"],
        label=np.zeros(len(kept.numbers["position"]), np.int8),
        position=kept.numbers["position"],
        repeats=0,
    )
    own_columns = segment_sums(rows.numbers["described"] | rows.numbers["history_given"], offsets) > 0
    return LoggedLists(
        table,
        kept.numbers["score"],
        first.texts["rung"],
        first.texts["ranker"],
        first.texts["encoder"],
        first.numbers["propensity"],
        n_shown < np.diff(offsets),
        own_columns,
        repeated,
    )
