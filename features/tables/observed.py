"""Implausible values of a table: times in the future or long ago, null words as ids, unreadable optional dates.

None of them stops the reading; `Observed.warnings` reports them with counts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrays import Bool, Int64
from features.clock import DAY
from features.tables.schema import ColumnSpec, Schema
from features.tables.string_codes import value_counts

YEAR_1971 = 31_536_000_000_000
YEAR_1980 = 315_532_800_000_000
YEAR_1000 = -30_610_224_000_000_000
"""Microseconds from 1970 to the beginning of each year."""
_NOTHING = ("nan", "null", "none", "na", "n/a", "<na>", "nil", "nat", "undefined", "unknown", "-", "--", "\\n", "#n/a")
_WORDS = frozenset(("", *_NOTHING))
_SHOWN = 4
_USER = "user_id"


def clock() -> int:
    """Now, microseconds since 1970."""
    return time.time_ns() // 1000


def is_nothing(text: str) -> bool:
    """Whether an id is a null word ("nan", "NULL", "-") or blank."""
    return text.strip().lower() in _WORDS


def doubt_of_time(micros: int, now: int) -> str | None:
    """Why the time of an event or a request is implausible, None where it is not: it is more than a day after now, or
    before 1980."""
    if YEAR_1980 <= micros <= now + DAY:
        return None
    return f"{iso(micros)} is {'in the future' if micros > now else 'before 1980'}"


def doubt_of_date(micros: int, value: object, now: int) -> str | None:
    """Why a date, such as one of publication, is implausible, None where it is not. value: the date as it was given."""
    number = isinstance(value, (int, float)) or (isinstance(value, str) and value.strip().isdigit())
    if micros > now + DAY:
        return "is in the future"
    if _is_old(micros, is_event_time=False, numeric=number):
        return "is a date of 1970 or before the year 1000, is its unit meant"
    return None


def _is_old(micros: int | Int64, *, is_event_time: bool, numeric: bool) -> bool | Bool:
    """Whether a time, or each of several, is before any plausible one. numeric: it was a number since 1970."""
    if is_event_time:
        return micros < YEAR_1980
    return (micros < YEAR_1000) | (numeric & (micros >= 0) & (micros < YEAR_1971))


def iso(micros: int) -> str:
    """A time in ISO 8601, to the second."""
    return f"{np.datetime64(micros, 'us').astype('datetime64[s]')}Z"


@dataclass
class _Times:
    """The times of one column: how many, how many implausible ones, and the first and the last."""

    n: int = 0
    old: int = 0
    future: int = 0
    first: int = np.iinfo(np.int64).max
    last: int = np.iinfo(np.int64).min


@dataclass
class _Emptied:
    """Cells of one optional date column that cannot be read: how many, and the first."""

    count: int
    where: str
    value: str | None


@dataclass
class Observed:
    """Collects implausible values in the usable rows of one table. now: microseconds."""

    schema: Schema
    now: int
    rows: int = 0
    emptied: dict[str, _Emptied] = field(default_factory=dict)
    _times: dict[str, _Times] = field(default_factory=dict)
    _nothing: dict[str, Counter[str]] = field(default_factory=dict)
    _without_user: int = 0

    def add(self, data: pa.RecordBatch, numeric: Collection[str]) -> None:
        """Add the next usable rows. numeric: time columns that this file writes as numbers since 1970."""
        self.rows += len(data)
        for column in self.schema.columns:
            array = data.column(column.name)
            if column.kind == "time":
                micros: Int64 = array.drop_null().cast(pa.int64()).to_numpy(zero_copy_only=False)
                self._add_times(column, micros, column.name in numeric)
            elif column.kind == "id":
                words = value_counts(array.filter(pc.is_in(array, value_set=_SPELLINGS)))
                self._nothing.setdefault(column.name, Counter()).update(words)
                if column.name == _USER:
                    self._without_user += array.null_count

    def empty(self, column: ColumnSpec, count: int, where: str, value: str | None) -> None:
        """Add cells of an optional date that cannot be read and count as missing. where, value: of the first."""
        emptied = self.emptied.setdefault(column.field, _Emptied(0, where, value))
        emptied.count += count

    def _add_times(self, column: ColumnSpec, micros: Int64, numeric: bool) -> None:
        if not len(micros):
            return
        times = self._times.setdefault(column.name, _Times())
        old = np.asarray(_is_old(micros, is_event_time=column.is_event_time, numeric=numeric))
        times.n += len(micros)
        times.old += int(old.sum())
        times.future += int((micros > self.now + DAY).sum())
        times.first, times.last = min(times.first, int(micros.min())), max(times.last, int(micros.max()))

    def warnings(self) -> list[str]:
        """A sentence for each implausibility."""
        fields = {column.name: f"{self.schema.table}.{column.field}" for column in self.schema.columns}
        event_times = {column.name for column in self.schema.columns if column.is_event_time}
        sentences = []
        for name, times in self._times.items():
            span = f"{times.n:,} times are"
            if times.old:
                when = "before 1980" if name in event_times else "of 1970 or before the year 1000"
                sentences.append(
                    f"{fields[name]}: {times.old:,} of {span} {when}, the first {iso(times.first)}; are they dates or "
                    "numbers of another unit than epoch s, ms or us?"
                )
            if times.future:
                sentences.append(
                    f"{fields[name]}: {times.future:,} of {span} in the future, the last {iso(times.last)}; is the "
                    "unit, the time zone or a clock wrong?"
                )
        sentences += [
            f"{self.schema.table}.{name}: {emptied.count:,} cells are no date and count as missing, the first in "
            f"{emptied.where}: {emptied.value!r}"
            for name, emptied in self.emptied.items()
        ]
        sentences += [self._sentence(fields[name], words) for name, words in self._nothing.items() if words]
        if self._without_user:
            sentences.append(
                f"{fields[_USER]}: {self._without_user:,} of {self.rows:,} rows "
                f"({_share(self._without_user, self.rows)}) are empty: each of them counts as a user "
                "without history"
            )
        return sentences

    def _sentence(self, name: str, words: Mapping[str, int]) -> str:
        count = sum(words.values())
        most = sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))
        examples = ", ".join(repr(word) for word, _ in most[:_SHOWN]) + (", …" if len(most) > _SHOWN else "")
        entity = "one user" if name.endswith(".user_id") else "one id"
        return (
            f"{name}: {count:,} of {self.rows:,} rows ({_share(count, self.rows)}) hold a word for nothing "
            f"({examples}), which is read as an id: all rows of a word are {entity}; leave such cells empty, or the "
            "rows out"
        )


def _spellings() -> list[str]:
    """The null words as files spell them: in their usual cases, and with a blank before or behind."""
    cases = {case for word in _NOTHING for case in (word, word.upper(), word.capitalize(), word.title())}
    cases |= {"NaN", "NaT", ""}
    return sorted(
        {f"{before}{word}{behind}" for word in cases for before in ("", " ") for behind in ("", " ")} | {"\t"}
    )


_SPELLINGS = pa.array(_spellings(), pa.large_string())


def _share(count: int, rows: int) -> str:
    share = 100 * count / rows
    return f"{share:.1f}%" if share < 10 else f"{share:.0f}%"
