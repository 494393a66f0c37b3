"""A data frame of candidate rows, in any order, as lists with labels: what the evaluation reads.

Rows of one impression_id form a list; lists are in the order of their first rows. No row is dropped: a value that
cannot be read is an error that names the column and an impression.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from features.arrays import Float64, Int8, Int32, Int64, Strings
from features.errors import InputError
from features.log import Impressions, Requests
from features.tables.observed import clock, doubt_of_time
from features.tables.timestamps import EXPECTED, check_zone, read_times
from recsys.metrics.impression_attributes import hours
from recsys.mlflow_evaluator.settings import COLUMNS, EvaluatorSettings

log = logging.getLogger(__name__)

LARGEST_LABEL = 30


@dataclass(frozen=True)
class CandidateRows:
    """n lists of n_rows candidates.

    order: (n_rows,) which row of the data each row is. users: ids by user code. item_clicks: (n_rows,) and user_clicks:
    (n,), clicks before the list, NaN where unknown. fields: those of the settings whose column the data has.
    slice_columns: columns of n values that slice the lists, as `recsys.evaluation.slices.list_slices` names them.
    """

    order: Int64
    impressions: Impressions
    users: Strings
    item_clicks: Float64
    user_clicks: Float64
    fields: frozenset[str]
    slice_columns: Mapping[str, npt.NDArray[np.generic]]


def read_rows(frame: pd.DataFrame, label: npt.ArrayLike, settings: EvaluatorSettings) -> CandidateRows:
    """The lists in `frame`. label: (n_rows,) graded relevance of its rows.

    Raises InputError where a column is missing, a value cannot be read, the rows of a list contradict each other, or no
    list has anything to measure.
    """
    fields = _fields(frame, settings)
    codes, ids = _impression_codes(frame[settings.impression_id], settings.impression_id)
    order = np.argsort(codes, kind="stable").astype(np.int64)
    offsets = np.searchsorted(codes[order], np.arange(len(ids) + 1)).astype(np.int64)
    first = offsets[:-1]
    columns = {field: frame[getattr(settings, field)].iloc[order] for field in fields}
    for field in fields & {"user_id", "time", "user_clicks", "history_length"}:
        _same_within_lists(columns[field], getattr(settings, field), offsets, ids)
    user, users = _users(columns.get("user_id"), first)
    times, items = _times(columns.get("time"), settings, first), _items(columns, settings, offsets, ids)
    labels, unlogged = _labels(label)[order], np.zeros(len(order), np.int32)
    requests = Requests(user, times, offsets, items)
    impressions = Impressions(requests, ids, np.zeros(len(ids), np.bool_), labels, unlogged)
    _require_both(impressions, settings.impression_id)
    user_clicks = _numbers(columns, "user_clicks", settings, len(order))[first]
    item_clicks = _numbers(columns, "item_clicks", settings, len(order))
    slice_columns = _slice_columns(columns, impressions, settings)
    return CandidateRows(order, impressions, users, item_clicks, user_clicks, fields, slice_columns)


def _fields(frame: pd.DataFrame, settings: EvaluatorSettings) -> frozenset[str]:
    """The fields of `COLUMNS` whose column is there. Raises InputError where one that is needed or named is not."""
    named = [settings.impression_id, *settings.baselines, *(settings.features or ())]
    named += [getattr(settings, field) for field in COLUMNS if field in settings.model_fields_set]
    missing = [name for name in named if name not in frame.columns]
    if missing:
        raise InputError(
            f"column {missing[0]!r} is not in the data, which has {_few(frame.columns)}; every row needs the id of its "
            "list: name columns in evaluator_config, and leave feature_names of mlflow.models.evaluate unset "
            "(evaluator_config 'features' says what the model is given)"
        )
    return frozenset(field for field in COLUMNS if getattr(settings, field) in frame.columns)


def _impression_codes(column: pd.Series, name: str) -> tuple[Int64, Strings]:
    if not len(column):
        raise InputError("expected candidate rows, got none")
    if column.isna().any():
        raise InputError(
            f"column {name!r}: expected the id of a list on every row, {int(column.isna().sum())} are null"
        )
    codes, ids = pd.factorize(column.to_numpy(object))
    return codes.astype(np.int64), np.array([str(impression_id) for impression_id in ids], object)


def _same_within_lists(column: pd.Series, name: str, offsets: Int64, ids: Strings) -> None:
    codes = pd.factorize(column)[0]
    differs = np.flatnonzero(codes != np.repeat(codes[offsets[:-1]], np.diff(offsets)))
    if len(differs):
        number = int(np.searchsorted(offsets, differs[0], side="right")) - 1
        raise InputError(
            f"column {name!r}: expected one value for all rows of a list, impression {ids[number]!r} has more"
        )


def _users(column: pd.Series | None, first: Int64) -> tuple[Int32, Strings]:
    """User codes of the lists, -1 for a null, and sorted ids."""
    if column is None:
        return np.full(len(first), -1, np.int32), np.zeros(0, object)
    values = column.iloc[first]
    named = values.astype("str").where(values.notna(), None)
    codes, users = pd.factorize(named, sort=True)
    return codes.astype(np.int32), np.asarray(users, object)


def _labels(label: npt.ArrayLike) -> Int8:
    try:
        values = np.asarray(label, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the target: expected numbers, 0 for no click, got {np.asarray(label).dtype}") from error
    fits = (values >= 0) & (values <= LARGEST_LABEL) & (values == np.round(values))
    if not fits.all():
        raise InputError(
            f"the target: expected whole numbers from 0, no click, to {LARGEST_LABEL}, got {values[~fits][0]}"
        )
    return values.astype(np.int8)


def _require_both(impressions: Impressions, name: str) -> None:
    """A list is measured by how its clicked rows stand among the others."""
    if not impressions.has_both().any():
        rows, clicked = impressions.requests.n_rows, int((impressions.label > 0).sum())
        raise InputError(
            "the target: expected a list with a clicked row, above 0, and one that is not clicked, found none: "
            f"{clicked:,} of {rows:,} rows are clicked, in {len(impressions):,} lists by column {name!r}"
        )


def _times(column: pd.Series | None, settings: EvaluatorSettings, first: Int64) -> Int64:
    """Microseconds since the epoch of each list, 0 for all where there is no such column."""
    if column is None:
        return np.zeros(len(first), np.int64)
    values = pa.Array.from_pandas(column.iloc[first])
    times = read_times(values, timezone=check_zone(settings.timezone), unit=None, is_event_time=True)
    if times is None or times.values.null_count:
        raise InputError(
            f"column {settings.time!r}: expected a time on every row (a timestamp, {EXPECTED}), "
            f"got {values.type} with {values.null_count if times is None else times.values.null_count} unreadable"
        )
    microseconds: Int64 = np.asarray(times.values.cast(pa.int64()).to_numpy())
    for extreme in {int(microseconds.min()), int(microseconds.max())} if len(microseconds) else ():
        if doubt := doubt_of_time(extreme, clock()):
            log.warning("column %r: %s; is its unit meant?", settings.time, doubt)
    return microseconds


def _items(columns: Mapping[str, pd.Series], settings: EvaluatorSettings, offsets: Int64, ids: Strings) -> Int32:
    """Item codes in sorted ids; without such a column each row is an item of its own."""
    if "item_id" not in columns:
        return np.arange(offsets[-1], dtype=np.int32)
    codes = pd.factorize(columns["item_id"].astype("str"), sort=True)[0].astype(np.int32)
    owner = np.repeat(np.arange(len(ids)), np.diff(offsets))
    repeats = pd.DataFrame({"list": owner, "item": codes}).duplicated()
    if repeats.any():
        row = int(np.flatnonzero(repeats)[0])
        raise InputError(
            f"column {settings.item_id!r}: expected each item once in a list, impression {ids[owner[row]]!r} holds "
            f"{columns['item_id'].iloc[row]!r} more than once"
        )
    return codes


def _numbers(columns: Mapping[str, pd.Series], field: str, settings: EvaluatorSettings, n_rows: int) -> Float64:
    if field not in columns:
        return np.full(n_rows, np.nan)
    return numbers(columns[field], getattr(settings, field))


def numbers(column: pd.Series, name: str) -> Float64:
    """The values of a column as float64, NaN where missing. Raises InputError where they are no numbers."""
    try:
        return column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {name!r}: expected numbers, got {column.dtype}") from error


def _slice_columns(
    columns: Mapping[str, pd.Series], impressions: Impressions, settings: EvaluatorSettings
) -> dict[str, npt.NDArray[np.generic]]:
    requests = impressions.requests
    n, clicked = len(requests), impressions.label > 0
    clicked_list = requests.request_of_row()[clicked]
    sliced: dict[str, npt.NDArray[np.generic]] = {}
    if "history_length" in columns:
        sliced["history_length"] = _numbers(columns, "history_length", settings, 0)[requests.offsets[:-1]]
    if "time" in columns:
        sliced["hour"] = hours(requests.time, settings.timezone)
    if "category" in columns:
        values = columns["category"][clicked].fillna("").astype("str").str.split("|")
        pairs = pd.DataFrame({"list": clicked_list, "value": values.to_numpy(object)}).explode("value")
        named = pairs[pairs["value"] != ""].drop_duplicates().sort_values(["list", "value"])
        joined = named.groupby("list")["value"].agg("|".join)
        sliced["category"] = joined.reindex(range(n), fill_value="").to_numpy(object)
    if "position" in columns:
        position = pd.Series(_numbers(columns, "position", settings, 0)[clicked])
        first = position.where(position > 0).groupby(clicked_list).min()
        sliced["position"] = first.reindex(range(n)).to_numpy(np.float64)
    return sliced


def _few(names: pd.Index, most: int = 12) -> str:
    listed = ", ".join(repr(name) for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
